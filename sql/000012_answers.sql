-- What a writer is answered, in the statement that wrote: a function that is called after the change
-- sees its history, which the statement itself, begun before, does not.

create function jobcast.newest_change(
  job_id uuid,
  version bigint,
  status text,
  progress double precision,
  started_at timestamptz,
  updated_at timestamptz,
  out source text,
  out estimated_seconds_remaining integer,
  out occurred_at timestamptz
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A worker need not be allowed to read history: what it wrote just now is known without.
  if has_table_privilege('jobcast.status_history', 'select') then
    select h.source, h.estimated_seconds_remaining, h.occurred_at
      into source, estimated_seconds_remaining, occurred_at
      from jobcast.status_history h
      where h.job_id = newest_change.job_id and h.version = newest_change.version;
  end if;
  if occurred_at is null then
    estimated_seconds_remaining := jobcast.estimate(status, progress, started_at, updated_at);
    occurred_at := updated_at;
  end if;
end
$$;

comment on function jobcast.newest_change(uuid, bigint, text, double precision, timestamptz, timestamptz) is
  'Who wrote the present version of a job, when, and how long it will take from then on.';

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
    create_batch.owner_id, v_batch.id, n.type, n.title, n.params, n.metadata, coalesce(n.credits, 0),
    coalesce(n.timeout_seconds, n."timeoutSeconds"),
    coalesce(n.timeout_extends, n."timeoutExtends", false),
    -- A microsecond apart, so that their order is the order of the call, whatever the clock does.
    v_batch.created_at + n.position * interval '1 microsecond'
  from rows from (
    jsonb_to_recordset(create_batch.jobs) as (
      type text, title text, params jsonb, metadata jsonb, credits integer,
      timeout_seconds integer, timeout_extends boolean, "timeoutSeconds" integer, "timeoutExtends" boolean
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
