-- additive: versions before call what has only got further parameters

-- What writers may say besides: statuses by the names of other systems, the version that they want
-- to change, a title and metadata by and by, an id of their own, and of which attempt a retry is.

create function jobcast.spelled(status text) returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case status
    when 'canceled' then 'cancelled'
    when 'timed_out' then 'timeout'
    when 'in_progress' then 'processing'
    else status
  end
$$;

comment on function jobcast.spelled(text) is 'A status as it is called here, by the names of other systems too.';

create or replace function jobcast.tg_jobs__on_insert() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  new.status := jobcast.spelled(new.status);
  new.version := 1;
  new.attempt := 1;
  new.updated_at := new.created_at;
  new.started_at := case when new.status = 'processing' then new.created_at end;
  new.finished_at := case when jobcast.is_final(new.status) then new.created_at end;
  if new.status = 'completed' then
    new.progress := 100;
  end if;
  if new.finished_at is not null then
    new.credits := 0; -- it was done elsewhere, and is not charged here
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

create function jobcast.tg_jobs__on_relabel() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.version = old.version
    and (new.title, new.metadata) is distinct from (old.title, old.metadata) then
    new.version := old.version + 1;
    new.updated_at := clock_timestamp();
  end if;
  return new;
end
$$;

comment on function jobcast.tg_jobs__on_relabel() is
  'Makes a version of a new title or metadata, of a job that has ended too. Whoever names neither does not pay for it.';

create trigger _150_on_relabel before update of title, metadata on jobcast.jobs
  for each row execute function jobcast.tg_jobs__on_relabel();

comment on column jobcast.jobs.version is
  'Rises by one with every change of status, progress, stage, message, counts, result, error, title or metadata.';

create or replace function jobcast.update_job(
  id uuid, patch jsonb, attempt integer default null, source text default null
) returns jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_job jobcast.jobs;
  v_version constant numeric := update_job.patch ->> 'version';
  v_written boolean;
begin
  perform set_config('jobcast.source', coalesce(update_job.source, v_source, ''), true);
  if update_job.patch ?| array['title', 'metadata'] then
    update jobcast.jobs j
    set (status, progress, stage, message, counts, result, error, title, metadata) = (
      select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error, n.title, n.metadata
      from jsonb_populate_record(j, update_job.patch - 'attempt') n
    )
    where j.id = update_job.id and j.attempt = coalesce(update_job.attempt, j.attempt)
      and (v_version is null or j.version = v_version)
    returning j.* into v_job;
  else
    -- Without these two nothing has to look at what may be large in them.
    update jobcast.jobs j
    set (status, progress, stage, message, counts, result, error) = (
      select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
      from jsonb_populate_record(j, update_job.patch - 'attempt') n
    )
    where j.id = update_job.id and j.attempt = coalesce(update_job.attempt, j.attempt)
      and (v_version is null or j.version = v_version)
    returning j.* into v_job;
  end if;
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
  elsif v_job.version <> v_version then
    raise exception 'job % is at version %, not %', update_job.id, v_job.version, v_version
      using errcode = 'JC008',
        detail = jsonb_build_object('status', v_job.status, 'version', v_job.version)::text;
  elsif jobcast.is_final(v_job.status)
    and update_job.patch - array['attempt', 'version', 'title', 'metadata'] <> '{}'
    and jobcast.spelled(update_job.patch ->> 'status') is distinct from v_job.status then
    -- A worker that still reports should learn that the job was ended elsewhere.
    raise exception 'job % is %: it takes no more reports', update_job.id, v_job.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', v_job.status, 'version', v_job.version)::text;
  end if;
  return v_job;
end
$$;

create or replace function jobcast.update_jobs(
  patches jsonb, source text default null, skip_locked boolean default false
) returns table (item integer, problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_named constant uuid[] := array(
    select distinct (p ->> 'id')::uuid from jsonb_array_elements(update_jobs.patches) p
  );
  v_locked uuid[];
  v_refunded uuid[];
  v_round record;
begin
  perform set_config('jobcast.source', coalesce(update_jobs.source, v_source, ''), true);
  if update_jobs.skip_locked then
    v_locked := array(
      select j.id from jobcast.jobs j where j.id = any (v_named) order by j.id for update skip locked
    );
    -- Whoever may not lock accounts waits for them.
    if has_function_privilege('jobcast.lock_free(uuid[], boolean)', 'execute')
      and has_table_privilege('jobcast.credit_accounts', 'update') then
      v_refunded := array(
        select j.id from jobcast.jobs j
        where j.id = any (v_locked) and j.credits > 0 and not jobcast.is_final(j.status) and j.id in (
          select (p ->> 'id')::uuid from jsonb_array_elements(update_jobs.patches) p
          where jobcast.spelled(p ->> 'status') in ('failed', 'cancelled', 'timeout')
        )
      );
      if cardinality(v_refunded) > 0 then
        v_locked := array(
          select l.id from unnest(v_locked) l (id) where l.id <> all (v_refunded)
          union all
          select f.id from unnest(jobcast.lock_free(v_refunded, with_batches => false)) f (id)
        );
      end if;
    end if;
  else
    v_locked := array(
      select j.id from jobcast.jobs j where j.id = any (v_named) order by j.id for update
    );
  end if;

  -- Several patches of one job are as many versions, so each round has at most one of each job.
  for v_round in
    select
      array_agg(p.item order by p.item) as items,
      array_agg(p.id order by p.item) as ids,
      array_agg(p.patch order by p.item) as patches,
      array_agg(p.is_locked order by p.item) as are_locked
    from (
      select n.item, n.id, n.patch, l.id is not null as is_locked,
        row_number() over (partition by n.id order by n.item) as number
      from (
        select p.position::integer as item, (p.patch ->> 'id')::uuid as id, p.patch
        from jsonb_array_elements(update_jobs.patches) with ordinality p (patch, position)
      ) n
      left join unnest(v_locked) l (id) on l.id = n.id
    ) p
    group by p.number
    order by p.number
  loop
    return query
    with judged as (
      select p.item, p.id, p.patch, j as job,
        case
          when j.id is null then 'JC002'
          -- Without skip_locked it was made while we waited for the others.
          when not p.is_locked then case when update_jobs.skip_locked then 'JC007' else 'JC002' end
          when (p.patch ->> 'attempt')::numeric <> j.attempt then 'JC003'
          when (p.patch ->> 'version')::numeric <> j.version then 'JC008'
          -- What the constraint would say, of this one alone.
          when p.patch ? 'status' and coalesce(jobcast.spelled(p.patch ->> 'status'), '') not in (
            'pending', 'queued', 'processing', 'completed', 'failed', 'cancelled', 'timeout'
          ) then '23514'
          when jobcast.is_final(j.status)
            and jobcast.spelled(p.patch ->> 'status') is distinct from j.status then 'JC001'
          when jobcast.status_rank(jobcast.spelled(p.patch ->> 'status')) < jobcast.status_rank(j.status) then 'JC001'
        end as problem
      from unnest(v_round.items, v_round.ids, v_round.patches, v_round.are_locked)
        p (item, id, patch, is_locked)
      left join jobcast.jobs j on j.id = p.id
    ),
    updated as (
      update jobcast.jobs j
      set (status, progress, stage, message, counts, result, error) = (
        select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
        from jsonb_populate_record(j, g.patch - 'attempt') n
      )
      from judged g
      where g.id = j.id and g.problem is null
      returning j.*
    )
    select g.item, g.problem, coalesce((select u::jobcast.jobs from updated u where u.id = g.id), g.job)
    from judged g
    order by g.item;
  end loop;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

-- Who was given it keeps it.
select set_config('jobcast.grants_of_create_job', (
  select coalesce(p.proacl, acldefault('f', p.proowner))::text
  from pg_proc p where p.oid = 'jobcast.create_job(text,text,text,jsonb,jsonb,uuid,integer,boolean,integer,text,bytea,text)'::regprocedure
), true);

drop function jobcast.create_job(
  text, text, text, jsonb, jsonb, uuid, integer, boolean, integer, text, bytea, text
);

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
  source text default null,
  id uuid default null
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
    idempotency_key, request_hash, id
  )
  values (
    create_job.owner_id, create_job.type, create_job.title, create_job.params, create_job.metadata,
    create_job.batch_id, create_job.timeout_seconds, create_job.timeout_extends, create_job.credits,
    create_job.idempotency_key, create_job.request_hash,
    coalesce(create_job.id, jobcast.uuid_v7())
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

comment on function jobcast.create_job(
  text, text, text, jsonb, jsonb, uuid, integer, boolean, integer, text, bytea, text, uuid
) is 'Creates a job and charges its credits. Said again with the same idempotency key, it gives back the first one.';

do $$
declare
  v_grant record;
begin
  revoke execute on function jobcast.create_job from public;
  for v_grant in
    select a.grantee from aclexplode(current_setting('jobcast.grants_of_create_job')::aclitem[]) a where a.privilege_type = 'EXECUTE'
  loop
    execute format(
      'grant execute on function jobcast.create_job to %s',
      case when v_grant.grantee = 0 then 'public' else v_grant.grantee::regrole::text end
    );
  end loop;
end
$$;

create table jobcast.requests (
  subject_id uuid not null,
  idempotency_key text not null,
  request_hash bytea,
  made_at timestamptz not null default clock_timestamp(),
  primary key (subject_id, idempotency_key),
  constraint request_key_length check (length(idempotency_key) between 1 and 255)
);

create index requests_by_time on jobcast.requests (made_at);

comment on table jobcast.requests is
  'The idempotency keys of what was asked of a job or a batch that is there, such as a retry; removed after a while.';

create trigger _050_refuse_strangers before insert or update or delete on jobcast.requests
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _060_refuse_truncate before truncate on jobcast.requests
  for each statement execute function jobcast.tg__refuse_truncate();

create function jobcast.claim_request(subject_id uuid, idempotency_key text, request_hash bytea)
returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_made jobcast.requests;
begin
  insert into jobcast.requests (subject_id, idempotency_key, request_hash)
    values (claim_request.subject_id, claim_request.idempotency_key, claim_request.request_hash)
    on conflict do nothing;
  if found then
    return null;
  end if;
  select r.* into v_made from jobcast.requests r
    where r.subject_id = claim_request.subject_id and r.idempotency_key = claim_request.idempotency_key;
  if v_made.request_hash is distinct from claim_request.request_hash then
    raise exception 'the idempotency key % was used for another request', claim_request.idempotency_key
      using errcode = 'JC006';
  end if;
  return v_made.made_at;
end
$$;

comment on function jobcast.claim_request(uuid, text, bytea) is
  'When the request was made before; null when it is to be done now.';

-- Who was given it keeps it.
select set_config('jobcast.grants_of_retry_job', (
  select coalesce(p.proacl, acldefault('f', p.proowner))::text
  from pg_proc p where p.oid = 'jobcast.retry_job(uuid,text,text)'::regprocedure
), true);

drop function jobcast.retry_job(uuid, text, text);

create function jobcast.retry_job(
  id uuid,
  message text default null,
  source text default null,
  attempt integer default null,
  idempotency_key text default null,
  request_hash bytea default null
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
  -- Of equal requests that come at once the others wait here for the first one's commit.
  if retry_job.idempotency_key is not null
    and jobcast.claim_request(retry_job.id, retry_job.idempotency_key, retry_job.request_hash) is not null then
    select j.* into v_job from jobcast.jobs j where j.id = retry_job.id;
    return v_job;
  end if;
  perform set_config('jobcast.source', coalesce(retry_job.source, v_source, ''), true);
  update jobcast.jobs j
  set status = 'pending', attempt = j.attempt + 1, message = coalesce(retry_job.message, j.message)
  where j.id = retry_job.id and j.attempt = coalesce(retry_job.attempt, j.attempt)
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if v_written then
    return v_job;
  end if;
  select j.* into v_job from jobcast.jobs j where j.id = retry_job.id;
  if not found then
    raise exception 'no job %', retry_job.id using errcode = 'JC002';
  end if;
  raise exception 'job % is in attempt %, not %', retry_job.id, v_job.attempt, retry_job.attempt
    using errcode = 'JC003',
      detail = jsonb_build_object('attempt', v_job.attempt, 'status', v_job.status)::text;
end
$$;

comment on function jobcast.retry_job(uuid, text, text, integer, text, bytea) is
  'The next attempt of a job that failed, was cancelled or timed out: of this attempt only, and once with the same key.';

do $$
declare
  v_grant record;
begin
  revoke execute on function jobcast.retry_job from public;
  for v_grant in
    select a.grantee from aclexplode(current_setting('jobcast.grants_of_retry_job')::aclitem[]) a where a.privilege_type = 'EXECUTE'
  loop
    execute format(
      'grant execute on function jobcast.retry_job to %s',
      case when v_grant.grantee = 0 then 'public' else v_grant.grantee::regrole::text end
    );
  end loop;
end
$$;

create or replace function jobcast.prune(
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
    delete from jobcast.requests r
      where (r.subject_id, r.idempotency_key) in (
        select o.subject_id, o.idempotency_key from jobcast.requests o
        where o.made_at < v_before
        order by o.made_at
        limit prune.most
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

create function jobcast.delete_batch(id uuid, most integer default 1000) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_job jobcast.jobs;
  v_deleted bigint;
begin
  select j.* into v_job from jobcast.jobs j
    where j.batch_id = delete_batch.id and not jobcast.is_final(j.status)
    order by j.id limit 1;
  if found then
    raise exception 'job % of the batch is %: end it before you delete the batch', v_job.id, v_job.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', v_job.status, 'version', v_job.version)::text;
  end if;
  delete from jobcast.jobs j using (
    select o.id from jobcast.jobs o
    where o.batch_id = delete_batch.id order by o.id limit delete_batch.most for update
  ) d where j.id = d.id;
  get diagnostics v_deleted = row_count;
  if v_deleted >= delete_batch.most then
    return true;
  end if;
  delete from jobcast.batches b where b.id = delete_batch.id;
  return false;
end
$$;

comment on function jobcast.delete_batch(uuid, integer) is
  'Deletes so many jobs of a batch that has ended, and with the last of them the batch; whether there are more.';
