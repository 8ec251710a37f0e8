-- The one door for writes: what may follow what, versions, timestamps, history, the doorbell.
-- Errors carry a stable SQLSTATE: JC001 conflict of states, JC002 no such job,
-- JC003 another attempt is running, JC004 too few credits, JC005 something that never changes,
-- JC006 an idempotency key that was used for another request.

-- Security definer: it looks up the type's defaults.
create function jobcast.tg_jobs__on_insert() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  new.version := 1;
  new.attempt := 1;
  new.updated_at := new.created_at;
  new.started_at := case when new.status = 'processing' then new.created_at end;
  new.finished_at := case when jobcast.is_final(new.status) then new.created_at end;
  if new.status = 'completed' then
    new.progress := 100;
  end if;
  if new.timeout_seconds is null and new.timeout_at is null then
    select t.timeout_seconds, t.timeout_extends or new.timeout_extends
      into new.timeout_seconds, new.timeout_extends
      from jobcast.job_types t where t.type = new.type;
    new.timeout_extends := coalesce(new.timeout_extends, false);
  end if;
  if new.timeout_at is null and new.timeout_seconds is not null then
    new.timeout_at := new.created_at + make_interval(secs => new.timeout_seconds);
  end if;
  return new;
end
$$;

create function jobcast.tg_jobs__on_update() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_retry constant boolean := new.attempt is distinct from old.attempt;
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

  if v_retry or (new.status, new.progress, new.stage, new.message, new.counts, new.result, new.error)
    is distinct from (old.status, old.progress, old.stage, old.message, old.counts, old.result, old.error) then
    new.version := old.version + 1;
    new.updated_at := v_now;
    return new;
  end if;
  if new is distinct from old then
    new.updated_at := v_now;
    return new;
  end if;
  return null; -- nothing changed: no write, no version, no bell
end
$$;

comment on function jobcast.tg_jobs__on_update() is
  'Legal transitions, monotonic progress, versions and timestamps. An update that changes nothing reports UPDATE 0.';

create function jobcast.tg_jobs__on_delete() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Its credits would stay charged, its batch would wait for it for ever, and its viewers too.
  if not jobcast.is_final(old.status) then
    raise exception 'job % is %: end it before you delete it', old.id, old.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
  end if;
  return old;
end
$$;

-- Security definer: a role that may only update jobs need not be able to write history.
create function jobcast.tg_jobs__append_history() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error,
      estimated_seconds_remaining, source
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error,
      null, jobcast.source()
    from after a;
  else
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error,
      estimated_seconds_remaining, source
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error,
      jobcast.estimate(a.status, a.progress, a.started_at, a.updated_at), jobcast.source()
    from after a
    join before b on b.id = a.id
    where a.version <> b.version;
  end if;
  return null;
end
$$;

create function jobcast.source() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(nullif(current_setting('jobcast.source', true), ''), 'sql')
$$;

comment on function jobcast.source() is
  'Who writes: the setting jobcast.source of this transaction (api, callback, sweeper, ...), else sql.';

create function jobcast.estimate(
  status text, progress double precision, started_at timestamptz, at timestamptz
) returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- Below one percent or one second the quotient says more about rounding than about the job.
  select case
    when estimate.status = 'processing'
      and estimate.progress >= 1 and estimate.progress < 100
      and estimate.at - estimate.started_at >= interval '1 second'
    then least(
      round(extract(epoch from estimate.at - estimate.started_at)
        * (100 - estimate.progress::numeric) / estimate.progress::numeric),
      2147483647
    )::integer
  end
$$;

create function jobcast.bell_lock() returns bigint
language sql immutable parallel safe
as $$
  select x'6a6f6263617374'::bigint -- "jobcast" in ASCII
$$;

comment on function jobcast.bell_lock() is
  'The advisory lock that every sleeping listener holds in shared mode; writers ring only while somebody sleeps.';

create function jobcast.tg_status_history__ring() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from inserted) then
    return null;
  end if;
  -- A commit with a notification takes a lock for the whole cluster and holds it across the
  -- WAL flush, so ring only when a listener waits for the bell. The exclusive try succeeds only
  -- when none does. Two writers who collide here ring once too often, which is harmless. Taken
  -- and given back in one expression: a statement cancelled in between would keep the lock for
  -- as long as its session lives.
  if not (
    pg_try_advisory_lock(jobcast.bell_lock()) and pg_advisory_unlock(jobcast.bell_lock())
  ) then
    perform pg_notify('jobcast', '');
  end if;
  return null;
end
$$;

-- Triggers of one kind fire in the order of their names.
create trigger _100_on_insert before insert on jobcast.jobs
  for each row execute function jobcast.tg_jobs__on_insert();
create trigger _100_on_update before update on jobcast.jobs
  for each row execute function jobcast.tg_jobs__on_update();
create trigger _100_on_delete before delete on jobcast.jobs
  for each row execute function jobcast.tg_jobs__on_delete();
create trigger _500_append_history_on_insert after insert on jobcast.jobs
  referencing new table as after
  for each statement execute function jobcast.tg_jobs__append_history();
create trigger _500_append_history_on_update after update on jobcast.jobs
  referencing old table as before new table as after
  for each statement execute function jobcast.tg_jobs__append_history();
create trigger _900_ring after insert on jobcast.status_history
  referencing new table as inserted
  for each statement execute function jobcast.tg_status_history__ring();
