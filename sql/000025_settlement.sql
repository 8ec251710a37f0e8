-- additive: what is new in the ledger is read as any other entry

-- What an attempt has really cost is settled when it ends, accounts may be adjusted by hand, and the
-- credits of a job are what the ledger says of it.

alter table jobcast.jobs
  add column cost integer,
  add constraint cost_not_negative check (cost >= 0) not valid;

comment on column jobcast.jobs.cost is
  'What the attempt has cost, said with its end: what was charged beyond it is refunded, what is missing is charged. Null: the credits if it completed, else nothing.';

alter table jobcast.credit_accounts
  add column overdraft bigint not null default 0,
  add constraint overdraft_not_negative check (overdraft >= 0) not valid;

comment on column jobcast.credit_accounts.overdraft is
  'How far below zero what a job has cost besides may take the balance. What begins is paid for.';

alter table jobcast.credit_transactions
  drop constraint kind_is_known,
  drop constraint amount_matches_kind,
  drop constraint balance_not_negative,
  drop constraint job_matches_kind,
  add constraint kind_is_known
    check (kind in ('charge', 'refund', 'settlement', 'grant', 'adjustment')) not valid,
  add constraint amount_matches_kind check (
    amount <> 0 and (kind = 'adjustment' or (kind in ('charge', 'settlement')) = (amount < 0))
  ) not valid,
  add constraint balance_not_negative
    check (balance_after >= 0 or amount > 0 or kind in ('settlement', 'adjustment')) not valid,
  add constraint job_matches_kind check (
    case kind
      when 'grant' then job_id is null and attempt is null
      when 'adjustment' then attempt is null
      else job_id is not null and attempt is not null
    end
  ) not valid;

drop trigger _100_follow_the_ledger on jobcast.credit_accounts;
-- The constraints alone would let an account go back to an earlier entry.
create trigger _100_follow_the_ledger before update on jobcast.credit_accounts
  for each row
  when (
    (new.owner_id, new.last_entry, new.balance) is distinct from (old.owner_id, old.last_entry, old.balance)
    and (new.owner_id <> old.owner_id or new.last_entry is null or new.last_entry <= old.last_entry)
  )
  execute function jobcast.tg_credit_accounts__refuse();

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
    set (status, progress, stage, message, counts, result, error, cost, title, metadata) = (
      select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error, n.cost, n.title, n.metadata
      from jsonb_populate_record(j, update_job.patch - 'attempt') n
    )
    where j.id = update_job.id and j.attempt = coalesce(update_job.attempt, j.attempt)
      and (v_version is null or j.version = v_version)
    returning j.* into v_job;
  else
    -- Without these two nothing has to look at what may be large in them.
    update jobcast.jobs j
    set (status, progress, stage, message, counts, result, error, cost) = (
      select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error, n.cost
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
          where jobcast.spelled(p ->> 'status') in ('failed', 'cancelled', 'timeout') or p ? 'cost'
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
      set (status, progress, stage, message, counts, result, error, cost) = (
        select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error, n.cost
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

create or replace function jobcast.post_credits(postings jsonb) returns setof jobcast.credit_transactions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_short record;
begin
  perform jobcast.lock_credit_accounts(array(
    select p.owner_id from jsonb_to_recordset(post_credits.postings) p (owner_id text)
  ));
  -- All of a statement at once: who creates a batch learns what all of it needs.
  select a.owner_id, a.balance, -sum(p.amount) as needed into v_short
    from jsonb_to_recordset(post_credits.postings) p (
      owner_id text, kind text, amount bigint, may_overdraw boolean
    )
    join jobcast.credit_accounts a on a.owner_id = p.owner_id
    group by a.owner_id
    -- What begins is paid for; what it has cost besides may be owed, as far as the account allows.
    having sum(p.amount) < 0 and not coalesce(bool_or(p.may_overdraw), false)
      and a.balance + sum(p.amount) < case when bool_or(p.kind = 'charge') then 0 else -a.overdraft end
    order by a.owner_id
    limit 1;
  if found then
    raise exception '% credits are needed, % are there', v_short.needed, v_short.balance
      using errcode = 'JC004',
        detail = jsonb_build_object('needed', v_short.needed, 'balance', v_short.balance)::text;
  end if;
  return query
    insert into jobcast.credit_transactions (
      owner_id, entry, kind, amount, balance_after, job_id, attempt, reason, idempotency_key, request_hash
    )
    select
      p.owner_id, coalesce(a.last_entry, 0) + row_number() over w, p.kind, p.amount,
      a.balance + sum(p.amount) over w, p.job_id, p.attempt, p.reason, p.idempotency_key, p.request_hash
    from rows from (
      jsonb_to_recordset(post_credits.postings) as (
        owner_id text, kind text, amount bigint, job_id uuid, attempt integer,
        reason text, idempotency_key text, request_hash bytea
      )
    ) with ordinality p (
      owner_id, kind, amount, job_id, attempt, reason, idempotency_key, request_hash, position
    )
    join jobcast.credit_accounts a on a.owner_id = p.owner_id
    -- What comes in first: the balance is negative at no entry.
    window w as (partition by p.owner_id order by p.amount < 0, p.position)
    returning *;
end
$$;

create or replace function jobcast.tg_jobs__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if exists (select from after where credits > 0 or cost > 0) then
    perform jobcast.post_credits(jsonb_agg(
      jsonb_build_object(
        'owner_id', p.owner_id, 'kind', p.kind, 'amount', p.amount, 'job_id', p.id, 'attempt', p.attempt
      ) order by p.created_at, p.id
    ))
    from (
      select a.owner_id, a.id, a.attempt, a.created_at, 'charge' as kind, -a.credits as amount
      from after a
      join before b on b.id = a.id
      where a.credits > 0 and a.attempt > b.attempt
      union all
      select e.owner_id, e.id, e.attempt, e.created_at,
        case when e.due < e.credits then 'refund' else 'settlement' end, e.credits - e.due
      from (
        select a.owner_id, a.id, a.attempt, a.created_at, a.credits,
          coalesce(a.cost, case when a.status = 'completed' then a.credits else 0 end) as due
        from after a
        join before b on b.id = a.id
        where a.attempt = b.attempt and a.status <> b.status and jobcast.is_final(a.status)
      ) e
      where e.due <> e.credits
    ) p
    having count(*) > 0;
  end if;
  return null;
end
$$;

comment on function jobcast.tg_jobs__settle() is
  'At the end of an attempt refunds what was charged beyond its cost, or charges what is missing, whoever ended it; charges a retry again or refuses it.';

create function jobcast.adjust_credits(
  owner_id text,
  amount bigint,
  reason text,
  job_id uuid default null,
  may_overdraw boolean default false,
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
  if adjust_credits.amount is null or adjust_credits.amount = 0 or coalesce(adjust_credits.reason, '') = '' then
    raise exception 'an adjustment has an amount and a reason' using errcode = '22023';
  end if;
  perform jobcast.lock_credit_accounts(array[adjust_credits.owner_id]);
  if adjust_credits.idempotency_key is not null then
    select e.* into v_entry from jobcast.credit_transactions e
      where e.owner_id = adjust_credits.owner_id and e.idempotency_key = adjust_credits.idempotency_key;
    if found and v_entry.request_hash is distinct from adjust_credits.request_hash then
      raise exception 'the idempotency key % was used for another request', adjust_credits.idempotency_key
        using errcode = 'JC006';
    elsif found then
      return v_entry;
    end if;
  end if;
  if adjust_credits.job_id is not null and not exists (
    select from jobcast.jobs j where j.id = adjust_credits.job_id and j.owner_id = adjust_credits.owner_id
  ) and not exists (
    select from jobcast.credit_transactions e
    where e.job_id = adjust_credits.job_id and e.owner_id = adjust_credits.owner_id
  ) then
    raise exception 'no job % of %', adjust_credits.job_id, adjust_credits.owner_id using errcode = 'JC002';
  end if;
  if exists (
    select from jobcast.credit_accounts a
    where a.owner_id = adjust_credits.owner_id
      and a.balance not between adjust_credits.amount - jobcast.max_balance()
        and jobcast.max_balance() - adjust_credits.amount
  ) then
    raise exception 'an account has at most % credits', jobcast.max_balance() using errcode = '22003';
  end if;
  select e.* into v_entry from jobcast.post_credits(jsonb_build_array(jsonb_build_object(
    'owner_id', adjust_credits.owner_id, 'kind', 'adjustment', 'amount', adjust_credits.amount,
    'job_id', adjust_credits.job_id, 'reason', adjust_credits.reason,
    'may_overdraw', adjust_credits.may_overdraw,
    'idempotency_key', adjust_credits.idempotency_key, 'request_hash', adjust_credits.request_hash
  ))) e;
  return v_entry;
end
$$;

comment on function jobcast.adjust_credits(text, bigint, text, uuid, boolean, text, bytea) is
  'An entry by hand, in either direction, with a reason. Said again with the same idempotency key, it counts once.';
revoke execute on function jobcast.adjust_credits(text, bigint, text, uuid, boolean, text, bytea) from public;

create function jobcast.set_overdraft(owner_id text, overdraft bigint) returns jobcast.credit_accounts
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_account jobcast.credit_accounts;
begin
  perform jobcast.lock_credit_accounts(array[set_overdraft.owner_id]);
  update jobcast.credit_accounts a set overdraft = set_overdraft.overdraft
    where a.owner_id = set_overdraft.owner_id
    returning a.* into v_account;
  return v_account;
end
$$;

comment on function jobcast.set_overdraft(text, bigint) is 'How far below zero settlements may take an account.';

create function jobcast.credits_of(job_id uuid) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_credits jsonb;
begin
  -- A worker need not be allowed to read the ledger.
  if has_table_privilege('jobcast.credit_transactions', 'select') then
    select jsonb_build_object(
        'charged', coalesce(-sum(e.amount) filter (where e.amount < 0), 0),
        'refunded', coalesce(sum(e.amount) filter (where e.amount > 0), 0)
      )
      into v_credits
      from jobcast.credit_transactions e
      where e.job_id = credits_of.job_id;
  end if;
  return v_credits;
end
$$;

comment on function jobcast.credits_of(uuid) is
  'What all attempts of a job together were charged and refunded; null for who may not read the ledger.';
