-- additive: tables that versions before do not know

-- Who watches which job, as each process says of its own streams. Unlogged: after a crash nobody
-- watches, until the processes say so again.

create unlogged table jobcast.viewing_processes (
  id uuid not null primary key,
  seen_at timestamptz not null
);

create unlogged table jobcast.viewers (
  process_id uuid not null references jobcast.viewing_processes (id) on delete cascade,
  job_id uuid not null,
  owner_id text not null,
  streams integer not null check (streams > 0),
  primary key (process_id, job_id, owner_id)
);

create index viewers_by_job on jobcast.viewers (job_id);

comment on table jobcast.viewers is 'Streams that are open, by job and by who watches it; see jobcast.viewing_processes.';
comment on column jobcast.viewing_processes.seen_at is 'A process that has said nothing for a while has gone, and its viewers with it.';

create trigger _050_refuse_strangers before insert or update or delete on jobcast.viewers
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _060_refuse_truncate before truncate on jobcast.viewers
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.viewing_processes
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _060_refuse_truncate before truncate on jobcast.viewing_processes
  for each statement execute function jobcast.tg__refuse_truncate();
