-- What the limits of 000011 left open: counts, balances, and what was there before there were limits.

comment on function jobcast.json_bytes(jsonb) is
  'Of the value as text; for more than 16 MiB, as PostgreSQL keeps it, what that takes. Of numbers with long exponents the text is far larger than that, and is made to be counted.';

create function jobcast.tg_jobs__assert_counts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What readers take for a number, and no longer than one.
  if octet_length(new.counts::text) > 1024 or exists (
    select from jsonb_each_text(new.counts) c
    where c.value::numeric not between 0 and 9007199254740991 or c.value::numeric <> trunc(c.value::numeric)
  ) then
    raise exception 'the counts of a job are whole numbers from 0 to 2^53 - 1'
      using errcode = '23514', constraint = 'counts_shape', schema = 'jobcast', table = 'jobs';
  end if;
  return new;
end
$$;

-- Not by the constraint, which would refuse the end of a job whose counts are older than this.
create trigger _200_assert_counts_on_insert before insert on jobcast.jobs
  for each row when (new.counts is not null and jobcast.is_counts(new.counts))
  execute function jobcast.tg_jobs__assert_counts();
create trigger _200_assert_counts_on_update before update of counts on jobcast.jobs
  for each row when (new.counts is not null and new.counts is distinct from old.counts and jobcast.is_counts(new.counts))
  execute function jobcast.tg_jobs__assert_counts();

create or replace function jobcast.tg_jobs__assert_limits() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bytes integer;
begin
  if tg_op = 'UPDATE' and (new.title, new.params, new.metadata)
    is not distinct from (old.title, old.params, old.metadata) then
    return new; -- an ORM writes all that it has read
  end if;
  v_bytes := jobcast.bytes_of(new.title, null, null, new.params, new.metadata);
  if tg_op = 'UPDATE' and v_bytes > jobcast.max_bytes() and jobcast.max_bytes()
    < jobcast.bytes_of(old.title, null, null, old.params, old.metadata) then
    -- It was too large before that was counted: what is new counts.
    v_bytes := jobcast.bytes_of(
      nullif(new.title, old.title), null, null, nullif(new.params, old.params), nullif(new.metadata, old.metadata)
    );
  end if;
  if v_bytes > 128 then -- less than that is neither too large nor too deep
    perform jobcast.assert_limits('title, params and metadata', v_bytes, nullif(new.params, old.params));
    perform jobcast.assert_limits('title, params and metadata', v_bytes, nullif(new.metadata, old.metadata));
  end if;
  return new;
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

create or replace function jobcast.grant_credits(
  owner_id text,
  amount bigint,
  reason text default null,
  idempotency_key text default null,
  request_hash bytea default null
) returns jobcast.credit_transactions
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_entry jobcast.credit_transactions;
begin
  if grant_credits.amount is null or grant_credits.amount <= 0 then
    raise exception 'a grant is of at least one credit, not %', grant_credits.amount using errcode = '22023';
  end if;
  -- Of equal requests that come at once the others wait here for the first one's commit.
  perform jobcast.lock_credit_accounts(array[grant_credits.owner_id]);
  if grant_credits.idempotency_key is not null then
    select e.* into v_entry from jobcast.credit_transactions e
      where e.owner_id = grant_credits.owner_id and e.idempotency_key = grant_credits.idempotency_key;
    if found and v_entry.request_hash is distinct from grant_credits.request_hash then
      raise exception 'the idempotency key % was used for another request', grant_credits.idempotency_key
        using errcode = 'JC006';
    elsif found then
      return v_entry;
    end if;
  end if;
  -- A balance that has room left, so that no refund is ever refused for want of it.
  if exists (
    select from jobcast.credit_accounts a
    where a.owner_id = grant_credits.owner_id and a.balance > jobcast.max_balance() - grant_credits.amount
  ) then
    raise exception 'an account is granted at most % credits', jobcast.max_balance() using errcode = '22003';
  end if;
  select e.* into v_entry from jobcast.post_credits(jsonb_build_array(jsonb_build_object(
    'owner_id', grant_credits.owner_id, 'kind', 'grant', 'amount', grant_credits.amount,
    'reason', grant_credits.reason, 'idempotency_key', grant_credits.idempotency_key,
    'request_hash', grant_credits.request_hash
  ))) e;
  return v_entry;
end
$$;

create function jobcast.max_balance() returns bigint
language sql immutable parallel safe
as $$
  select 1000000000000000
$$;

comment on function jobcast.max_balance() is
  'Above which nothing is granted. Refunds may exceed it, and stay within what JSON can hold.';

create function jobcast.whole(value numeric) returns integer
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if value <> trunc(value) then
    raise exception '% is not a whole number', value using errcode = '22P02';
  end if;
  return value;
end
$$;

comment on function jobcast.whole(numeric) is 'JSON writes 60 as 60.0 too, and as 6e1.';

-- Security definer: batches are written by the functions alone. It takes the jobs as HTTP has them
-- too, so that a request goes in as it came.
create or replace function jobcast.create_batch(
  owner_id text,
  title text,
  jobs jsonb,
  idempotency_key text default null,
  request_hash bytea default null,
  source text default null
) returns jobcast.batches
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_batch jobcast.batches;
begin
  insert into jobcast.batches as b (owner_id, title, idempotency_key, request_hash)
  values (create_batch.owner_id, create_batch.title, create_batch.idempotency_key, create_batch.request_hash)
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

  perform set_config('jobcast.source', coalesce(create_batch.source, v_source, ''), true);
  insert into jobcast.jobs (
    owner_id, batch_id, type, title, params, metadata, credits, timeout_seconds, timeout_extends, created_at
  )
  select
    create_batch.owner_id, v_batch.id, n.type, n.title, n.params, n.metadata, coalesce(jobcast.whole(n.credits), 0),
    jobcast.whole(coalesce(n.timeout_seconds, n."timeoutSeconds")),
    coalesce(n.timeout_extends, n."timeoutExtends", false),
    -- A microsecond apart, so that their order is the order of the call, whatever the clock does.
    v_batch.created_at + n.position * interval '1 microsecond'
  from rows from (
    jsonb_to_recordset(create_batch.jobs) as (
      type text, title text, params jsonb, metadata jsonb, credits numeric,
      timeout_seconds numeric, timeout_extends boolean, "timeoutSeconds" numeric, "timeoutExtends" boolean
    )
  ) with ordinality n (
    type, title, params, metadata, credits, timeout_seconds, timeout_extends, "timeoutSeconds", "timeoutExtends",
    position
  )
  order by n.position;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  -- The counts are there at once, for whoever reads in this transaction. Only of this batch, which
  -- nobody else can see yet: others' would be locked until the commit.
  perform jobcast.settle_batch_changes(v_batch.id);
  select b.* into v_batch from jobcast.batches b where b.id = v_batch.id;
  return v_batch;
end
$$;

-- The attempt that a report names is compared, and is no column to be written.
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
  v_written boolean;
begin
  perform set_config('jobcast.source', coalesce(update_job.source, v_source, ''), true);
  update jobcast.jobs j
  set (status, progress, stage, message, counts, result, error) = (
    select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
    from jsonb_populate_record(j, update_job.patch - 'attempt') n
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
