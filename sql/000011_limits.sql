-- What a row may hold, for every writer, so that no reader has to fear one: size, depth, dates.
-- What was there before stays: a value is looked at when it is written, and not again with every
-- change of something else. 54000: too large. 23514: nested too deeply. 22008: a date out of range.

alter table jobcast.jobs add column bytes integer;
alter table jobcast.status_history add column bytes integer;

comment on column jobcast.jobs.bytes is
  'Of stage, message, counts, result and error as text; null where nothing was written since it is counted.';
comment on column jobcast.status_history.bytes is
  'Of stage, message, counts, result and error as text, so that readers can stop in time; null in old rows.';

create function jobcast.max_bytes() returns integer
language sql immutable parallel safe
as $$
  select 2097152
$$;

comment on function jobcast.max_bytes() is
  'Of title, params and metadata together, and of stage, message, counts, result and error together, as text.';

create function jobcast.is_too_deep(value jsonb) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- Objects and arrays in 64 others: readers of JSON recurse, and some of them overflow.
  select jsonb_path_exists(value, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")')
$$;

-- Not one expression: where the value is known while a statement is planned, all of it would be
-- computed then, the text of it too.
create function jobcast.json_bytes(value jsonb) returns integer
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_raw integer;
begin
  if pg_column_size(value) > 65536 then
    -- What is stored in a few bytes may be a gigabyte as text. Of what is so large that its text must
    -- be too, the text is never made: PostgreSQL's own form is at most eight times as large.
    v_raw := pg_column_size(jsonb_build_array(value));
    if v_raw > 16777216 then
      return v_raw;
    end if;
  end if;
  return octet_length(value::text);
end
$$;

comment on function jobcast.json_bytes(jsonb) is
  'Of the value as text; for more than 16 MiB, as PostgreSQL keeps it, what that takes.';

create function jobcast.bytes_of(stage text, message text, counts jsonb, result jsonb, error jsonb)
returns integer
language sql immutable parallel safe
as $$
  select coalesce(octet_length(stage), 0) + coalesce(octet_length(message), 0)
    + coalesce(jobcast.json_bytes(counts), 0) + coalesce(jobcast.json_bytes(result), 0)
    + coalesce(jobcast.json_bytes(error), 0)
$$;

create function jobcast.assert_limits(what text, bytes integer, value jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if assert_limits.bytes > jobcast.max_bytes() then
    raise exception '% of a job are % bytes, of at most %', what, assert_limits.bytes, jobcast.max_bytes()
      using errcode = '54000';
  elsif assert_limits.bytes > 128 and jobcast.is_too_deep(value) then
    raise exception '% of a job are nested more than 64 levels deep', what
      using errcode = '23514', constraint = 'depth_of_json', schema = 'jobcast', table = 'jobs';
  end if;
end
$$;

create function jobcast.assert_date(what text, at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if at < '0001-01-01 00:00:00+00' or at >= '10000-01-01 00:00:00+00' then
    raise exception '% of a job is %: years have four digits', what, at using errcode = '22008';
  end if;
end
$$;

create or replace function jobcast.source() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(nullif(left(current_setting('jobcast.source', true), 255), ''), 'sql')
$$;

create or replace function jobcast.estimate(
  status text, progress double precision, started_at timestamptz, at timestamptz
) returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- Below one percent or one second the quotient says more about rounding than about the job.
  select case
    when estimate.status = 'processing' and estimate.progress >= 1 and estimate.progress < 100
      and isfinite(estimate.started_at)
    then case
      when estimate.at - estimate.started_at >= interval '1 second'
      then least(
        round(extract(epoch from estimate.at - estimate.started_at)
          * (100 - estimate.progress::numeric) / estimate.progress::numeric),
        2147483647
      )::integer
    end
  end
$$;

-- Security definer: it looks up the type's defaults.
create or replace function jobcast.tg_jobs__on_insert() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
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
  perform jobcast.assert_date('created_at', new.created_at);
  if new.timeout_at is null and new.timeout_seconds is not null then
    new.timeout_at := new.created_at + make_interval(secs => new.timeout_seconds);
  end if;
  if new.timeout_at = 'infinity' then
    new.timeout_at := null; -- never
  elsif new.timeout_at is not null then
    perform jobcast.assert_date('timeout_at', new.timeout_at);
  end if;
  new.bytes := jobcast.bytes_of(new.stage, new.message, new.counts, new.result, new.error);
  perform jobcast.assert_limits('stage, message, counts, result and error', new.bytes, new.result);
  return new;
end
$$;

create or replace function jobcast.tg_jobs__on_update() returns trigger
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
    new.updated_at := v_now;
    return new;
  end if;
  return null; -- nothing changed: no write, no version, no bell
end
$$;

create function jobcast.tg_jobs__assert_limits() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_title constant integer := coalesce(octet_length(new.title), 0);
  v_params constant integer := coalesce(jobcast.json_bytes(new.params), 0);
  v_metadata constant integer := coalesce(jobcast.json_bytes(new.metadata), 0);
begin
  perform jobcast.assert_limits('title, params and metadata', v_title + v_params + v_metadata, new.params);
  perform jobcast.assert_limits('title, params and metadata', v_metadata, new.metadata);
  return new;
end
$$;

-- Not with every update: params of a megabyte would be read again with every percent.
create trigger _200_assert_limits before insert or update of title, params, metadata on jobcast.jobs
  for each row execute function jobcast.tg_jobs__assert_limits();

-- Security definer: a role that may only update jobs need not be able to write history.
create or replace function jobcast.tg_jobs__append_history() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
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
      estimated_seconds_remaining, source
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error, a.bytes,
      jobcast.estimate(a.status, a.progress, a.started_at, a.updated_at), jobcast.source()
    from after a
    join before b on b.id = a.id
    where a.version <> b.version;
  end if;
  return null;
end
$$;

create function jobcast.tg_batches__assert_limits() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(new.title) > 1048576 then
    raise exception 'the title of a batch is % bytes, of at most 1048576', octet_length(new.title)
      using errcode = '54000';
  end if;
  return new;
end
$$;

create trigger _200_assert_limits before insert or update of title on jobcast.batches
  for each row execute function jobcast.tg_batches__assert_limits();

-- The ledger is append-only, so what was there before is never looked at again.
alter table jobcast.credit_transactions
  add constraint reason_size check (octet_length(reason) <= 4096) not valid;

create or replace function jobcast.expire_jobs(most integer default 1000) returns setof jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_overdue uuid[];
  v_expired jobcast.jobs[];
  v_id uuid;
begin
  v_overdue := array(
    -- Locked jobs are being ended or reported on by somebody else right now. The time of the
    -- statement is one value, which an index can be searched for; the clock's is not.
    select j.id from jobcast.jobs j
    where j.timeout_at <= statement_timestamp() and j.status in ('pending', 'queued', 'processing')
    order by j.timeout_at
    limit expire_jobs.most
    for update skip locked
  );
  if cardinality(v_overdue) = 0 then
    return;
  end if;
  perform set_config('jobcast.source', 'sweeper', true);
  begin
    v_expired := jobcast.expire(v_overdue);
  exception when others then
    -- One that cannot be ended is no reason to let the others wait.
    v_expired := '{}';
    foreach v_id in array v_overdue loop
      begin
        v_expired := v_expired || jobcast.expire(array[v_id]);
      exception when others then
        raise warning 'job % is overdue and cannot be ended: %', v_id, sqlerrm;
      end;
    end loop;
  end;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return query select e.* from unnest(v_expired) e;
end
$$;

create function jobcast.expire(ids uuid[]) returns jobcast.jobs[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_expired jobcast.jobs[];
begin
  with expired as (
    update jobcast.jobs j
    set status = 'timeout',
      error = jsonb_build_object('code', 'timeout', 'message', coalesce(
        'The job was not done by ' || to_char(j.timeout_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '.',
        'The job was not done in time.' -- a deadline of long ago may be none that can be written
      ))
    where j.id = any (ids)
    returning j.*
  )
  select coalesce(array_agg(e::jobcast.jobs), '{}') into v_expired from expired e;
  return v_expired;
end
$$;
