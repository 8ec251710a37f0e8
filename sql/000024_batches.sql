-- additive: versions before call what has only got a further parameter

-- What a batch is asked for besides: jobs that are added to it, another try of what failed, metadata;
-- and an estimate by the time in which it was worked on.

alter table jobcast.batches
  add column metadata jsonb,
  add column ran_seconds double precision not null default 0,
  add constraint batch_metadata_is_object check (jsonb_typeof(metadata) = 'object');

comment on column jobcast.batches.ran_seconds is 'How long one of its jobs or more was processing, up to updated_at.';

update jobcast.batches set ran_seconds = greatest(0, extract(epoch from updated_at - started_at))
  where started_at is not null and finished_at is null and isfinite(started_at) and isfinite(updated_at);

create or replace function jobcast.settle_batch_changes(batch_id uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_change jobcast.batch_changes;
  v_batch jobcast.batches;
begin
  delete from jobcast.batch_changes c
    where c.xid = pg_current_xact_id() and c.batch_id = settle_batch_changes.batch_id
    returning c.* into v_change;
  if not found then
    return;
  end if;
  update jobcast.batches b set
    total = b.total + v_change.total,
    completed = b.completed + v_change.completed,
    failed = b.failed + v_change.failed,
    cancelled = b.cancelled + v_change.cancelled,
    started = b.started + v_change.started,
    progress_sum = b.progress_sum + v_change.progress_sum,
    version = b.version + 1,
    updated_at = v_now,
    -- What was between two changes counts where a job was at it.
    ran_seconds = b.ran_seconds + case
      when b.started > b.completed + b.failed then greatest(0, extract(epoch from v_now - b.updated_at))
      else 0 end,
    started_at = coalesce(b.started_at, case when b.started + v_change.started > 0 then v_now end)
  where b.id = settle_batch_changes.batch_id
  returning b.* into v_batch;
  update jobcast.batches b set
    estimated_seconds_remaining = jobcast.estimate(
      v_batch.status, v_batch.progress, v_now - make_interval(secs => v_batch.ran_seconds), v_now
    ),
    finished_at = case when jobcast.is_final(v_batch.status) then coalesce(v_batch.finished_at, v_now) end
  where b.id = settle_batch_changes.batch_id;
end
$$;

create function jobcast.insert_jobs(batch jobcast.batches, jobs jsonb, since timestamptz, source text)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_made uuid[];
begin
  perform set_config('jobcast.source', coalesce(insert_jobs.source, v_source, ''), true);
  with made as (
  insert into jobcast.jobs (
    owner_id, batch_id, type, title, params, metadata, credits, timeout_seconds, timeout_extends, created_at
  )
  select
    insert_jobs.batch.owner_id, insert_jobs.batch.id, n.type, n.title, n.params, n.metadata, coalesce(jobcast.whole(n.credits), 0),
    jobcast.whole(coalesce(n.timeout_seconds, n."timeoutSeconds")),
    coalesce(n.timeout_extends, n."timeoutExtends", false),
    -- A microsecond apart, so that their order is the order of the call, whatever the clock does.
    insert_jobs.since + n.position * interval '1 microsecond'
  from rows from (
    jsonb_to_recordset(insert_jobs.jobs) as (
      type text, title text, params jsonb, metadata jsonb, credits numeric,
      timeout_seconds numeric, timeout_extends boolean, "timeoutSeconds" numeric, "timeoutExtends" boolean
    )
  ) with ordinality n (
    type, title, params, metadata, credits, timeout_seconds, timeout_extends, "timeoutSeconds", "timeoutExtends",
    position
  )
  order by n.position
  returning id, created_at
  )
  select array_agg(m.id order by m.created_at, m.id) into v_made from made m;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return v_made;
end
$$;

comment on function jobcast.insert_jobs(jobcast.batches, jsonb, timestamptz, text) is
  'Jobs of a batch, created one microsecond after the other, from that moment on; their ids.';
revoke execute on function jobcast.insert_jobs(jobcast.batches, jsonb, timestamptz, text) from public;

-- Who was given it keeps it.
select set_config('jobcast.grants_of_create_batch', (
  select coalesce(p.proacl, acldefault('f', p.proowner))::text
  from pg_proc p where p.oid = 'jobcast.create_batch(text,text,jsonb,text,bytea,text)'::regprocedure
), true);

drop function jobcast.create_batch(text, text, jsonb, text, bytea, text);

create function jobcast.create_batch(
  owner_id text,
  title text,
  jobs jsonb,
  idempotency_key text default null,
  request_hash bytea default null,
  source text default null,
  metadata jsonb default null
) returns jobcast.batches
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_batch jobcast.batches;
begin
  insert into jobcast.batches as b (owner_id, title, metadata, idempotency_key, request_hash)
  values (
    create_batch.owner_id, create_batch.title, create_batch.metadata, create_batch.idempotency_key,
    create_batch.request_hash
  )
  on conflict on constraint batches_idempotency_key do nothing
  returning b.* into v_batch;
  if not found then
    select b.* into v_batch from jobcast.batches b
      where b.owner_id = create_batch.owner_id and b.idempotency_key = create_batch.idempotency_key;
    if v_batch.request_hash is distinct from create_batch.request_hash then
      raise exception 'the idempotency key % was used for another request', create_batch.idempotency_key
        using errcode = 'JC006';
    end if;
    return v_batch;
  end if;

  perform jobcast.insert_jobs(v_batch, create_batch.jobs, v_batch.created_at, create_batch.source);
  -- The counts are there at once, for whoever reads in this transaction. Only of this batch, which
  -- nobody else can see yet: others' would be locked until the commit.
  perform jobcast.settle_batch_changes(v_batch.id);
  select b.* into v_batch from jobcast.batches b where b.id = v_batch.id;
  return v_batch;
end
$$;

comment on function jobcast.create_batch(text, text, jsonb, text, bytea, text, jsonb) is
  'A batch and its jobs in one statement: [{"type": ..., "title"?, "params"?, "metadata"?, "credits"?, "timeout_seconds"?, "timeout_extends"?}, ...].';

do $$
declare
  v_grant record;
begin
  revoke execute on function jobcast.create_batch from public;
  for v_grant in
    select a.grantee from aclexplode(current_setting('jobcast.grants_of_create_batch')::aclitem[]) a where a.privilege_type = 'EXECUTE'
  loop
    execute format(
      'grant execute on function jobcast.create_batch to %s',
      case when v_grant.grantee = 0 then 'public' else v_grant.grantee::regrole::text end
    );
  end loop;
end
$$;

alter table jobcast.requests add column job_ids uuid[];

comment on column jobcast.requests.job_ids is 'The jobs that were made, in the order in which they were named.';

create function jobcast.add_jobs(
  batch_id uuid,
  jobs jsonb,
  idempotency_key text default null,
  request_hash bytea default null,
  source text default null
) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_batch jobcast.batches;
  v_made uuid[];
begin
  select b.* into v_batch from jobcast.batches b where b.id = add_jobs.batch_id for key share;
  if not found then
    raise exception 'no batch %', add_jobs.batch_id using errcode = 'JC002';
  end if;
  if add_jobs.idempotency_key is not null
    and jobcast.claim_request(add_jobs.batch_id, add_jobs.idempotency_key, add_jobs.request_hash) is not null then
    select r.job_ids into v_made from jobcast.requests r
      where r.subject_id = add_jobs.batch_id and r.idempotency_key = add_jobs.idempotency_key;
  else
    v_made := jobcast.insert_jobs(v_batch, add_jobs.jobs, clock_timestamp(), add_jobs.source);
    update jobcast.requests r set job_ids = v_made
      where r.subject_id = add_jobs.batch_id and r.idempotency_key = add_jobs.idempotency_key;
  end if;
  return query select m.id from unnest(v_made) with ordinality m (id, position) order by m.position;
end
$$;

comment on function jobcast.add_jobs(uuid, jsonb, text, bytea, text) is
  'Adds jobs to a batch, as create_batch takes them, and gives back their ids in that order.';
revoke execute on function jobcast.add_jobs(uuid, jsonb, text, bytea, text) from public;

-- It reads after the statement that calls it has written, which the statement itself, begun before,
-- does not see.
create function jobcast.job_now(id uuid) returns setof jobcast.jobs
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select j.* from jobcast.jobs j where j.id = job_now.id
$$;

comment on function jobcast.job_now(uuid) is 'A job as the transaction that asks sees it by now.';

create function jobcast.retry_batch(
  id uuid,
  message text default null,
  source text default null,
  idempotency_key text default null,
  request_hash bytea default null
) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_locked uuid[];
begin
  if retry_batch.idempotency_key is not null
    and jobcast.claim_request(retry_batch.id, retry_batch.idempotency_key, retry_batch.request_hash) is not null then
    return 0;
  end if;
  perform set_config('jobcast.source', coalesce(retry_batch.source, v_source, ''), true);
  v_locked := array(
    select j.id from jobcast.jobs j
    where j.batch_id = retry_batch.id and j.status in ('failed', 'timeout')
    order by j.id for update
  );
  update jobcast.jobs j
    set status = 'pending', attempt = j.attempt + 1, message = coalesce(retry_batch.message, j.message)
    where j.id = any (v_locked);
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return cardinality(v_locked);
end
$$;

comment on function jobcast.retry_batch(uuid, text, text, text, bytea) is
  'The next attempt of every job of a batch that failed or timed out; how many they were.';
