-- What a producer calls: the same rules as a plain update, with an answer for every case.
-- Every function returns the job as it stands afterwards.

create function jobcast.create_job(
  owner_id text,
  type text,
  title text default null,
  params jsonb default null,
  metadata jsonb default null,
  batch_id uuid default null,
  timeout_seconds integer default null,
  timeout_extends boolean default false,
  credits integer default 0,
  idempotency_key text default null,
  request_hash bytea default null,
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
  perform set_config('jobcast.source', coalesce(create_job.source, v_source, ''), true);
  insert into jobcast.jobs as j (
    owner_id, type, title, params, metadata, batch_id, timeout_seconds, timeout_extends, credits,
    idempotency_key, request_hash
  )
  values (
    create_job.owner_id, create_job.type, create_job.title, create_job.params, create_job.metadata,
    create_job.batch_id, create_job.timeout_seconds, create_job.timeout_extends, create_job.credits,
    create_job.idempotency_key, create_job.request_hash
  )
  -- Of equal requests that come at once the others wait here for the first one's commit.
  on conflict on constraint jobs_idempotency_key do nothing
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if v_written then
    return v_job;
  end if;

  select j.* into v_job from jobcast.jobs j
    where j.owner_id = create_job.owner_id and j.idempotency_key = create_job.idempotency_key;
  if v_job.request_hash is distinct from create_job.request_hash then
    raise exception 'the idempotency key % was used for another request', create_job.idempotency_key
      using errcode = 'JC006';
  end if;
  return v_job;
end
$$;

comment on function jobcast.create_job is
  'Creates a job and charges its credits. Said again with the same idempotency key, it gives back the first one.';

create function jobcast.update_jobs(patches jsonb, source text default null)
returns table (item integer, problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_round integer := 0;
begin
  perform set_config('jobcast.source', coalesce(update_jobs.source, v_source, ''), true);
  -- Everybody locks in the order of the ids, so that two calls about the same jobs cannot deadlock.
  perform from jobcast.jobs j
    where j.id in (select (p ->> 'id')::uuid from jsonb_array_elements(update_jobs.patches) p)
    order by j.id for update;
  loop
    v_round := v_round + 1;
    return query
    with patch as (
      select p.ord::integer as item, (p.patch ->> 'id')::uuid as id, p.patch,
        row_number() over (partition by (p.patch ->> 'id')::uuid order by p.ord) as round
      from jsonb_array_elements(update_jobs.patches) with ordinality p (patch, ord)
    ),
    judged as (
      select p.item, p.id, p.patch, j as job,
        case
          when j.id is null then 'JC002'
          when (p.patch ->> 'attempt')::integer <> j.attempt then 'JC003'
          when jobcast.is_final(j.status) and p.patch ->> 'status' is distinct from j.status then 'JC001'
          when jobcast.status_rank(p.patch ->> 'status') < jobcast.status_rank(j.status) then 'JC001'
        end as problem
      from patch p left join jobcast.jobs j on j.id = p.id
      where p.round = v_round
    ),
    updated as (
      update jobcast.jobs j
      set (status, progress, stage, message, counts, result, error) = (
        select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
        from jsonb_populate_record(j, g.patch) n
      )
      from judged g
      where g.id = j.id and g.problem is null
      returning j.*
    )
    select g.item, g.problem, coalesce((select u::jobcast.jobs from updated u where u.id = g.id), g.job)
    from judged g
    order by g.item;
    exit when not found;
  end loop;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

comment on function jobcast.update_jobs(jsonb, text) is
  'Up to thousands of updates as one statement: [{id, attempt?, status?, progress?, stage?, message?, counts?, result?, error?}, ...]. A problem is an SQLSTATE and leaves its job alone.';

create function jobcast.update_job(
  id uuid, patch jsonb, attempt integer default null, source text default null
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
  perform set_config('jobcast.source', coalesce(update_job.source, v_source, ''), true);
  update jobcast.jobs j
  set (status, progress, stage, message, counts, result, error) = (
    select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
    from jsonb_populate_record(j, update_job.patch) n
  )
  where j.id = update_job.id and j.attempt = coalesce(update_job.attempt, j.attempt)
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if v_written then
    return v_job;
  end if;

  -- No row was written: nothing to change, or a reason to tell.
  select j.* into v_job from jobcast.jobs j where j.id = update_job.id;
  if not found then
    raise exception 'no job %', update_job.id using errcode = 'JC002';
  elsif v_job.attempt <> update_job.attempt then
    raise exception 'job % is in attempt %, not %', update_job.id, v_job.attempt, update_job.attempt
      using errcode = 'JC003',
        detail = jsonb_build_object('attempt', v_job.attempt, 'status', v_job.status)::text;
  elsif jobcast.is_final(v_job.status) and update_job.patch ->> 'status' is distinct from v_job.status then
    -- A worker that still reports should learn that the job was ended elsewhere.
    raise exception 'job % is %: it takes no more reports', update_job.id, v_job.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', v_job.status, 'version', v_job.version)::text;
  end if;
  return v_job;
end
$$;

create function jobcast.start_job(
  id uuid, stage text default null, message text default null, attempt integer default null
) returns jobcast.jobs
language sql
set search_path = pg_catalog, pg_temp
as $$
  select jobcast.update_job(
    start_job.id,
    jsonb_strip_nulls(jsonb_build_object(
      'status', 'processing', 'stage', start_job.stage, 'message', start_job.message
    )),
    start_job.attempt
  )
$$;

create function jobcast.report_progress(
  id uuid,
  progress double precision,
  stage text default null,
  message text default null,
  counts jsonb default null,
  attempt integer default null
) returns jobcast.jobs
language sql
set search_path = pg_catalog, pg_temp
as $$
  select jobcast.update_job(
    report_progress.id,
    jsonb_strip_nulls(jsonb_build_object(
      'progress', report_progress.progress, 'stage', report_progress.stage,
      'message', report_progress.message, 'counts', report_progress.counts
    )),
    report_progress.attempt
  )
$$;

create function jobcast.complete_job(
  id uuid, result jsonb default null, message text default null, attempt integer default null
) returns jobcast.jobs
language sql
set search_path = pg_catalog, pg_temp
as $$
  select jobcast.update_job(
    complete_job.id,
    -- Nulls inside the result are the caller's and stay.
    jsonb_strip_nulls(jsonb_build_object('status', 'completed', 'message', complete_job.message))
      || case when complete_job.result is null then '{}'
           else jsonb_build_object('result', complete_job.result) end,
    complete_job.attempt
  )
$$;

create function jobcast.fail_job(
  id uuid, code text default 'failed', message text default 'The job failed.', attempt integer default null
) returns jobcast.jobs
language sql
set search_path = pg_catalog, pg_temp
as $$
  select jobcast.update_job(
    fail_job.id,
    jsonb_build_object(
      'status', 'failed',
      'error', jsonb_build_object('code', fail_job.code, 'message', fail_job.message)
    ),
    fail_job.attempt
  )
$$;

create function jobcast.cancel_job(id uuid, message text default null, source text default null)
returns jobcast.jobs
language sql
set search_path = pg_catalog, pg_temp
as $$
  select jobcast.update_job(
    cancel_job.id,
    jsonb_strip_nulls(jsonb_build_object('status', 'cancelled', 'message', cancel_job.message)),
    null,
    cancel_job.source
  )
$$;

create function jobcast.retry_job(
  id uuid, message text default null, source text default null
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
  perform set_config('jobcast.source', coalesce(retry_job.source, v_source, ''), true);
  update jobcast.jobs j
  set status = 'pending', attempt = j.attempt + 1, message = coalesce(retry_job.message, j.message)
  where j.id = retry_job.id
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if not v_written then
    raise exception 'no job %', retry_job.id using errcode = 'JC002';
  end if;
  return v_job;
end
$$;

comment on function jobcast.retry_job is
  'A failed, cancelled or timed out job becomes pending again, as its next attempt.';
