-- Accounts and an append-only ledger. The ledger is a chain: each entry names the balance it found
-- and the one it left, and the account points at the last. So the sum of an owner's entries is its
-- balance by constraint, whoever writes. A charge and a refund exist once for each attempt of a job.
-- JC004: too few credits.

create table jobcast.credit_transactions (
  id uuid not null default jobcast.uuid_v7() primary key,
  owner_id text not null,
  entry bigint not null,
  kind text not null,
  amount bigint not null,
  balance_before bigint not null generated always as (balance_after - amount) stored,
  balance_after bigint not null,
  previous_entry bigint generated always as (nullif(entry - 1, 0)) stored,
  job_id uuid,
  attempt integer,
  reason text,
  created_at timestamptz not null default clock_timestamp(),
  constraint credit_transactions_one_after_the_other unique (owner_id, entry),
  constraint credit_transactions_balance unique (owner_id, entry, balance_after),
  constraint credit_transactions_chain foreign key (owner_id, previous_entry, balance_before)
    references jobcast.credit_transactions (owner_id, entry, balance_after),
  constraint entry_positive check (entry > 0),
  constraint first_entry_finds_nothing check (entry > 1 or balance_before = 0),
  constraint kind_is_known check (kind in ('charge', 'refund', 'grant')),
  constraint amount_matches_kind check ((kind = 'charge') = (amount < 0) and amount <> 0),
  constraint balance_not_negative check (balance_after >= 0),
  constraint job_matches_kind check ((kind = 'grant') = (job_id is null) and (job_id is null) = (attempt is null)),
  constraint once_for_each_attempt unique (job_id, attempt, kind)
);

comment on table jobcast.credit_transactions is
  'The ledger: signed amounts, append-only. It outlives the jobs that it names.';

create table jobcast.credit_accounts (
  owner_id text not null primary key,
  balance bigint not null default 0,
  last_entry bigint,
  updated_at timestamptz not null default clock_timestamp(),
  constraint credit_accounts_last_entry foreign key (owner_id, last_entry, balance)
    references jobcast.credit_transactions (owner_id, entry, balance_after),
  constraint empty_without_entries check (last_entry is not null or balance = 0)
);

create function jobcast.tg_credit_transactions__refuse() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the ledger is append-only: post a refund or a grant instead' using errcode = 'JC005';
end
$$;

create trigger _100_append_only before update or delete or truncate on jobcast.credit_transactions
  for each statement execute function jobcast.tg_credit_transactions__refuse();

-- Security definer: whoever may write jobs charges and refunds with them, and nothing else.
create function jobcast.post_credits(
  owner_id text, kind text, amount bigint, job_id uuid, attempt integer, reason text
) returns jobcast.credit_transactions
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_account jobcast.credit_accounts;
  v_entry jobcast.credit_transactions;
begin
  insert into jobcast.credit_accounts (owner_id) values (post_credits.owner_id) on conflict do nothing;
  select * into v_account from jobcast.credit_accounts a
    where a.owner_id = post_credits.owner_id for update;
  if v_account.balance + post_credits.amount < 0 then
    raise exception '% credits are needed, % are there', -post_credits.amount, v_account.balance
      using errcode = 'JC004',
        detail = jsonb_build_object('needed', -post_credits.amount, 'balance', v_account.balance)::text;
  end if;
  insert into jobcast.credit_transactions (owner_id, entry, kind, amount, balance_after, job_id, attempt, reason)
  values (
    post_credits.owner_id, coalesce(v_account.last_entry, 0) + 1, post_credits.kind, post_credits.amount,
    v_account.balance + post_credits.amount, post_credits.job_id, post_credits.attempt, post_credits.reason
  )
  returning * into v_entry;
  update jobcast.credit_accounts a
    set balance = v_entry.balance_after, last_entry = v_entry.entry, updated_at = v_entry.created_at
    where a.owner_id = post_credits.owner_id;
  return v_entry;
end
$$;

revoke execute on function jobcast.post_credits(text, text, bigint, uuid, integer, text) from public;

create function jobcast.tg_jobs__charge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In the order of the owners, so that two statements about several cannot deadlock.
  perform jobcast.post_credits(a.owner_id, 'charge', -a.credits, a.id, a.attempt, null)
  from (select * from after where credits > 0 and not jobcast.is_final(status) order by owner_id, id) a;
  return null;
end
$$;

create function jobcast.tg_jobs__settle() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform jobcast.post_credits(
    s.owner_id,
    case when s.is_retry then 'charge' else 'refund' end,
    case when s.is_retry then -s.credits else s.credits end,
    s.id, s.attempt, null
  )
  from (
    select a.owner_id, a.credits, a.id, a.attempt, a.attempt > b.attempt as is_retry
    from after a
    join before b on b.id = a.id
    where a.credits > 0 and (
      a.attempt > b.attempt
      or (a.status <> b.status and a.status in ('failed', 'cancelled', 'timeout'))
    )
    order by a.owner_id, a.id
  ) s;
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

create function jobcast.grant_credits(owner_id text, amount bigint, reason text default null)
returns jobcast.credit_transactions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if grant_credits.amount is null or grant_credits.amount <= 0 then
    raise exception 'a grant is of at least one credit, not %', grant_credits.amount using errcode = '22023';
  end if;
  return jobcast.post_credits(grant_credits.owner_id, 'grant', grant_credits.amount, null, null, grant_credits.reason);
end
$$;

revoke execute on function jobcast.grant_credits(text, bigint, text) from public;
