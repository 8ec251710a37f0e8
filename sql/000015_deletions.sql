-- That a job was deleted is told to whoever watches it. Its history went with it, so this is where the
-- feed reads it; it is kept for as long as somebody who was away may ask for it.

create table jobcast.deletions (
  job_id uuid not null,
  version bigint not null,
  status text not null,
  owner_id text not null,
  batch_id uuid,
  xid xid8 not null default pg_current_xact_id(),
  occurred_at timestamptz not null default clock_timestamp(),
  primary key (xid, job_id)
);

comment on table jobcast.deletions is 'Append-only: one row for each job that was deleted, and removed after a while.';
comment on column jobcast.deletions.version is 'The one after the last that the job had.';
comment on column jobcast.deletions.status is 'The last that the job had.';

create index deletions_by_time on jobcast.deletions (occurred_at);

create function jobcast.tg_jobs__note_deletions() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  -- A job may be made again under its old id, and be deleted again.
  insert into jobcast.deletions as d (job_id, version, status, owner_id, batch_id)
  select b.id, b.version + 1, b.status, b.owner_id, b.batch_id
  from before b
  on conflict (xid, job_id) do update set version = greatest(d.version, excluded.version);
  return null;
end
$$;

revoke execute on function jobcast.tg_jobs__note_deletions() from public;

create trigger _500_note_deletions after delete on jobcast.jobs
  referencing old table as before
  for each statement execute function jobcast.tg_jobs__note_deletions();

create trigger _050_refuse_strangers before update or delete on jobcast.deletions
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _060_refuse_truncate before truncate on jobcast.deletions
  for each statement execute function jobcast.tg__refuse_truncate();

-- It asks who writes, and rings, for whatever table it is on.
alter function jobcast.tg_status_history__ring() rename to tg__ring;

create trigger _900_ring after insert on jobcast.deletions
  referencing new table as inserted
  for each statement execute function jobcast.tg__ring();
