-- Groups of jobs. Their counts are kept by the database, in the transaction that changes the jobs.
--
-- A counter that is bumped when a job changes would be locked until the end of that transaction:
-- every other job of the batch would wait for it, and a transaction that holds the counter and
-- wants a job meets one that holds the job and wants the counter. So a statement only notes its
-- difference under the transaction's own key, and the notes are added up when it commits.

create table jobcast.batches (
  id uuid not null default jobcast.uuid_v7() primary key,
  owner_id text not null,
  title text,
  total integer not null default 0,
  completed integer not null default 0,
  failed integer not null default 0,
  cancelled integer not null default 0,
  started integer not null default 0,
  progress_sum numeric not null default 0,
  progress double precision not null
    generated always as (case when total = 0 then 0 else round(progress_sum / total, 2)::double precision end) stored,
  status text not null
    generated always as (
      case
        when total > 0 and completed + failed >= total then
          case when completed > 0 then 'completed' when cancelled >= total then 'cancelled' else 'failed' end
        when started > 0 then 'processing'
        else 'pending'
      end
    ) stored,
  estimated_seconds_remaining integer,
  version bigint not null default 1,
  idempotency_key text,
  request_hash bytea,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint batches_of_owner unique (id, owner_id),
  constraint batches_idempotency_key unique (owner_id, idempotency_key),
  constraint batch_owner_id_length check (length(owner_id) between 1 and 255)
);

-- Lists, newest first, of an owner or of all.
create index batches_by_owner on jobcast.batches (owner_id, created_at desc, id desc);
create index batches_by_created on jobcast.batches (created_at desc, id desc);

comment on column jobcast.batches.failed is 'Jobs that ended otherwise than completed: failed, cancelled or timeout.';
comment on column jobcast.batches.started is 'Jobs that are past queued.';
comment on column jobcast.batches.progress_sum is 'The sum of the jobs'' progress; a job that ended counts as 100.';

alter table jobcast.jobs
  add constraint batch_of_the_same_owner foreign key (batch_id, owner_id)
    references jobcast.batches (id, owner_id);

create table jobcast.batch_changes (
  batch_id uuid not null references jobcast.batches (id) on delete cascade,
  xid xid8 not null default pg_current_xact_id(),
  total integer not null,
  completed integer not null,
  failed integer not null,
  cancelled integer not null,
  started integer not null,
  progress_sum numeric not null,
  -- The transaction first: a commit finds its own notes among whatever a vacuum has yet to remove.
  primary key (xid, batch_id)
);

comment on table jobcast.batch_changes is
  'What open transactions will add to their batches when they commit; empty when nobody writes.';

create function jobcast.effective_progress(status text, progress double precision) returns numeric
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case when jobcast.is_final(status) then 100 else progress::numeric end
$$;

create function jobcast.tg_jobs__note_batch_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
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
  insert into jobcast.batch_changes as c (batch_id, total, completed, failed, cancelled, started, progress_sum)
  select a.batch_id, 0,
    sum((a.status = 'completed')::int - (b.status = 'completed')::int),
    sum((a.status in ('failed', 'cancelled', 'timeout'))::int - (b.status in ('failed', 'cancelled', 'timeout'))::int),
    sum((a.status = 'cancelled')::int - (b.status = 'cancelled')::int),
    sum((jobcast.status_rank(a.status) >= 2)::int - (jobcast.status_rank(b.status) >= 2)::int),
    sum(jobcast.effective_progress(a.status, a.progress) - jobcast.effective_progress(b.status, b.progress))
  from after a
  join before b on b.id = a.id
  where a.batch_id is not null and a.version <> b.version
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

-- Security definer, like the notes' triggers: whoever writes jobs need not be able to write batches.
create function jobcast.settle_batch_changes(batch_id uuid) returns void
language plpgsql security definer
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
    started_at = coalesce(b.started_at, case when b.started + v_change.started > 0 then v_now end)
  where b.id = settle_batch_changes.batch_id
  returning b.* into v_batch;
  update jobcast.batches b set
    estimated_seconds_remaining = jobcast.estimate(v_batch.status, v_batch.progress, v_batch.started_at, v_now),
    finished_at = case when jobcast.is_final(v_batch.status) then coalesce(v_batch.finished_at, v_now) end
  where b.id = settle_batch_changes.batch_id;
end
$$;

comment on function jobcast.settle_batch_changes(uuid) is
  'Adds what this transaction has noted about a batch to its counts, and locks it: so it is done at the commit.';

create function jobcast.tg_batch_changes__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The first note settles all of this transaction's, in the order of the batches, so that two
  -- transactions about the same batches cannot deadlock; the other notes find nothing left.
  perform jobcast.settle_batch_changes(c.batch_id)
  from (
    select n.batch_id from jobcast.batch_changes n where n.xid = pg_current_xact_id() order by n.batch_id
  ) c;
  return null;
end
$$;

create trigger _550_note_batch_changes_on_insert after insert on jobcast.jobs
  referencing new table as after
  for each statement execute function jobcast.tg_jobs__note_batch_changes();
create trigger _550_note_batch_changes_on_update after update on jobcast.jobs
  referencing old table as before new table as after
  for each statement execute function jobcast.tg_jobs__note_batch_changes();
create constraint trigger _900_settle after insert on jobcast.batch_changes
  deferrable initially deferred
  for each row execute function jobcast.tg_batch_changes__settle();

create function jobcast.create_batch(
  owner_id text,
  title text,
  jobs jsonb,
  idempotency_key text default null,
  request_hash bytea default null,
  source text default null
) returns jobcast.batches
language plpgsql
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
    n.timeout_seconds, coalesce(n.timeout_extends, false),
    -- A microsecond apart, so that their order is the order of the call, whatever the clock does.
    v_batch.created_at + n.position * interval '1 microsecond'
  from rows from (
    jsonb_to_recordset(create_batch.jobs) as (
      type text, title text, params jsonb, metadata jsonb, credits integer,
      timeout_seconds integer, timeout_extends boolean
    )
  ) with ordinality n (type, title, params, metadata, credits, timeout_seconds, timeout_extends, position)
  order by n.position;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  -- The counts are there at once, for whoever reads in this transaction. Only of this batch, which
  -- nobody else can see yet: others' would be locked until the commit.
  perform jobcast.settle_batch_changes(v_batch.id);
  select b.* into v_batch from jobcast.batches b where b.id = v_batch.id;
  return v_batch;
end
$$;

comment on function jobcast.create_batch is
  'A batch and its jobs in one statement: [{"type": ..., "title"?, "params"?, "metadata"?, "credits"?, "timeout_seconds"?, "timeout_extends"?}, ...].';

create function jobcast.cancel_batch(id uuid, message text default null, source text default null)
returns setof jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
begin
  perform set_config('jobcast.source', coalesce(cancel_batch.source, v_source, ''), true);
  -- In the order of the ids, like every set of jobs.
  perform from jobcast.jobs j
    where j.batch_id = cancel_batch.id and not jobcast.is_final(j.status)
    order by j.id for update;
  return query
    update jobcast.jobs j
    set status = 'cancelled', message = coalesce(cancel_batch.message, j.message)
    where j.batch_id = cancel_batch.id and not jobcast.is_final(j.status)
    returning j.*;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

comment on function jobcast.cancel_batch is
  'Cancels what is unfinished in a batch, and gives back those jobs.';
