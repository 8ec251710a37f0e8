-- Accounts and an append-only ledger. The ledger is a chain: each entry names the balance it found
-- and the one it left, and the account follows it to its last entry and nowhere else. So the sum of
-- an owner's entries is its balance by constraint, whoever writes. A charge exists once for each
-- attempt of a job, and so does its refund.
-- JC004: too few credits. JC006: an idempotency key that was used for another grant.

create table jobcast.credit_accounts (
  owner_id text not null primary key,
  balance bigint not null default 0,
  last_entry bigint,
  updated_at timestamptz not null default clock_timestamp(),
  constraint empty_without_entries check (last_entry is not null or balance = 0)
);

create table jobcast.credit_transactions (
  id uuid not null default jobcast.uuid_v7() primary key,
  owner_id text not null references jobcast.credit_accounts (owner_id),
  entry bigint not null,
  kind text not null,
  amount bigint not null,
  balance_before bigint not null generated always as (balance_after - amount) stored,
  balance_after bigint not null,
  previous_entry bigint generated always as (nullif(entry - 1, 0)) stored,
  job_id uuid,
  attempt integer,
  refunded_kind text generated always as (case when kind = 'refund' then 'charge' end) stored,
  reason text,
  idempotency_key text,
  request_hash bytea,
  created_at timestamptz not null default clock_timestamp(),
  constraint credit_transactions_one_after_the_other unique (owner_id, entry),
  constraint credit_transactions_balance unique (owner_id, entry, balance_after),
  constraint credit_transactions_chain foreign key (owner_id, previous_entry, balance_before)
    references jobcast.credit_transactions (owner_id, entry, balance_after),
  constraint credit_transactions_idempotency_key unique (owner_id, idempotency_key),
  constraint entry_positive check (entry > 0),
  constraint first_entry_finds_nothing check (entry > 1 or balance_before = 0),
  constraint kind_is_known check (kind in ('charge', 'refund', 'grant')),
  constraint amount_matches_kind check ((kind = 'charge') = (amount < 0) and amount <> 0),
  constraint balance_not_negative check (balance_after >= 0),
  constraint job_matches_kind check ((kind = 'grant') = (job_id is null) and (job_id is null) = (attempt is null)),
  constraint once_for_each_attempt unique (job_id, attempt, kind),
  constraint refund_of_a_charge foreign key (job_id, attempt, refunded_kind)
    references jobcast.credit_transactions (job_id, attempt, kind)
);

comment on table jobcast.credit_transactions is
  'The ledger: signed amounts, append-only. It outlives the jobs that it names.';

alter table jobcast.credit_accounts
  add constraint credit_accounts_last_entry foreign key (owner_id, last_entry, balance)
    references jobcast.credit_transactions (owner_id, entry, balance_after);

create function jobcast.tg_credit_transactions__refuse() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the ledger is append-only: post a refund or a grant instead' using errcode = 'JC005';
end
$$;

create function jobcast.tg_credit_transactions__move_accounts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update jobcast.credit_accounts a
    set balance = e.balance_after, last_entry = e.entry, updated_at = e.created_at
    from (
      select distinct on (i.owner_id) i.* from inserted i order by i.owner_id, i.entry desc
    ) e
    where a.owner_id = e.owner_id;
  return null;
end
$$;

create function jobcast.tg_credit_accounts__refuse() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the account of % follows its ledger and nothing else', old.owner_id using errcode = 'JC005';
end
$$;

create trigger _100_append_only before update or delete or truncate on jobcast.credit_transactions
  for each statement execute function jobcast.tg_credit_transactions__refuse();
create trigger _200_move_accounts after insert on jobcast.credit_transactions
  referencing new table as inserted
  for each statement execute function jobcast.tg_credit_transactions__move_accounts();
-- The constraints alone would let an account go back to an earlier entry.
create trigger _100_follow_the_ledger before update on jobcast.credit_accounts
  for each row
  when (new.owner_id <> old.owner_id or new.last_entry is null or new.last_entry <= old.last_entry)
  execute function jobcast.tg_credit_accounts__refuse();

-- Security definer, like the other two that write accounts and ledger: whoever may write jobs
-- charges and refunds with them, and nothing else.
create function jobcast.lock_credit_accounts(owner_ids text[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In the order of the owners, so that two statements about several cannot deadlock.
  insert into jobcast.credit_accounts (owner_id)
    select distinct o.owner_id from unnest(lock_credit_accounts.owner_ids) o (owner_id) order by 1
    on conflict do nothing;
  perform from jobcast.credit_accounts a
    where a.owner_id = any (lock_credit_accounts.owner_ids)
    order by a.owner_id for update;
end
$$;

create function jobcast.post_credits(postings jsonb) returns setof jobcast.credit_transactions
language plpgsql security definer
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
    from jsonb_to_recordset(post_credits.postings) p (owner_id text, amount bigint)
    join jobcast.credit_accounts a on a.owner_id = p.owner_id
    group by a.owner_id
    having a.balance + sum(p.amount) < 0
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

comment on function jobcast.post_credits(jsonb) is
  'Entries of the ledger, all or none: [{"owner_id", "kind", "amount", "job_id"?, "attempt"?, "reason"?, "idempotency_key"?, "request_hash"?}, ...].';

create function jobcast.tg_jobs__charge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
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

create function jobcast.tg_jobs__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
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

comment on function jobcast.tg_jobs__settle() is
  'Refunds what failed, was cancelled or timed out, whoever ended it, and charges a retry again or refuses it.';

create trigger _600_charge after insert on jobcast.jobs
  referencing new table as after
  for each statement execute function jobcast.tg_jobs__charge();
create trigger _600_settle after update on jobcast.jobs
  referencing old table as before new table as after
  for each statement execute function jobcast.tg_jobs__settle();

create function jobcast.grant_credits(
  owner_id text,
  amount bigint,
  reason text default null,
  idempotency_key text default null,
  request_hash bytea default null
) returns jobcast.credit_transactions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_entry jobcast.credit_transactions;
begin
  if grant_credits.amount is null or grant_credits.amount <= 0 then
    raise exception 'a grant is of at least one credit, not %', grant_credits.amount using errcode = '22023';
  end if;
  if grant_credits.idempotency_key is not null then
    -- Of equal requests that come at once the others wait here for the first one's commit.
    perform jobcast.lock_credit_accounts(array[grant_credits.owner_id]);
    select e.* into v_entry from jobcast.credit_transactions e
      where e.owner_id = grant_credits.owner_id and e.idempotency_key = grant_credits.idempotency_key;
    if found and v_entry.request_hash is distinct from grant_credits.request_hash then
      raise exception 'the idempotency key % was used for another request', grant_credits.idempotency_key
        using errcode = 'JC006';
    elsif found then
      return v_entry;
    end if;
  end if;
  select e.* into v_entry from jobcast.post_credits(jsonb_build_array(jsonb_build_object(
    'owner_id', grant_credits.owner_id, 'kind', 'grant', 'amount', grant_credits.amount,
    'reason', grant_credits.reason, 'idempotency_key', grant_credits.idempotency_key,
    'request_hash', grant_credits.request_hash
  ))) e;
  return v_entry;
end
$$;

comment on function jobcast.grant_credits is
  'Tops an account up. Said again with the same idempotency key, it counts once and gives back the first entry.';

revoke execute on function jobcast.lock_credit_accounts(text[]) from public;
revoke execute on function jobcast.post_credits(jsonb) from public;
revoke execute on function jobcast.grant_credits(text, bigint, text, text, bytea) from public;
