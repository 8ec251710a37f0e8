-- Events of the producer's own: each is a version of its job, so that they have their place among the
-- others, and are told once, in order and to who was away, as those are.

alter table jobcast.jobs
  add column events integer not null default 0,
  add column event_name text,
  add column event_data jsonb,
  add constraint events_bounded check (events between 0 and 1000) not valid,
  add constraint event_name_is_free check (
    event_name ~ '^[A-Za-z][A-Za-z0-9_.:-]{0,63}$' and lower(event_name) not in (
      'status', 'batch', 'reset', 'deleted', 'ready', 'ping', 'close', 'message', 'open', 'error'
    )
  ) not valid,
  add constraint event_has_a_name check (event_name is not null or event_data is null) not valid,
  add constraint event_data_size check (octet_length(event_data::text) <= 65536) not valid;

comment on column jobcast.jobs.events is 'How many events of their own its producers have told; written by jobcast.emit.';
comment on column jobcast.jobs.event_name is 'Of the newest version, if it is such an event.';

alter table jobcast.status_history
  add column event_name text,
  add column event_data jsonb;

comment on column jobcast.status_history.event_name is
  'Of a version that is an event of the producer''s own: what is told instead of the state, which it has too.';

create or replace function jobcast.tg_jobs__on_update() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_retry constant boolean := new.attempt is distinct from old.attempt;
  v_same jobcast.jobs;
begin
  new.status := jobcast.spelled(new.status);
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
  -- One event at a time, and none but with a count of its own.
  if new.events is distinct from old.events + 1 then
    new.events := old.events;
    new.event_name := old.event_name;
    new.event_data := old.event_data;
  elsif jobcast.is_final(old.status) then
    raise exception 'job % is %: it has no more events', old.id, old.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
  end if;

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
    new.cost := null;
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
    new.cost := old.cost;
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

  if v_retry or new.events > old.events or (new.status, new.progress, new.stage, new.message, new.counts, new.result, new.error)
    is distinct from (old.status, old.progress, old.stage, old.message, old.counts, old.result, old.error) then
    new.version := old.version + 1;
    new.updated_at := v_now;
    new.bytes := jobcast.bytes_of(new.stage, new.message, new.counts, new.result, new.error);
    if new.events = old.events then
      new.event_name := null;
      new.event_data := null;
    else
      perform jobcast.assert_limits('the data of an event', octet_length(new.event_data::text), new.event_data);
    end if;
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

create or replace function jobcast.tg_jobs__append_history() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if tg_op = 'INSERT' then
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error, bytes,
      estimated_seconds_remaining, source
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error, a.bytes,
      null, jobcast.source()
    from after a;
  else
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error, bytes,
      estimated_seconds_remaining, source, event_name, event_data
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error,
      a.bytes + case when a.events > b.events then coalesce(octet_length(a.event_data::text), 0) else 0 end,
      jobcast.estimate(a.status, a.progress, a.started_at, a.updated_at), jobcast.source(),
      case when a.events > b.events then a.event_name end,
      case when a.events > b.events then a.event_data end
    from after a
    join before b on b.id = a.id
    where a.version <> b.version;
  end if;
  return null;
end
$$;

create or replace function jobcast.tg_jobs__note_batch_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if tg_op = 'INSERT' then
    if not exists (select from after where batch_id is not null) then
      return null;
    end if;
    insert into jobcast.batch_changes as c (batch_id, total, completed, failed, cancelled, started, progress_sum)
    select a.batch_id, count(*),
      count(*) filter (where a.status = 'completed'),
      count(*) filter (where a.status in ('failed', 'cancelled', 'timeout')),
      count(*) filter (where a.status = 'cancelled'),
      count(*) filter (where jobcast.status_rank(a.status) >= 2),
      sum(jobcast.effective_progress(a.status, a.progress))
    from after a
    where a.batch_id is not null
    group by a.batch_id
    on conflict (xid, batch_id) do update set
      total = c.total + excluded.total,
      completed = c.completed + excluded.completed,
      failed = c.failed + excluded.failed,
      cancelled = c.cancelled + excluded.cancelled,
      started = c.started + excluded.started,
      progress_sum = c.progress_sum + excluded.progress_sum;
    return null;
  end if;

  if not exists (select from after where batch_id is not null) then
    return null;
  end if;
  -- An event of the producer's own changes nothing that a batch counts.
  insert into jobcast.batch_changes as c (batch_id, total, completed, failed, cancelled, started, progress_sum)
  select a.batch_id, 0,
    sum((a.status = 'completed')::int - (b.status = 'completed')::int),
    sum((a.status in ('failed', 'cancelled', 'timeout'))::int - (b.status in ('failed', 'cancelled', 'timeout'))::int),
    sum((a.status = 'cancelled')::int - (b.status = 'cancelled')::int),
    sum((jobcast.status_rank(a.status) >= 2)::int - (jobcast.status_rank(b.status) >= 2)::int),
    sum(jobcast.effective_progress(a.status, a.progress) - jobcast.effective_progress(b.status, b.progress))
  from after a
  join before b on b.id = a.id
  where a.batch_id is not null and a.version <> b.version and a.events = b.events
  group by a.batch_id
  on conflict (xid, batch_id) do update set
    completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed,
    cancelled = c.cancelled + excluded.cancelled,
    started = c.started + excluded.started,
    progress_sum = c.progress_sum + excluded.progress_sum;
  return null;
end
$$;

create function jobcast.emit(
  id uuid,
  name text,
  data jsonb default null,
  attempt integer default null,
  source text default null
) returns jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_job jobcast.jobs;
  v_written boolean;
begin
  if emit.name is null then
    raise exception 'an event has a name' using errcode = '22004';
  end if;
  perform set_config('jobcast.source', coalesce(emit.source, v_source, ''), true);
  update jobcast.jobs j
  set events = j.events + 1, event_name = emit.name, event_data = emit.data
  where j.id = emit.id and j.attempt = coalesce(emit.attempt, j.attempt)
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if v_written then
    return v_job;
  end if;
  select j.* into v_job from jobcast.jobs j where j.id = emit.id;
  if not found then
    raise exception 'no job %', emit.id using errcode = 'JC002';
  end if;
  raise exception 'job % is in attempt %, not %', emit.id, v_job.attempt, emit.attempt
    using errcode = 'JC003',
      detail = jsonb_build_object('attempt', v_job.attempt, 'status', v_job.status)::text;
end
$$;

comment on function jobcast.emit(uuid, text, jsonb, integer, text) is
  'An event of the producer''s own, such as a line of a log or a preview, in its place among the versions of the job: at most 1,000 a job, each of 64 KiB.';
