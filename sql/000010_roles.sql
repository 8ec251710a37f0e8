-- A role can do what it was granted, and nothing else. What runs as the owner is for the tables that
-- it was made for and for whom the owner lets call it; history, batches and credits are written by
-- the functions of this schema, whoever was granted what; and nothing is truncated.

-- PostgreSQL lets everybody execute a new function. A definer function that anybody may attach to a
-- table of his own runs there as the owner, on rows, types and operators of his choice.
revoke execute on function jobcast.tg_jobs__on_insert() from public;
revoke execute on function jobcast.tg_jobs__append_history() from public;
revoke execute on function jobcast.tg_jobs__charge() from public;
revoke execute on function jobcast.tg_jobs__settle() from public;
revoke execute on function jobcast.tg_jobs__note_batch_changes() from public;
revoke execute on function jobcast.tg_batch_changes__settle() from public;
revoke execute on function jobcast.settle_batch_changes(uuid) from public;

create function jobcast.tg__refuse_strangers() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In a definer function the current user is the owner, and nowhere else is it anybody's to choose.
  if not pg_has_role((select c.relowner from pg_class c where c.oid = tg_relid), 'USAGE') then
    raise exception '% may not write to %.%: the functions of this schema do', current_user, tg_table_schema, tg_table_name
      using errcode = '42501';
  end if;
  return null;
end
$$;

create function jobcast.tg__refuse_truncate() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '%.% is not to be truncated: delete the jobs that have ended instead', tg_table_schema, tg_table_name
    using errcode = 'JC005';
end
$$;

-- An insert is looked at where it rings, by the query that is there already.
create trigger _050_refuse_strangers before update or delete on jobcast.status_history
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.batches
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.batch_changes
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.credit_accounts
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.credit_transactions
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.webhook_deliveries
  for each statement execute function jobcast.tg__refuse_strangers();

create trigger _060_refuse_truncate before truncate on jobcast.jobs
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.status_history
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.batches
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.batch_changes
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.credit_accounts
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.webhook_deliveries
  for each statement execute function jobcast.tg__refuse_truncate();

create or replace function jobcast.tg_status_history__ring() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_owner boolean;
begin
  select pg_has_role(c.relowner, 'USAGE') into v_is_owner
    from pg_class c where c.oid = tg_relid and exists (select from inserted);
  if v_is_owner is null then
    return null; -- nothing was inserted
  elsif not v_is_owner then
    raise exception '% may not write history: a change of the job does', current_user using errcode = '42501';
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

-- The definer functions as before, each for the tables that it was made for: whoever grants the
-- execution of all functions of the schema still opens nothing but those that are to be called.

create or replace function jobcast.tg_jobs__charge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if exists (select from after where credits > 0) then
    perform jobcast.post_credits(jsonb_agg(
      jsonb_build_object(
        'owner_id', a.owner_id, 'kind', 'charge', 'amount', -a.credits, 'job_id', a.id, 'attempt', a.attempt
      ) order by a.created_at, a.id
    ))
    from after a
    where a.credits > 0 and not jobcast.is_final(a.status)
    having count(*) > 0;
  end if;
  return null;
end
$$;

create or replace function jobcast.tg_jobs__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if exists (select from after where credits > 0) then
    perform jobcast.post_credits(jsonb_agg(
      jsonb_build_object(
        'owner_id', a.owner_id,
        'kind', case when a.attempt > b.attempt then 'charge' else 'refund' end,
        'amount', case when a.attempt > b.attempt then -a.credits else a.credits end,
        'job_id', a.id,
        'attempt', a.attempt
      ) order by a.created_at, a.id
    ))
    from after a
    join before b on b.id = a.id
    where a.credits > 0 and (
      a.attempt > b.attempt
      or (a.status <> b.status and a.status in ('failed', 'cancelled', 'timeout'))
    )
    having count(*) > 0;
  end if;
  return null;
end
$$;

create or replace function jobcast.tg_jobs__note_batch_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
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

create or replace function jobcast.tg_batch_changes__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_relid <> 'jobcast.batch_changes'::regclass then
    raise exception 'this function is for triggers of jobcast.batch_changes' using errcode = '42501';
  end if;
  -- The first note settles all of this transaction's, in the order of the batches, so that two
  -- transactions about the same batches cannot deadlock; the other notes find nothing left.
  perform jobcast.settle_batch_changes(c.batch_id)
  from (
    select n.batch_id from jobcast.batch_changes n where n.xid = pg_current_xact_id() order by n.batch_id
  ) c;
  return null;
end
$$;

-- What they call runs as whoever calls it: inside them, and inside the two below, as the owner.
alter function jobcast.lock_credit_accounts(text[]) security invoker;
alter function jobcast.post_credits(jsonb) security invoker;
alter function jobcast.settle_batch_changes(uuid) security invoker;

-- Those that a producer may be given.
alter function jobcast.create_batch(text, text, jsonb, text, bytea, text) security definer;
alter function jobcast.grant_credits(text, bigint, text, text, bytea) security definer;
revoke execute on function jobcast.create_batch(text, text, jsonb, text, bytea, text) from public;
