-- Written by `npm run schema` from the migrations in sql/. Do not edit.

create schema jobcast;

create table jobcast.batch_changes (
  batch_id uuid not null,
  xid xid8 not null default pg_current_xact_id(),
  total integer not null,
  completed integer not null,
  failed integer not null,
  cancelled integer not null,
  started integer not null,
  progress_sum numeric not null,
  constraint batch_changes_pkey PRIMARY KEY (xid, batch_id),
  constraint batch_changes_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES jobcast.batches(id) ON DELETE CASCADE
);
CREATE CONSTRAINT TRIGGER _900_settle AFTER INSERT ON jobcast.batch_changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION jobcast.tg_batch_changes__settle();
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.batch_changes FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.batch_changes FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on table jobcast.batch_changes is 'What open transactions will add to their batches when they commit; empty when nobody writes.';

create table jobcast.batches (
  id uuid not null default jobcast.uuid_v7(),
  owner_id text not null,
  title text,
  total integer not null default 0,
  completed integer not null default 0,
  failed integer not null default 0,
  cancelled integer not null default 0,
  started integer not null default 0,
  progress_sum numeric not null default 0,
  progress double precision not null generated always as 
CASE
    WHEN (total = 0) THEN (0)::double precision
    ELSE (round((progress_sum / (total)::numeric), 2))::double precision
END stored,
  status text not null generated always as 
CASE
    WHEN ((total > 0) AND ((completed + failed) >= total)) THEN
    CASE
        WHEN (completed > 0) THEN 'completed'::text
        WHEN (cancelled >= total) THEN 'cancelled'::text
        ELSE 'failed'::text
    END
    WHEN (started > 0) THEN 'processing'::text
    ELSE 'pending'::text
END stored,
  estimated_seconds_remaining integer,
  version bigint not null default 1,
  idempotency_key text,
  request_hash bytea,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  metadata jsonb,
  ran_seconds double precision not null default 0,
  constraint batches_pkey PRIMARY KEY (id),
  constraint batches_idempotency_key UNIQUE (owner_id, idempotency_key),
  constraint batches_of_owner UNIQUE (id, owner_id),
  constraint batch_metadata_is_object CHECK (jsonb_typeof(metadata) = 'object'::text),
  constraint batch_owner_id_length CHECK (length(owner_id) >= 1 AND length(owner_id) <= 255)
);
CREATE INDEX batches_by_created ON jobcast.batches USING btree (created_at DESC, id DESC);
CREATE INDEX batches_by_key ON jobcast.batches USING btree (created_at) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX batches_by_owner ON jobcast.batches USING btree (owner_id, created_at DESC, id DESC);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.batches FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.batches FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
CREATE TRIGGER _200_assert_limits BEFORE INSERT OR UPDATE OF title ON jobcast.batches FOR EACH ROW EXECUTE FUNCTION jobcast.tg_batches__assert_limits();
comment on column jobcast.batches.failed is 'Jobs that ended otherwise than completed: failed, cancelled or timeout.';
comment on column jobcast.batches.progress_sum is 'The sum of the jobs'' progress; a job that ended counts as 100.';
comment on column jobcast.batches.ran_seconds is 'How long one of its jobs or more was processing, up to updated_at.';
comment on column jobcast.batches.started is 'Jobs that are past queued.';

create table jobcast.credit_accounts (
  owner_id text not null,
  balance bigint not null default 0,
  last_entry bigint,
  updated_at timestamp with time zone not null default clock_timestamp(),
  overdraft bigint not null default 0,
  constraint credit_accounts_pkey PRIMARY KEY (owner_id),
  constraint credit_accounts_last_entry FOREIGN KEY (owner_id, last_entry, balance) REFERENCES jobcast.credit_transactions(owner_id, entry, balance_after),
  constraint empty_without_entries CHECK (last_entry IS NOT NULL OR balance = 0),
  constraint overdraft_not_negative CHECK (overdraft >= 0) NOT VALID
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.credit_accounts FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.credit_accounts FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
CREATE TRIGGER _100_follow_the_ledger BEFORE UPDATE ON jobcast.credit_accounts FOR EACH ROW WHEN ((new.owner_id IS DISTINCT FROM old.owner_id OR new.last_entry IS DISTINCT FROM old.last_entry OR new.balance IS DISTINCT FROM old.balance) AND (new.owner_id <> old.owner_id OR new.last_entry IS NULL OR new.last_entry <= old.last_entry)) EXECUTE FUNCTION jobcast.tg_credit_accounts__refuse();
comment on column jobcast.credit_accounts.overdraft is 'How far below zero what a job has cost besides may take the balance. What begins is paid for.';

create table jobcast.credit_transactions (
  id uuid not null default jobcast.uuid_v7(),
  owner_id text not null,
  entry bigint not null,
  kind text not null,
  amount bigint not null,
  balance_before bigint not null generated always as (balance_after - amount) stored,
  balance_after bigint not null,
  previous_entry bigint generated always as NULLIF((entry - 1), 0) stored,
  job_id uuid,
  attempt integer,
  refunded_kind text generated always as 
CASE
    WHEN (kind = 'refund'::text) THEN 'charge'::text
    ELSE NULL::text
END stored,
  reason text,
  idempotency_key text,
  request_hash bytea,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint credit_transactions_pkey PRIMARY KEY (id),
  constraint credit_transactions_balance UNIQUE (owner_id, entry, balance_after),
  constraint credit_transactions_idempotency_key UNIQUE (owner_id, idempotency_key),
  constraint credit_transactions_one_after_the_other UNIQUE (owner_id, entry),
  constraint once_for_each_attempt UNIQUE (job_id, attempt, kind),
  constraint credit_transactions_chain FOREIGN KEY (owner_id, previous_entry, balance_before) REFERENCES jobcast.credit_transactions(owner_id, entry, balance_after),
  constraint credit_transactions_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES jobcast.credit_accounts(owner_id),
  constraint refund_of_a_charge FOREIGN KEY (job_id, attempt, refunded_kind) REFERENCES jobcast.credit_transactions(job_id, attempt, kind),
  constraint amount_matches_kind CHECK (amount <> 0 AND (kind = 'adjustment'::text OR (kind = ANY (ARRAY['charge'::text, 'settlement'::text])) = (amount < 0))) NOT VALID,
  constraint balance_not_negative CHECK (balance_after >= 0 OR amount > 0 OR (kind = ANY (ARRAY['settlement'::text, 'adjustment'::text]))) NOT VALID,
  constraint entry_positive CHECK (entry > 0),
  constraint first_entry_finds_nothing CHECK (entry > 1 OR balance_before = 0),
  constraint job_matches_kind CHECK (
CASE kind
    WHEN 'grant'::text THEN job_id IS NULL AND attempt IS NULL
    WHEN 'adjustment'::text THEN attempt IS NULL
    ELSE job_id IS NOT NULL AND attempt IS NOT NULL
END) NOT VALID,
  constraint kind_is_known CHECK (kind = ANY (ARRAY['charge'::text, 'refund'::text, 'settlement'::text, 'grant'::text, 'adjustment'::text])) NOT VALID,
  constraint reason_size CHECK (octet_length(reason) <= 4096) NOT VALID
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.credit_transactions FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON jobcast.credit_transactions FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_credit_transactions__refuse();
CREATE TRIGGER _200_move_accounts AFTER INSERT ON jobcast.credit_transactions REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_credit_transactions__move_accounts();
comment on table jobcast.credit_transactions is 'The ledger: signed amounts, append-only. It outlives the jobs that it names.';

create table jobcast.deletions (
  job_id uuid not null,
  version bigint not null,
  status text not null,
  owner_id text not null,
  batch_id uuid,
  xid xid8 not null default pg_current_xact_id(),
  occurred_at timestamp with time zone not null default clock_timestamp(),
  constraint deletions_pkey PRIMARY KEY (xid, job_id)
);
CREATE INDEX deletions_by_time ON jobcast.deletions USING btree (occurred_at);
CREATE TRIGGER _050_refuse_strangers BEFORE DELETE OR UPDATE ON jobcast.deletions FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.deletions FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
CREATE TRIGGER _900_ring AFTER INSERT ON jobcast.deletions REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__ring();
comment on column jobcast.deletions.status is 'The last that the job had.';
comment on column jobcast.deletions.version is 'The one after the last that the job had.';
comment on table jobcast.deletions is 'Append-only: one row for each job that was deleted, and removed after a while.';

create table jobcast.job_types (
  type text not null,
  timeout_seconds integer,
  timeout_extends boolean not null default false,
  constraint job_types_pkey PRIMARY KEY (type),
  constraint type_timeout_seconds_positive CHECK (timeout_seconds > 0)
);
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.job_types FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on table jobcast.job_types is 'Defaults by type, for jobs that say no timeout of their own. Fill it with plain SQL; a type need not be here.';

create table jobcast.jobs (
  id uuid not null default jobcast.uuid_v7(),
  owner_id text not null,
  type text not null,
  title text,
  status text not null default 'pending'::text,
  progress double precision not null default 0,
  stage text,
  message text,
  counts jsonb,
  params jsonb,
  result jsonb,
  error jsonb,
  metadata jsonb,
  batch_id uuid,
  attempt integer not null default 1,
  version bigint not null default 1,
  credits integer not null default 0,
  idempotency_key text,
  request_hash bytea,
  timeout_seconds integer,
  timeout_extends boolean not null default false,
  timeout_at timestamp with time zone,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  bytes integer,
  cost integer,
  events integer not null default 0,
  event_name text,
  event_data jsonb,
  constraint jobs_pkey PRIMARY KEY (id),
  constraint jobs_idempotency_key UNIQUE (owner_id, idempotency_key),
  constraint batch_of_the_same_owner FOREIGN KEY (batch_id, owner_id) REFERENCES jobcast.batches(id, owner_id),
  constraint cost_not_negative CHECK (cost >= 0) NOT VALID,
  constraint counts_shape CHECK (jobcast.is_counts(counts)),
  constraint credits_not_negative CHECK (credits >= 0),
  constraint error_shape CHECK (jobcast.is_error(error)),
  constraint event_data_size CHECK (octet_length(event_data::text) <= 65536) NOT VALID,
  constraint event_has_a_name CHECK (event_name IS NOT NULL OR event_data IS NULL) NOT VALID,
  constraint event_name_is_free CHECK (event_name ~ '^[A-Za-z][A-Za-z0-9_.:-]{0,63}$'::text AND (lower(event_name) <> ALL (ARRAY['status'::text, 'batch'::text, 'reset'::text, 'deleted'::text, 'ready'::text, 'ping'::text, 'close'::text, 'message'::text, 'open'::text, 'error'::text]))) NOT VALID,
  constraint events_bounded CHECK (events >= 0 AND events <= 1000) NOT VALID,
  constraint finished_at_matches_status CHECK ((finished_at IS NOT NULL) = (status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'timeout'::text]))),
  constraint metadata_is_object CHECK (jsonb_typeof(metadata) = 'object'::text),
  constraint owner_id_length CHECK (length(owner_id) >= 1 AND length(owner_id) <= 255),
  constraint progress_is_percent CHECK (progress >= 0::double precision AND progress <= 100::double precision),
  constraint status_is_known CHECK (status = ANY (ARRAY['pending'::text, 'queued'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'timeout'::text])),
  constraint timeout_seconds_positive CHECK (timeout_seconds > 0),
  constraint type_length CHECK (length(type) >= 1 AND length(type) <= 255)
);
CREATE INDEX jobs_by_batch ON jobcast.jobs USING btree (batch_id, created_at DESC, id DESC) WHERE (batch_id IS NOT NULL);
CREATE INDEX jobs_by_created ON jobcast.jobs USING btree (created_at DESC, id DESC);
CREATE INDEX jobs_by_deadline ON jobcast.jobs USING btree (timeout_at) WHERE ((timeout_at IS NOT NULL) AND (status = ANY (ARRAY['pending'::text, 'queued'::text, 'processing'::text])));
CREATE INDEX jobs_by_end ON jobcast.jobs USING btree (status, finished_at, id) WHERE (finished_at IS NOT NULL);
CREATE INDEX jobs_by_key ON jobcast.jobs USING btree (created_at) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX jobs_by_owner ON jobcast.jobs USING btree (owner_id, created_at DESC, id DESC);
CREATE INDEX jobs_by_owner_status ON jobcast.jobs USING btree (owner_id, status, created_at DESC, id DESC);
CREATE INDEX jobs_by_owner_type ON jobcast.jobs USING btree (owner_id, type, created_at DESC, id DESC);
CREATE INDEX jobs_by_owner_type_status ON jobcast.jobs USING btree (owner_id, type, status, created_at DESC, id DESC);
CREATE INDEX jobs_by_status ON jobcast.jobs USING btree (status, created_at DESC, id DESC);
CREATE INDEX jobs_by_type ON jobcast.jobs USING btree (type, created_at DESC, id DESC);
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.jobs FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
CREATE TRIGGER _100_on_delete BEFORE DELETE ON jobcast.jobs FOR EACH ROW EXECUTE FUNCTION jobcast.tg_jobs__on_delete();
CREATE TRIGGER _100_on_insert BEFORE INSERT ON jobcast.jobs FOR EACH ROW EXECUTE FUNCTION jobcast.tg_jobs__on_insert();
CREATE TRIGGER _100_on_update BEFORE UPDATE ON jobcast.jobs FOR EACH ROW EXECUTE FUNCTION jobcast.tg_jobs__on_update();
CREATE TRIGGER _150_on_relabel BEFORE UPDATE OF title, metadata ON jobcast.jobs FOR EACH ROW EXECUTE FUNCTION jobcast.tg_jobs__on_relabel();
CREATE TRIGGER _200_assert_counts_on_insert BEFORE INSERT ON jobcast.jobs FOR EACH ROW WHEN (new.counts IS NOT NULL AND jobcast.is_counts(new.counts)) EXECUTE FUNCTION jobcast.tg_jobs__assert_counts();
CREATE TRIGGER _200_assert_counts_on_update BEFORE UPDATE OF counts ON jobcast.jobs FOR EACH ROW WHEN (new.counts IS NOT NULL AND new.counts IS DISTINCT FROM old.counts AND jobcast.is_counts(new.counts)) EXECUTE FUNCTION jobcast.tg_jobs__assert_counts();
CREATE TRIGGER _200_assert_limits BEFORE INSERT OR UPDATE OF title, params, metadata ON jobcast.jobs FOR EACH ROW EXECUTE FUNCTION jobcast.tg_jobs__assert_limits();
CREATE TRIGGER _500_append_history_on_insert AFTER INSERT ON jobcast.jobs REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__append_history();
CREATE TRIGGER _500_append_history_on_update AFTER UPDATE ON jobcast.jobs REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__append_history();
CREATE TRIGGER _500_note_deletions AFTER DELETE ON jobcast.jobs REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__note_deletions();
CREATE TRIGGER _550_note_batch_changes_on_insert AFTER INSERT ON jobcast.jobs REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__note_batch_changes();
CREATE TRIGGER _550_note_batch_changes_on_update AFTER UPDATE ON jobcast.jobs REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__note_batch_changes();
CREATE TRIGGER _600_charge AFTER INSERT ON jobcast.jobs REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__charge();
CREATE TRIGGER _600_settle AFTER UPDATE ON jobcast.jobs REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg_jobs__settle();
comment on column jobcast.jobs.attempt is 'Rises by one with every retry; say it in your updates so that a worker of an older attempt is refused.';
comment on column jobcast.jobs.bytes is 'Of stage, message, counts, result and error as text; null where nothing was written since it is counted.';
comment on column jobcast.jobs.cost is 'What the attempt has cost, said with its end: what was charged beyond it is refunded, what is missing is charged. Null: the credits if it completed, else nothing.';
comment on column jobcast.jobs.event_name is 'Of the newest version, if it is such an event.';
comment on column jobcast.jobs.events is 'How many events of their own its producers have told; written by jobcast.emit.';
comment on column jobcast.jobs.request_hash is 'Of the request that made the job under its idempotency key: another request under that key is refused.';
comment on column jobcast.jobs.timeout_extends is 'Whether any update of an unfinished job pushes timeout_at to timeout_seconds from then.';
comment on column jobcast.jobs.version is 'Rises by one with every change of status, progress, stage, message, counts, result, error, title or metadata.';
comment on table jobcast.jobs is 'One row a job: its present state. Update it in your own transaction; every committed change streams.';

create table jobcast.migrations (
  id integer not null,
  name text not null,
  applied_at timestamp with time zone not null default clock_timestamp(),
  is_additive boolean not null default false,
  constraint migrations_pkey PRIMARY KEY (id)
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.migrations FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.migrations FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();

create table jobcast.requests (
  subject_id uuid not null,
  idempotency_key text not null,
  request_hash bytea,
  made_at timestamp with time zone not null default clock_timestamp(),
  job_ids uuid[],
  constraint requests_pkey PRIMARY KEY (subject_id, idempotency_key),
  constraint request_key_length CHECK (length(idempotency_key) >= 1 AND length(idempotency_key) <= 255)
);
CREATE INDEX requests_by_time ON jobcast.requests USING btree (made_at);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.requests FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.requests FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on column jobcast.requests.job_ids is 'The jobs that were made, in the order in which they were named.';
comment on table jobcast.requests is 'The idempotency keys of what was asked of a job or a batch that is there, such as a retry; removed after a while.';

create table jobcast.retention (
  kind text not null,
  position_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  position_id uuid not null default '00000000-0000-0000-0000-000000000000'::uuid,
  removed bigint not null default 0,
  swept_at timestamp with time zone,
  constraint retention_pkey PRIMARY KEY (kind)
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.retention FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.retention FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on column jobcast.retention.position_at is 'Of steps: the end of the last job that was looked at, which is then not looked at again.';
comment on table jobcast.retention is 'What was removed so far, and who is at it: a process that works on a kind has its row locked.';

create table jobcast.signing_keys (
  name text not null,
  secret bytea not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint signing_keys_pkey PRIMARY KEY (name),
  constraint secret_length CHECK (length(secret) >= 32)
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.signing_keys FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.signing_keys FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on table jobcast.signing_keys is 'Secret. Delete a row, and within seconds the tokens that it signed are void and a new key is made.';

create table jobcast.status_history (
  job_id uuid not null,
  version bigint not null,
  attempt integer not null,
  status text not null,
  progress double precision not null,
  stage text,
  message text,
  counts jsonb,
  result jsonb,
  error jsonb,
  estimated_seconds_remaining integer,
  source text not null,
  xid xid8 not null default pg_current_xact_id(),
  occurred_at timestamp with time zone not null default clock_timestamp(),
  bytes integer,
  event_name text,
  event_data jsonb,
  constraint status_history_pkey PRIMARY KEY (job_id, version),
  constraint status_history_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobcast.jobs(id) ON DELETE CASCADE
);
CREATE INDEX status_history_by_xid ON jobcast.status_history USING btree (xid);
CREATE TRIGGER _050_refuse_strangers BEFORE DELETE OR UPDATE ON jobcast.status_history FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.status_history FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
CREATE TRIGGER _900_ring AFTER INSERT ON jobcast.status_history REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__ring();
comment on column jobcast.status_history.bytes is 'Of stage, message, counts, result and error as text, so that readers can stop in time; null in old rows.';
comment on column jobcast.status_history.event_name is 'Of a version that is an event of the producer''s own: what is told instead of the state, which it has too.';
comment on column jobcast.status_history.xid is 'The writing transaction. New to a reader means: not visible in the snapshot of its last read.';
comment on table jobcast.status_history is 'Append-only: one row a version. Streams are read from here and from nowhere else.';

create table jobcast.viewers (
  process_id uuid not null,
  job_id uuid not null,
  owner_id text not null,
  streams integer not null,
  constraint viewers_pkey PRIMARY KEY (process_id, job_id, owner_id),
  constraint viewers_process_id_fkey FOREIGN KEY (process_id) REFERENCES jobcast.viewing_processes(id) ON DELETE CASCADE,
  constraint viewers_streams_check CHECK (streams > 0)
);
CREATE INDEX viewers_by_job ON jobcast.viewers USING btree (job_id);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.viewers FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.viewers FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on table jobcast.viewers is 'Streams that are open, by job and by who watches it; see jobcast.viewing_processes.';

create table jobcast.viewing_processes (
  id uuid not null,
  seen_at timestamp with time zone not null,
  constraint viewing_processes_pkey PRIMARY KEY (id)
);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.viewing_processes FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.viewing_processes FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on column jobcast.viewing_processes.seen_at is 'A process that has said nothing for a while has gone, and its viewers with it.';

create table jobcast.webhook_deliveries (
  job_id uuid not null,
  webhook_id text not null,
  received_at timestamp with time zone not null default clock_timestamp(),
  signer text,
  constraint webhook_deliveries_pkey PRIMARY KEY (job_id, webhook_id),
  constraint webhook_deliveries_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobcast.jobs(id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_by_time ON jobcast.webhook_deliveries USING btree (received_at);
CREATE UNIQUE INDEX webhook_deliveries_once_per_signer ON jobcast.webhook_deliveries USING btree (signer, webhook_id) WHERE (signer IS NOT NULL);
CREATE TRIGGER _050_refuse_strangers BEFORE INSERT OR DELETE OR UPDATE ON jobcast.webhook_deliveries FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_strangers();
CREATE TRIGGER _060_refuse_truncate BEFORE TRUNCATE ON jobcast.webhook_deliveries FOR EACH STATEMENT EXECUTE FUNCTION jobcast.tg__refuse_truncate();
comment on column jobcast.webhook_deliveries.signer is 'Names the secret that signed it, and is not the secret; null where a token of the job was enough.';

CREATE OR REPLACE FUNCTION jobcast.add_jobs(batch_id uuid, jobs jsonb, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea, source text DEFAULT NULL::text)
 RETURNS SETOF uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.add_jobs(uuid,jsonb,text,bytea,text) from public;
comment on function jobcast.add_jobs(pg_catalog.uuid,pg_catalog.jsonb,pg_catalog.text,pg_catalog.bytea,pg_catalog.text) is 'Adds jobs to a batch, as create_batch takes them, and gives back their ids in that order.';

CREATE OR REPLACE FUNCTION jobcast.adjust_credits(owner_id text, amount bigint, reason text, job_id uuid DEFAULT NULL::uuid, may_overdraw boolean DEFAULT false, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea)
 RETURNS jobcast.credit_transactions
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.adjust_credits(text,bigint,text,uuid,boolean,text,bytea) from public;
comment on function jobcast.adjust_credits(pg_catalog.text,bigint,pg_catalog.text,pg_catalog.uuid,boolean,pg_catalog.text,pg_catalog.bytea) is 'An entry by hand, in either direction, with a reason. Said again with the same idempotency key, it counts once.';

CREATE OR REPLACE FUNCTION jobcast.apply_callback(id uuid, patch jsonb, attempt integer DEFAULT NULL::integer, webhook_id text DEFAULT NULL::text, signer text DEFAULT NULL::text)
 RETURNS TABLE(applied boolean, problem text, job jobcast.jobs)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_before jobcast.jobs;
begin
  -- Deliveries for one job wait here for each other. Without this, two that came at once would
  -- both hold the share of the row that their claims' foreign key takes, and want all of it.
  select * into v_before from jobcast.jobs j where j.id = apply_callback.id for update;
  if not found then
    return query select false, 'JC002', null::jobcast.jobs;
    return;
  end if;
  if apply_callback.webhook_id is not null then
    if exists (
      select from jobcast.webhook_deliveries d
      where d.webhook_id = apply_callback.webhook_id
        and (d.job_id = apply_callback.id or d.signer = apply_callback.signer)
    ) then
      return query select false, 'duplicate', v_before;
      return;
    end if;
    if apply_callback.attempt is not null and apply_callback.attempt <> v_before.attempt then
      -- Not claimed: it was for somebody else, who may yet get it.
      return query select false, 'JC003', v_before;
      return;
    end if;
    insert into jobcast.webhook_deliveries (job_id, webhook_id, signer)
      values (apply_callback.id, apply_callback.webhook_id, apply_callback.signer)
      on conflict do nothing;
    if not found then
      return query select false, 'duplicate', v_before;
      return;
    end if;
  end if;
  return query
    select u.problem is null and (u.job).version > v_before.version, u.problem, u.job
    from jobcast.update_jobs(
      jsonb_build_array(
        apply_callback.patch || jsonb_build_object('id', apply_callback.id)
          || case when apply_callback.attempt is null then '{}'
               else jsonb_build_object('attempt', apply_callback.attempt) end
      ),
      'callback'
    ) u;
end
$function$;
comment on function jobcast.apply_callback(pg_catalog.uuid,pg_catalog.jsonb,integer,pg_catalog.text,pg_catalog.text) is 'A delivery: whether it changed the job, and if not, why: JC001, JC002, JC003, duplicate, or null when it said nothing new.';

CREATE OR REPLACE FUNCTION jobcast.assert_date(what text, at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if at < '0001-01-01 00:00:00+00' or at >= '10000-01-01 00:00:00+00' then
    raise exception '% of a job is %: years have four digits', what, at using errcode = '22008';
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.assert_limits(what text, bytes integer, value jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if assert_limits.bytes > jobcast.max_bytes() then
    raise exception '% of a job are % bytes, of at most %', what, assert_limits.bytes, jobcast.max_bytes()
      using errcode = '54000';
  elsif assert_limits.bytes > 128 and jobcast.is_too_deep(value) then
    raise exception '% of a job are nested more than 64 levels deep', what
      using errcode = '23514', constraint = 'depth_of_json', schema = 'jobcast', table = 'jobs';
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.bell_lock()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select x'6a6f6263617374'::bigint -- "jobcast" in ASCII
$function$;
comment on function jobcast.bell_lock() is 'The advisory lock that every sleeping listener holds in shared mode; writers ring only while somebody sleeps.';

CREATE OR REPLACE FUNCTION jobcast.bytes_of(stage text, message text, counts jsonb, result jsonb, error jsonb)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select coalesce(octet_length(stage), 0) + coalesce(octet_length(message), 0)
    + coalesce(jobcast.json_bytes(counts), 0) + coalesce(jobcast.json_bytes(result), 0)
    + coalesce(jobcast.json_bytes(error), 0)
$function$;

CREATE OR REPLACE FUNCTION jobcast.cancel_batch(id uuid, message text DEFAULT NULL::text, source text DEFAULT NULL::text)
 RETURNS SETOF jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_locked uuid[];
begin
  perform set_config('jobcast.source', coalesce(cancel_batch.source, v_source, ''), true);
  v_locked := array(
    select j.id from jobcast.jobs j
    where j.batch_id = cancel_batch.id and not jobcast.is_final(j.status)
    order by j.id for update
  );
  return query
    update jobcast.jobs j
    set status = 'cancelled', message = coalesce(cancel_batch.message, j.message)
    where j.id = any (v_locked)
    returning j.*;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$function$;
comment on function jobcast.cancel_batch(pg_catalog.uuid,pg_catalog.text,pg_catalog.text) is 'Cancels what is unfinished in a batch, and gives back those jobs.';

CREATE OR REPLACE FUNCTION jobcast.cancel_job(id uuid, message text DEFAULT NULL::text, source text DEFAULT NULL::text)
 RETURNS jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jobcast.update_job(
    cancel_job.id,
    jsonb_strip_nulls(jsonb_build_object('status', 'cancelled', 'message', cancel_job.message)),
    null,
    cancel_job.source
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.claim_request(subject_id uuid, idempotency_key text, request_hash bytea)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.claim_request(pg_catalog.uuid,pg_catalog.text,pg_catalog.bytea) is 'When the request was made before; null when it is to be done now.';

CREATE OR REPLACE FUNCTION jobcast.complete_job(id uuid, result jsonb DEFAULT NULL::jsonb, message text DEFAULT NULL::text, attempt integer DEFAULT NULL::integer)
 RETURNS jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jobcast.update_job(
    complete_job.id,
    -- Nulls inside the result are the caller's and stay.
    jsonb_strip_nulls(jsonb_build_object('status', 'completed', 'message', complete_job.message))
      || case when complete_job.result is null then '{}'
           else jsonb_build_object('result', complete_job.result) end,
    complete_job.attempt
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.create_batch(owner_id text, title text, jobs jsonb, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea, source text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb)
 RETURNS jobcast.batches
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.create_batch(text,text,jsonb,text,bytea,text,jsonb) from public;
comment on function jobcast.create_batch(pg_catalog.text,pg_catalog.text,pg_catalog.jsonb,pg_catalog.text,pg_catalog.bytea,pg_catalog.text,pg_catalog.jsonb) is 'A batch and its jobs in one statement: [{"type": ..., "title"?, "params"?, "metadata"?, "credits"?, "timeout_seconds"?, "timeout_extends"?}, ...].';

CREATE OR REPLACE FUNCTION jobcast.create_job(owner_id text, type text, title text DEFAULT NULL::text, params jsonb DEFAULT NULL::jsonb, metadata jsonb DEFAULT NULL::jsonb, batch_id uuid DEFAULT NULL::uuid, timeout_seconds integer DEFAULT NULL::integer, timeout_extends boolean DEFAULT false, credits integer DEFAULT 0, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea, source text DEFAULT NULL::text, id uuid DEFAULT NULL::uuid)
 RETURNS jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.create_job(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb,pg_catalog.uuid,integer,boolean,integer,pg_catalog.text,pg_catalog.bytea,pg_catalog.text,pg_catalog.uuid) is 'Creates a job and charges its credits. Said again with the same idempotency key, it gives back the first one.';

CREATE OR REPLACE FUNCTION jobcast.credits_of(job_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.credits_of(pg_catalog.uuid) is 'What all attempts of a job together were charged and refunded; null for who may not read the ledger.';

CREATE OR REPLACE FUNCTION jobcast.delete_batch(id uuid, most integer DEFAULT 1000)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.delete_batch(pg_catalog.uuid,integer) is 'Deletes so many jobs of a batch that has ended, and with the last of them the batch; whether there are more.';

CREATE OR REPLACE FUNCTION jobcast.effective_progress(status text, progress double precision)
 RETURNS numeric
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case when jobcast.is_final(status) then 100 else progress::numeric end
$function$;

CREATE OR REPLACE FUNCTION jobcast.emit(id uuid, name text, data jsonb DEFAULT NULL::jsonb, attempt integer DEFAULT NULL::integer, source text DEFAULT NULL::text)
 RETURNS jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_job jobcast.jobs;
  v_written boolean;
begin
  if emit.name is null then
    raise exception 'an event has a name' using errcode = '22004';
  end if;
  perform set_config('jobcast.source', coalesce(emit.source, v_source, ''), true);
  update jobcast.jobs j
  set events = j.events + 1, event_name = emit.name, event_data = emit.data
  where j.id = emit.id and j.attempt = coalesce(emit.attempt, j.attempt)
  returning j.* into v_job;
  v_written := found;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  if v_written then
    return v_job;
  end if;
  select j.* into v_job from jobcast.jobs j where j.id = emit.id;
  if not found then
    raise exception 'no job %', emit.id using errcode = 'JC002';
  end if;
  raise exception 'job % is in attempt %, not %', emit.id, v_job.attempt, emit.attempt
    using errcode = 'JC003',
      detail = jsonb_build_object('attempt', v_job.attempt, 'status', v_job.status)::text;
end
$function$;
comment on function jobcast.emit(pg_catalog.uuid,pg_catalog.text,pg_catalog.jsonb,integer,pg_catalog.text) is 'An event of the producer''s own, such as a line of a log or a preview, in its place among the versions of the job: at most 1,000 a job, each of 64 KiB.';

CREATE OR REPLACE FUNCTION jobcast.estimate(status text, progress double precision, started_at timestamp with time zone, at timestamp with time zone)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Below one percent or one second the quotient says more about rounding than about the job.
  select case
    when estimate.status = 'processing' and estimate.progress >= 1 and estimate.progress < 100
      and isfinite(estimate.started_at)
    then case
      when estimate.at - estimate.started_at >= interval '1 second'
      then least(
        round(extract(epoch from estimate.at - estimate.started_at)
          * (100 - estimate.progress::numeric) / estimate.progress::numeric),
        2147483647
      )::integer
    end
  end
$function$;

CREATE OR REPLACE FUNCTION jobcast.expire(ids uuid[])
 RETURNS jobcast.jobs[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_expired jobcast.jobs[];
begin
  with expired as (
    update jobcast.jobs j
    set status = 'timeout',
      error = jsonb_build_object('code', 'timeout', 'message', coalesce(
        'The job was not done by ' || to_char(j.timeout_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '.',
        'The job was not done in time.' -- a deadline of long ago may be none that can be written
      ))
    where j.id = any (ids)
    returning j.*
  )
  select coalesce(array_agg(e::jobcast.jobs), '{}') into v_expired from expired e;
  return v_expired;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.expire_jobs(most integer DEFAULT 1000)
 RETURNS SETOF jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_overdue uuid[];
  v_expired jobcast.jobs[];
  v_id uuid;
begin
  v_overdue := array(
    -- Locked jobs are being ended or reported on by somebody else right now. The time of the
    -- statement is one value, which an index can be searched for; the clock's is not.
    select j.id from jobcast.jobs j
    where j.timeout_at <= statement_timestamp() and j.status in ('pending', 'queued', 'processing')
    order by j.timeout_at
    limit expire_jobs.most
    for update skip locked
  );
  if cardinality(v_overdue) = 0 then
    return;
  end if;
  perform set_config('jobcast.source', 'sweeper', true);
  begin
    v_expired := jobcast.expire(v_overdue);
  exception when others then
    -- One that cannot be ended is no reason to let the others wait.
    v_expired := '{}';
    foreach v_id in array v_overdue loop
      begin
        v_expired := v_expired || jobcast.expire(array[v_id]);
      exception when others then
        raise warning 'job % is overdue and cannot be ended: %', v_id, sqlerrm;
      end;
    end loop;
  end;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return query select e.* from unnest(v_expired) e;
end
$function$;
comment on function jobcast.expire_jobs(integer) is 'Ends overdue jobs as timeout, through the same rules as everybody: refund, history, stream.';

CREATE OR REPLACE FUNCTION jobcast.fail_job(id uuid, code text DEFAULT 'failed'::text, message text DEFAULT 'The job failed.'::text, attempt integer DEFAULT NULL::integer)
 RETURNS jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jobcast.update_job(
    fail_job.id,
    jsonb_build_object(
      'status', 'failed',
      'error', jsonb_build_object('code', fail_job.code, 'message', fail_job.message)
    ),
    fail_job.attempt
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.first_jobs(batch_id uuid, count integer)
 RETURNS SETOF jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select j.*
  from jobcast.jobs j
  where j.batch_id = first_jobs.batch_id
  order by j.created_at, j.id
  limit first_jobs.count
$function$;
comment on function jobcast.first_jobs(pg_catalog.uuid,integer) is 'The jobs of a batch in the order in which they were named: what was added later was created later.';

CREATE OR REPLACE FUNCTION jobcast.grant_credits(owner_id text, amount bigint, reason text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea)
 RETURNS jobcast.credit_transactions
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.grant_credits(text,bigint,text,text,bytea) from public;
comment on function jobcast.grant_credits(pg_catalog.text,bigint,pg_catalog.text,pg_catalog.text,pg_catalog.bytea) is 'Tops an account up. Said again with the same idempotency key, it counts once and gives back the first entry.';

CREATE OR REPLACE FUNCTION jobcast.insert_jobs(batch jobcast.batches, jobs jsonb, since timestamp with time zone, source text)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.insert_jobs(jobcast.batches,jsonb,timestamp with time zone,text) from public;
comment on function jobcast.insert_jobs(jobcast.batches,pg_catalog.jsonb,timestamp with time zone,pg_catalog.text) is 'Jobs of a batch, created one microsecond after the other, from that moment on; their ids.';

CREATE OR REPLACE FUNCTION jobcast.is_counts(counts jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select counts is null or (
    jsonb_typeof(counts) = 'object'
    and counts ?& array['total', 'completed', 'failed']
    and counts - array['total', 'completed', 'failed'] = '{}'
    and jsonb_typeof(counts -> 'total') = 'number'
    and jsonb_typeof(counts -> 'completed') = 'number'
    and jsonb_typeof(counts -> 'failed') = 'number'
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.is_error(error jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select error is null or (
    jsonb_typeof(error) = 'object'
    and error ?& array['code', 'message']
    and error - array['code', 'message'] = '{}'
    and jsonb_typeof(error -> 'code') = 'string'
    and jsonb_typeof(error -> 'message') = 'string'
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.is_final(status text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select status in ('completed', 'failed', 'cancelled', 'timeout')
$function$;

CREATE OR REPLACE FUNCTION jobcast.is_too_deep(value jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Objects and arrays in 64 others: readers of JSON recurse, and some of them overflow.
  select jsonb_path_exists(value, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")')
$function$;

CREATE OR REPLACE FUNCTION jobcast.job_now(id uuid)
 RETURNS SETOF jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select j.* from jobcast.jobs j where j.id = job_now.id
$function$;
comment on function jobcast.job_now(pg_catalog.uuid) is 'A job as the transaction that asks sees it by now.';

CREATE OR REPLACE FUNCTION jobcast.json_bytes(value jsonb)
 RETURNS integer
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_raw integer;
begin
  if pg_column_size(value) > 65536 then
    -- What is stored in a few bytes may be a gigabyte as text. Of what is so large that its text must
    -- be too, the text is never made: PostgreSQL's own form is at most eight times as large.
    v_raw := pg_column_size(jsonb_build_array(value));
    if v_raw > 16777216 then
      return v_raw;
    end if;
  end if;
  return octet_length(value::text);
end
$function$;
comment on function jobcast.json_bytes(pg_catalog.jsonb) is 'Of the value as text; for more than 16 MiB, as PostgreSQL keeps it, what that takes. Of numbers with long exponents the text is far larger than that, and is made to be counted.';

CREATE OR REPLACE FUNCTION jobcast.lock_busy(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_timeout constant text := current_setting('lock_timeout');
  v_group record;
begin
  -- A few at random, or one that is held for hours would be all that is ever waited for.
  for v_group in
    select case when j.credits > 0 then j.owner_id end as owner_id, j.batch_id, array_agg(j.id) as ids
    from jobcast.jobs j
    where j.id = any (lock_busy.ids)
    group by 1, 2
    order by random()
    limit 3
  loop
    begin
      perform set_config('lock_timeout', '200ms', true);
      perform from jobcast.credit_accounts a where a.owner_id = v_group.owner_id for update;
      perform from jobcast.batches b where b.id = v_group.batch_id for no key update;
      perform set_config('lock_timeout', v_timeout, true);
      return v_group.ids;
    exception when lock_not_available then
      null; -- the setting is as before
    end;
  end loop;
  return '{}';
end
$function$;
revoke EXECUTE on function jobcast.lock_busy(uuid[]) from public;

CREATE OR REPLACE FUNCTION jobcast.lock_credit_accounts(owner_ids text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- In the order of the owners, so that two statements about several cannot deadlock.
  insert into jobcast.credit_accounts (owner_id)
    select distinct o.owner_id from unnest(lock_credit_accounts.owner_ids) o (owner_id) order by 1
    on conflict do nothing;
  perform from jobcast.credit_accounts a
    where a.owner_id = any (lock_credit_accounts.owner_ids)
    order by a.owner_id for update;
end
$function$;
revoke EXECUTE on function jobcast.lock_credit_accounts(text[]) from public;

CREATE OR REPLACE FUNCTION jobcast.lock_free(ids uuid[], with_batches boolean DEFAULT true)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_owners text[];
  v_batches uuid[];
begin
  v_owners := array(
    select a.owner_id from jobcast.credit_accounts a
    where a.owner_id in (select j.owner_id from jobcast.jobs j where j.id = any (lock_free.ids) and j.credits > 0)
    order by a.owner_id
    for update skip locked
  );
  v_batches := array(
    select b.id from jobcast.batches b
    where lock_free.with_batches
      and b.id in (select j.batch_id from jobcast.jobs j where j.id = any (lock_free.ids))
    order by b.id
    for no key update skip locked
  );
  return array(
    select j.id from jobcast.jobs j
    where j.id = any (lock_free.ids)
      and (j.credits = 0 or j.owner_id = any (v_owners))
      and (j.batch_id is null or not lock_free.with_batches or j.batch_id = any (v_batches))
  );
end
$function$;
revoke EXECUTE on function jobcast.lock_free(uuid[],boolean) from public;
comment on function jobcast.lock_free(pg_catalog.uuid[],boolean) is 'Of jobs that are locked already: those that can be ended now, whose accounts, and batches, are then locked too.';

CREATE OR REPLACE FUNCTION jobcast.max_balance()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select 1000000000000000
$function$;
comment on function jobcast.max_balance() is 'Above which nothing is granted. Refunds may exceed it, and stay within what JSON can hold.';

CREATE OR REPLACE FUNCTION jobcast.max_bytes()
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select 2097152
$function$;
comment on function jobcast.max_bytes() is 'Of title, params and metadata together, and of stage, message, counts, result and error together, as text.';

CREATE OR REPLACE FUNCTION jobcast.newest_change(job_id uuid, version bigint, status text, progress double precision, started_at timestamp with time zone, updated_at timestamp with time zone, OUT source text, OUT estimated_seconds_remaining integer, OUT occurred_at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.newest_change(pg_catalog.uuid,bigint,pg_catalog.text,double precision,timestamp with time zone,timestamp with time zone) is 'Who wrote the present version of a job, when, and how long it will take from then on.';

CREATE OR REPLACE FUNCTION jobcast.post_credits(postings jsonb)
 RETURNS SETOF jobcast.credit_transactions
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.post_credits(jsonb) from public;
comment on function jobcast.post_credits(pg_catalog.jsonb) is 'Entries of the ledger, all or none: [{"owner_id", "kind", "amount", "job_id"?, "attempt"?, "reason"?, "idempotency_key"?, "request_hash"?}, ...].';

CREATE OR REPLACE FUNCTION jobcast.prune(kind text, age interval, most integer DEFAULT 500, OUT removed bigint, OUT has_more boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.prune(text,interval,integer) from public;
comment on function jobcast.prune(pg_catalog.text,interval,integer) is 'Removes up to so many of a kind that are older: for the service, and for whoever owns the schema.';

CREATE OR REPLACE FUNCTION jobcast.report_progress(id uuid, progress double precision, stage text DEFAULT NULL::text, message text DEFAULT NULL::text, counts jsonb DEFAULT NULL::jsonb, attempt integer DEFAULT NULL::integer)
 RETURNS jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jobcast.update_job(
    report_progress.id,
    jsonb_strip_nulls(jsonb_build_object(
      'progress', report_progress.progress, 'stage', report_progress.stage,
      'message', report_progress.message, 'counts', report_progress.counts
    )),
    report_progress.attempt
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.retry_batch(id uuid, message text DEFAULT NULL::text, source text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.retry_batch(pg_catalog.uuid,pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.bytea) is 'The next attempt of every job of a batch that failed or timed out; how many they were.';

CREATE OR REPLACE FUNCTION jobcast.retry_job(id uuid, message text DEFAULT NULL::text, source text DEFAULT NULL::text, attempt integer DEFAULT NULL::integer, idempotency_key text DEFAULT NULL::text, request_hash bytea DEFAULT NULL::bytea)
 RETURNS jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.retry_job(pg_catalog.uuid,pg_catalog.text,pg_catalog.text,integer,pg_catalog.text,pg_catalog.bytea) is 'The next attempt of a job that failed, was cancelled or timed out: of this attempt only, and once with the same key.';

CREATE OR REPLACE FUNCTION jobcast.set_overdraft(owner_id text, overdraft bigint)
 RETURNS jobcast.credit_accounts
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.set_overdraft(pg_catalog.text,bigint) is 'How far below zero settlements may take an account.';

CREATE OR REPLACE FUNCTION jobcast.settle_batch_changes(batch_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.settle_batch_changes(uuid) from public;
comment on function jobcast.settle_batch_changes(pg_catalog.uuid) is 'Adds what this transaction has noted about a batch to its counts, and locks it: so it is done at the commit.';

CREATE OR REPLACE FUNCTION jobcast.source()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(nullif(left(current_setting('jobcast.source', true), 255), ''), 'sql')
$function$;
comment on function jobcast.source() is 'Who writes: the setting jobcast.source of this transaction (api, callback, sweeper, ...), else sql.';

CREATE OR REPLACE FUNCTION jobcast.spelled(status text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case status
    when 'canceled' then 'cancelled'
    when 'timed_out' then 'timeout'
    when 'in_progress' then 'processing'
    else status
  end
$function$;
comment on function jobcast.spelled(pg_catalog.text) is 'A status as it is called here, by the names of other systems too.';

CREATE OR REPLACE FUNCTION jobcast.start_job(id uuid, stage text DEFAULT NULL::text, message text DEFAULT NULL::text, attempt integer DEFAULT NULL::integer)
 RETURNS jobcast.jobs
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jobcast.update_job(
    start_job.id,
    jsonb_strip_nulls(jsonb_build_object(
      'status', 'processing', 'stage', start_job.stage, 'message', start_job.message
    )),
    start_job.attempt
  )
$function$;

CREATE OR REPLACE FUNCTION jobcast.status_rank(status text)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case status when 'pending' then 0 when 'queued' then 1 when 'processing' then 2 else 3 end
$function$;
comment on function jobcast.status_rank(pg_catalog.text) is 'A status may only be followed by one of the same or a higher rank; rank 3 is final.';

CREATE OR REPLACE FUNCTION jobcast.sweep(most integer DEFAULT 1000, spared uuid[] DEFAULT '{}'::uuid[])
 RETURNS TABLE(job_id uuid, problem text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_overdue uuid[];
  v_free uuid[];
begin
  v_overdue := array(
    -- The time of the statement is one value, which an index can be searched for; the clock's is not.
    select j.id from jobcast.jobs j
    where j.timeout_at <= statement_timestamp() and j.status in ('pending', 'queued', 'processing')
      and j.id <> all (sweep.spared)
    order by j.timeout_at
    limit sweep.most
    for update skip locked
  );
  if cardinality(v_overdue) = 0 then
    return;
  end if;
  v_free := jobcast.lock_free(v_overdue);
  if cardinality(v_free) = 0 then
    v_free := jobcast.lock_busy(v_overdue);
  end if;

  perform set_config('jobcast.source', 'sweeper', true);
  begin
    perform jobcast.expire(v_free);
    job_id := null;
  exception when others then
    -- One that cannot be ended is no reason to let the others wait.
    foreach job_id in array v_free loop
      problem := null;
      begin
        perform jobcast.expire(array[job_id]);
      exception when others then
        problem := sqlstate || ': ' || sqlerrm;
      end;
      return next;
    end loop;
    v_free := '{}';
  end;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return query select e.id, null::text from unnest(v_free) e (id);
end
$function$;
revoke EXECUTE on function jobcast.sweep(integer,uuid[]) from public;
comment on function jobcast.sweep(integer,pg_catalog.uuid[]) is 'For the service: ends overdue jobs, and gives back those that it ended and, with a problem, those that it could not.';

CREATE OR REPLACE FUNCTION jobcast.tg__refuse_strangers()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- In a definer function the current user is the owner, and nowhere else is it anybody's to choose.
  if not pg_has_role((select c.relowner from pg_class c where c.oid = tg_relid), 'USAGE') then
    raise exception '% may not write to %.%: the functions of this schema do', current_user, tg_table_schema, tg_table_name
      using errcode = '42501';
  end if;
  return null;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg__refuse_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception '%.% is not to be truncated: delete the jobs that have ended instead', tg_table_schema, tg_table_name
    using errcode = 'JC005';
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg__ring()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_batch_changes__settle()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.tg_batch_changes__settle() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_batches__assert_limits()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if octet_length(new.title) > 1048576 then
    raise exception 'the title of a batch is % bytes, of at most 1048576', octet_length(new.title)
      using errcode = '54000';
  end if;
  return new;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_credit_accounts__refuse()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception 'the account of % follows its ledger and nothing else', old.owner_id using errcode = 'JC005';
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_credit_transactions__move_accounts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update jobcast.credit_accounts a
    set balance = e.balance_after, last_entry = e.entry, updated_at = e.created_at
    from (
      select distinct on (i.owner_id) i.* from inserted i order by i.owner_id, i.entry desc
    ) e
    where a.owner_id = e.owner_id;
  return null;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_credit_transactions__refuse()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception 'the ledger is append-only: post a refund or a grant instead' using errcode = 'JC005';
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__append_history()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
AS $function$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  if tg_op = 'INSERT' then
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error, bytes,
      estimated_seconds_remaining, source
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error, a.bytes,
      null, jobcast.source()
    from after a;
  else
    insert into jobcast.status_history (
      job_id, version, attempt, status, progress, stage, message, counts, result, error, bytes,
      estimated_seconds_remaining, source, event_name, event_data
    )
    select
      a.id, a.version, a.attempt, a.status, a.progress, a.stage, a.message, a.counts, a.result, a.error,
      a.bytes + case when a.events > b.events then coalesce(octet_length(a.event_data::text), 0) else 0 end,
      jobcast.estimate(a.status, a.progress, a.started_at, a.updated_at), jobcast.source(),
      case when a.events > b.events then a.event_name end,
      case when a.events > b.events then a.event_data end
    from after a
    join before b on b.id = a.id
    where a.version <> b.version;
  end if;
  return null;
end
$function$;
revoke EXECUTE on function jobcast.tg_jobs__append_history() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__assert_counts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__assert_limits()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__charge()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.tg_jobs__charge() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__note_batch_changes()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
AS $function$
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
  -- An event of the producer's own changes nothing that a batch counts.
  insert into jobcast.batch_changes as c (batch_id, total, completed, failed, cancelled, started, progress_sum)
  select a.batch_id, 0,
    sum((a.status = 'completed')::int - (b.status = 'completed')::int),
    sum((a.status in ('failed', 'cancelled', 'timeout'))::int - (b.status in ('failed', 'cancelled', 'timeout'))::int),
    sum((a.status = 'cancelled')::int - (b.status = 'cancelled')::int),
    sum((jobcast.status_rank(a.status) >= 2)::int - (jobcast.status_rank(b.status) >= 2)::int),
    sum(jobcast.effective_progress(a.status, a.progress) - jobcast.effective_progress(b.status, b.progress))
  from after a
  join before b on b.id = a.id
  where a.batch_id is not null and a.version <> b.version and a.events = b.events
  group by a.batch_id
  on conflict (xid, batch_id) do update set
    completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed,
    cancelled = c.cancelled + excluded.cancelled,
    started = c.started + excluded.started,
    progress_sum = c.progress_sum + excluded.progress_sum;
  return null;
end
$function$;
revoke EXECUTE on function jobcast.tg_jobs__note_batch_changes() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__note_deletions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if tg_relid <> 'jobcast.jobs'::regclass then
    raise exception 'this function is for triggers of jobcast.jobs' using errcode = '42501';
  end if;
  -- A job may be made again under its old id, and be deleted again.
  insert into jobcast.deletions as d (job_id, version, status, owner_id, batch_id)
  select b.id, b.version + 1, b.status, b.owner_id, b.batch_id
  from before b
  on conflict (xid, job_id) do update set version = greatest(d.version, excluded.version);
  return null;
end
$function$;
revoke EXECUTE on function jobcast.tg_jobs__note_deletions() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__on_delete()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Its credits would stay charged, its batch would wait for it for ever, and its viewers too.
  if not jobcast.is_final(old.status) then
    raise exception 'job % is %: end it before you delete it', old.id, old.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
  end if;
  return old;
end
$function$;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__on_insert()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.tg_jobs__on_insert() from public;

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__on_relabel()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if new.version = old.version
    and (new.title, new.metadata) is distinct from (old.title, old.metadata) then
    new.version := old.version + 1;
    new.updated_at := clock_timestamp();
  end if;
  return new;
end
$function$;
comment on function jobcast.tg_jobs__on_relabel() is 'Makes a version of a new title or metadata, of a job that has ended too. Whoever names neither does not pay for it.';

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__on_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
  -- One event at a time, and none but with a count of its own.
  if new.events is distinct from old.events + 1 then
    new.events := old.events;
    new.event_name := old.event_name;
    new.event_data := old.event_data;
  elsif jobcast.is_final(old.status) then
    raise exception 'job % is %: it has no more events', old.id, old.status
      using errcode = 'JC001',
        detail = jsonb_build_object('status', old.status, 'version', old.version)::text;
  end if;

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

  if v_retry or new.events > old.events or (new.status, new.progress, new.stage, new.message, new.counts, new.result, new.error)
    is distinct from (old.status, old.progress, old.stage, old.message, old.counts, old.result, old.error) then
    new.version := old.version + 1;
    new.updated_at := v_now;
    new.bytes := jobcast.bytes_of(new.stage, new.message, new.counts, new.result, new.error);
    if new.events = old.events then
      new.event_name := null;
      new.event_data := null;
    else
      perform jobcast.assert_limits('the data of an event', octet_length(new.event_data::text), new.event_data);
    end if;
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
$function$;
comment on function jobcast.tg_jobs__on_update() is 'Legal transitions, monotonic progress, versions and timestamps. An update that changes nothing reports UPDATE 0.';

CREATE OR REPLACE FUNCTION jobcast.tg_jobs__settle()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
AS $function$
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
$function$;
revoke EXECUTE on function jobcast.tg_jobs__settle() from public;
comment on function jobcast.tg_jobs__settle() is 'At the end of an attempt refunds what was charged beyond its cost, or charges what is missing, whoever ended it; charges a retry again or refuses it.';

CREATE OR REPLACE FUNCTION jobcast.update_each(patches jsonb, source text DEFAULT NULL::text)
 RETURNS TABLE(item integer, problem text, job jobcast.jobs)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
  v_patch record;
  v_done record;
begin
  for v_patch in
    select p.position, p.patch from jsonb_array_elements(update_each.patches) with ordinality p (patch, position)
  loop
    begin
      select u.problem, u.job into v_done
        from jobcast.update_jobs(jsonb_build_array(v_patch.patch), update_each.source, skip_locked => true) u;
      problem := v_done.problem;
      job := v_done.job;
    exception when others then
      -- What is wrong with a value, or refused by a rule. All else is wrong with all of them.
      if sqlstate !~ '^(22|23|54|P0)' then
        raise;
      end if;
      problem := sqlstate;
      job := null;
    end;
    item := v_patch.position;
    return next;
  end loop;
end
$function$;
comment on function jobcast.update_each(pg_catalog.jsonb,pg_catalog.text) is 'update_jobs with skip_locked, each update by itself: what PostgreSQL refuses of one is a problem of that one.';

CREATE OR REPLACE FUNCTION jobcast.update_job(id uuid, patch jsonb, attempt integer DEFAULT NULL::integer, source text DEFAULT NULL::text)
 RETURNS jobcast.jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION jobcast.update_jobs(patches jsonb, source text DEFAULT NULL::text, skip_locked boolean DEFAULT false)
 RETURNS TABLE(item integer, problem text, job jobcast.jobs)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function jobcast.update_jobs(pg_catalog.jsonb,pg_catalog.text,boolean) is 'Up to thousands of updates as one statement: [{id, attempt?, status?, progress?, stage?, message?, counts?, result?, error?}, ...]. A problem is an SQLSTATE and leaves its job alone; with skip_locked a job that somebody holds is one (JC007).';

CREATE OR REPLACE FUNCTION jobcast.uuid_v7()
 RETURNS uuid
 LANGUAGE sql
 PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- RFC 9562, 5.7: 48 bits of Unix milliseconds, version 7, the rest random.
  -- PostgreSQL has uuidv7() only from 18 on; gen_random_uuid() already sets the variant.
  select encode(
    set_bit(
      set_bit(
        overlay(
          uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
          from 1 for 6
        ),
        52, 1
      ),
      53, 1
    ),
    'hex'
  )::uuid
$function$;

CREATE OR REPLACE FUNCTION jobcast.whole(value numeric)
 RETURNS integer
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if value <> trunc(value) then
    raise exception '% is not a whole number', value using errcode = '22P02';
  end if;
  return value;
end
$function$;
comment on function jobcast.whole(numeric) is 'JSON writes 60 as 60.0 too, and as 6e1.';
