-- What has ended is removed after a while, if the service is told so: in small steps, by whichever
-- process is at it.

create table jobcast.retention (
  kind text primary key,
  position_at timestamptz not null default '-infinity',
  position_id uuid not null default '00000000-0000-0000-0000-000000000000',
  removed bigint not null default 0,
  swept_at timestamptz
);

insert into jobcast.retention (kind) values
  ('completed'), ('failed'), ('cancelled'), ('timeout'),
  ('steps of completed'), ('steps of failed'), ('steps of cancelled'), ('steps of timeout'),
  ('deliveries'), ('keys'), ('deletions');

comment on table jobcast.retention is
  'What was removed so far, and who is at it: a process that works on a kind has its row locked.';
comment on column jobcast.retention.position_at is
  'Of steps: the end of the last job that was looked at, which is then not looked at again.';

create trigger _050_refuse_strangers before insert or update or delete on jobcast.retention
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _060_refuse_truncate before truncate on jobcast.retention
  for each statement execute function jobcast.tg__refuse_truncate();

create index jobs_by_end on jobcast.jobs (status, finished_at, id) where finished_at is not null;
create index jobs_by_key on jobcast.jobs (created_at) where idempotency_key is not null;
create index batches_by_key on jobcast.batches (created_at) where idempotency_key is not null;
create index webhook_deliveries_by_time on jobcast.webhook_deliveries (received_at);

create or replace function jobcast.tg_jobs__on_update() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_retry constant boolean := new.attempt is distinct from old.attempt;
  v_same jobcast.jobs;
begin
  if (new.id, new.owner_id, new.batch_id, new.credits)
    is distinct from (old.id, old.owner_id, old.batch_id, old.credits) then
    raise exception 'id, owner, batch and credits of job % never change', old.id using errcode = 'JC005';
  end if;

  -- These belong to the rules, whatever the writer says.
  new.version := old.version;
  new.created_at := old.created_at;
  new.updated_at := old.updated_at;
  new.started_at := old.started_at;
  new.finished_at := old.finished_at;
  new.bytes := old.bytes;

  if v_retry then
    if old.status not in ('failed', 'cancelled', 'timeout')
      or new.status <> 'pending' or new.attempt is distinct from old.attempt + 1 then
      raise exception 'job % is %: only a failed, cancelled or timed out job can be retried, as pending with attempt + 1',
        old.id, old.status
        using errcode = 'JC001',
          detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
    end if;
    new.progress := 0;
    new.stage := null;
    new.message := case when new.message is distinct from old.message then new.message end;
    new.counts := null;
    new.result := null;
    new.error := null;
    new.started_at := null;
    new.finished_at := null;
    new.timeout_at := v_now + make_interval(secs => new.timeout_seconds);
  elsif new.status <> old.status
    and (jobcast.is_final(old.status) or jobcast.status_rank(new.status) < jobcast.status_rank(old.status)) then
    raise exception 'job % is %: it cannot become %', old.id, old.status, new.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
  elsif new.status = old.status
    and (jobcast.is_final(old.status) or new.progress < old.progress) then
    -- The same end said again, or a report that was overtaken: it changes nothing.
    new.progress := old.progress;
    new.stage := old.stage;
    new.message := old.message;
    new.counts := old.counts;
    new.result := old.result;
    new.error := old.error;
  else
    new.progress := greatest(old.progress, new.progress);
    if new.progress > old.progress and new.status in ('pending', 'queued') then
      new.status := 'processing';
    end if;
    if new.status = 'completed' then
      new.progress := 100;
      new.error := null;
    end if;
    if old.started_at is null and new.status in ('processing', 'completed') then
      new.started_at := v_now;
    end if;
    if jobcast.is_final(new.status) then
      new.finished_at := v_now;
    end if;
  end if;

  if new.timeout_extends and new.timeout_seconds is not null and not jobcast.is_final(new.status) then
    new.timeout_at := v_now + make_interval(secs => new.timeout_seconds);
  end if;
  if new.timeout_at is distinct from old.timeout_at then
    if new.timeout_at = 'infinity' then
      new.timeout_at := null; -- never
    elsif new.timeout_at is not null then
      perform jobcast.assert_date('timeout_at', new.timeout_at);
    end if;
  end if;

  if v_retry or (new.status, new.progress, new.stage, new.message, new.counts, new.result, new.error)
    is distinct from (old.status, old.progress, old.stage, old.message, old.counts, old.result, old.error) then
    new.version := old.version + 1;
    new.updated_at := v_now;
    new.bytes := jobcast.bytes_of(new.stage, new.message, new.counts, new.result, new.error);
    -- A value that is there already is no reason to refuse the end of its job, nor anything else
    -- that is said of it: of a row that was too large before it was counted what is new counts.
    if new.bytes > 128 and (new.stage, new.message, new.result, new.error)
      is distinct from (old.stage, old.message, old.result, old.error) then
      perform jobcast.assert_limits(
        'stage, message, counts, result and error',
        case
          when new.bytes > jobcast.max_bytes() and jobcast.max_bytes()
            < jobcast.bytes_of(old.stage, old.message, old.counts, old.result, old.error)
          then jobcast.bytes_of(
            nullif(new.stage, old.stage), nullif(new.message, old.message), nullif(new.counts, old.counts),
            nullif(new.result, old.result), nullif(new.error, old.error)
          )
          else new.bytes
        end,
        nullif(new.result, old.result)
      );
    end if;
    return new;
  end if;
  if new is distinct from old then
    -- That a key has expired is no news of the job.
    v_same := old;
    v_same.idempotency_key := new.idempotency_key;
    v_same.request_hash := new.request_hash;
    if new is distinct from v_same then
      new.updated_at := v_now;
    end if;
    return new;
  end if;
  return null; -- nothing changed: no write, no version, no bell
end
$$;

create function jobcast.prune(
  kind text, age interval, most integer default 500, out removed bigint, out has_more boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_before constant timestamptz := statement_timestamp() - prune.age;
  v_state jobcast.retention;
  v_seen bigint;
  v_batches uuid[];
begin
  if not exists (select from jobcast.retention r where r.kind = prune.kind) then
    raise exception '% is nothing that is removed', prune.kind using errcode = '22023';
  end if;
  -- Whoever has the row is at it, and one is enough.
  select * into v_state from jobcast.retention r where r.kind = prune.kind for update skip locked;
  if not found then
    removed := 0;
    has_more := false;
    return;
  end if;

  if prune.kind in ('completed', 'failed', 'cancelled', 'timeout') then
    with doomed as (
      select j.id from jobcast.jobs j
      where j.status = prune.kind and j.finished_at < v_before
      order by j.finished_at, j.id
      limit prune.most
      for update skip locked
    ), gone as (
      delete from jobcast.jobs j using doomed d where j.id = d.id returning j.batch_id
    )
    select count(*), array_agg(distinct g.batch_id) filter (where g.batch_id is not null)
      into removed, v_batches
      from gone g;
    v_seen := removed;
    -- A statement of its own: this one sees that the jobs are gone.
    delete from jobcast.batches b
      where b.id = any (v_batches) and not exists (select from jobcast.jobs j where j.batch_id = b.id);
  elsif prune.kind like 'steps of %' then
    with walked as (
      select j.id, j.version, j.finished_at from jobcast.jobs j
      where j.status = substr(prune.kind, 10) and j.finished_at < v_before
        and (j.finished_at, j.id) > (v_state.position_at, v_state.position_id)
      order by j.finished_at, j.id
      limit prune.most
    ), gone as (
      -- What stays is how each attempt came into each status, and the newest version.
      delete from jobcast.status_history h
      using walked w
      where h.job_id = w.id and h.version < w.version and exists (
        select from jobcast.status_history p
        where p.job_id = h.job_id and p.version = h.version - 1
          and p.attempt = h.attempt and p.status = h.status
      )
      returning 1
    ), newest as (
      select w.finished_at, w.id from walked w order by w.finished_at desc, w.id desc limit 1
    )
    select (select count(*) from gone), (select count(*) from walked),
        coalesce(n.finished_at, v_state.position_at), coalesce(n.id, v_state.position_id)
      into removed, v_seen, v_state.position_at, v_state.position_id
      from (values (1)) one left join newest n on true;
  elsif prune.kind = 'deliveries' then
    delete from jobcast.webhook_deliveries d
      where (d.job_id, d.webhook_id) in (
        select o.job_id, o.webhook_id from jobcast.webhook_deliveries o
        where o.received_at < v_before
        order by o.received_at
        limit prune.most
      );
    get diagnostics removed = row_count;
    v_seen := removed;
  elsif prune.kind = 'keys' then
    update jobcast.jobs j set idempotency_key = null, request_hash = null
      where j.id in (
        select o.id from jobcast.jobs o
        where o.idempotency_key is not null and o.created_at < v_before
        order by o.created_at
        limit prune.most
        for update skip locked
      );
    get diagnostics removed = row_count;
    update jobcast.batches b set idempotency_key = null, request_hash = null
      where b.id in (
        select o.id from jobcast.batches o
        where o.idempotency_key is not null and o.created_at < v_before
        order by o.created_at
        limit prune.most
        for update skip locked
      );
    get diagnostics v_seen = row_count;
    removed := removed + v_seen;
    v_seen := removed;
  elsif prune.kind = 'deletions' then
    delete from jobcast.deletions d
      where (d.xid, d.job_id) in (
        select o.xid, o.job_id from jobcast.deletions o
        where o.occurred_at < v_before
        order by o.occurred_at
        limit prune.most
      );
    get diagnostics removed = row_count;
    v_seen := removed;
  end if;

  has_more := v_seen >= prune.most;
  update jobcast.retention r
    set removed = r.removed + prune.removed, swept_at = clock_timestamp(),
      position_at = v_state.position_at, position_id = v_state.position_id
    where r.kind = v_state.kind;
end
$$;

revoke execute on function jobcast.prune(text, interval, integer) from public;

comment on function jobcast.prune(text, interval, integer) is
  'Removes up to so many of a kind that are older: for the service, and for whoever owns the schema.';
