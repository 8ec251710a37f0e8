-- Jobs and their history. Whoever writes a job (HTTP, psql, a worker in any language)
-- goes through the rules below, so a reader of status_history can trust every row.

create table jobcast.jobs (
  id uuid not null default jobcast.uuid_v7() primary key,
  owner_id text not null,
  type text not null,
  title text,
  status text not null default 'pending',
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
  timeout_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint jobs_idempotency_key unique (owner_id, idempotency_key),
  constraint owner_id_length check (length(owner_id) between 1 and 255),
  constraint type_length check (length(type) between 1 and 255),
  constraint status_is_known check (
    status in ('pending', 'queued', 'processing', 'completed', 'failed', 'cancelled', 'timeout')
  ),
  -- NaN is above every number in Postgres, so the upper bound refuses it.
  constraint progress_is_percent check (progress >= 0 and progress <= 100),
  constraint counts_shape check (jobcast.is_counts(counts)),
  constraint error_shape check (jobcast.is_error(error)),
  constraint metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint credits_not_negative check (credits >= 0),
  constraint timeout_seconds_positive check (timeout_seconds > 0),
  constraint finished_at_matches_status check (
    (finished_at is not null) = (status in ('completed', 'failed', 'cancelled', 'timeout'))
  )
);

comment on table jobcast.jobs is
  'One row a job: its present state. Update it in your own transaction; every committed change streams.';
comment on column jobcast.jobs.version is
  'Rises by one with every change of status, progress, stage, message, counts, result or error.';
comment on column jobcast.jobs.attempt is
  'Rises by one with every retry; say it in your updates so that a worker of an older attempt is refused.';
comment on column jobcast.jobs.request_hash is
  'Of the request that made the job under its idempotency key: another request under that key is refused.';
comment on column jobcast.jobs.timeout_extends is
  'Whether any update of an unfinished job pushes timeout_at to timeout_seconds from then.';

-- An owner's list, newest first, whole or by status or type (keyset on created_at, id).
create index jobs_by_owner on jobcast.jobs (owner_id, created_at desc, id desc);
create index jobs_by_owner_status on jobcast.jobs (owner_id, status, created_at desc, id desc);
create index jobs_by_owner_type on jobcast.jobs (owner_id, type, created_at desc, id desc);
create index jobs_by_owner_type_status on jobcast.jobs (owner_id, type, status, created_at desc, id desc);
create index jobs_by_created on jobcast.jobs (created_at desc, id desc);
create index jobs_by_status on jobcast.jobs (status, created_at desc, id desc);
create index jobs_by_type on jobcast.jobs (type, created_at desc, id desc);
create index jobs_by_batch on jobcast.jobs (batch_id, created_at desc, id desc)
  where batch_id is not null;

-- What the sweeper looks at.
create index jobs_by_deadline on jobcast.jobs (timeout_at)
  where timeout_at is not null and status in ('pending', 'queued', 'processing');

create table jobcast.job_types (
  type text not null primary key,
  timeout_seconds integer,
  timeout_extends boolean not null default false,
  constraint type_timeout_seconds_positive check (timeout_seconds > 0)
);

comment on table jobcast.job_types is
  'Defaults by type, for jobs that say no timeout of their own. Fill it with plain SQL; a type need not be here.';

create table jobcast.status_history (
  job_id uuid not null references jobcast.jobs (id) on delete cascade,
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
  occurred_at timestamptz not null default clock_timestamp(),
  primary key (job_id, version)
);

comment on table jobcast.status_history is
  'Append-only: one row a version. Streams are read from here and from nowhere else.';
comment on column jobcast.status_history.xid is
  'The writing transaction. New to a reader means: not visible in the snapshot of its last read.';

create index status_history_by_xid on jobcast.status_history (xid);
