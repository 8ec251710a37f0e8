/** Written by `npm run schema` from the migrations in sql/. Do not edit. */

import type { Status } from "../protocol/status.ts";
import type { ColumnType } from "kysely";

export type Generated<T> = T extends ColumnType<infer S, infer I, infer U>
  ? ColumnType<S, I | undefined, U>
  : ColumnType<T, T | undefined, T>;

export type Json = JsonValue;

export type JsonArray = JsonValue[];

export type JsonObject = {
  [x: string]: JsonValue | undefined;
};

export type JsonPrimitive = boolean | number | string | null;

export type JsonValue = JsonArray | JsonObject | JsonPrimitive;

export type Numeric = ColumnType<string, number | string, number | string>;

export type Timestamp = ColumnType<Date, Date | string, Date | string>;

export interface JobcastBatchChanges {
  batch_id: string;
  cancelled: number;
  completed: number;
  failed: number;
  progress_sum: Numeric;
  started: number;
  total: number;
  xid: Generated<string>;
}

export interface JobcastBatches {
  cancelled: Generated<number>;
  completed: Generated<number>;
  created_at: Generated<Timestamp>;
  estimated_seconds_remaining: number | null;
  /**
   * Jobs that ended otherwise than completed: failed, cancelled or timeout.
   */
  failed: Generated<number>;
  finished_at: Timestamp | null;
  id: Generated<string>;
  idempotency_key: string | null;
  owner_id: string;
  progress: Generated<number>;
  /**
   * The sum of the jobs' progress; a job that ended counts as 100.
   */
  progress_sum: Generated<Numeric>;
  request_hash: Buffer | null;
  /**
   * Jobs that are past queued.
   */
  started: Generated<number>;
  started_at: Timestamp | null;
  status: Generated<Status>;
  title: string | null;
  total: Generated<number>;
  updated_at: Generated<Timestamp>;
  version: Generated<number>;
}

export interface JobcastCreditAccounts {
  balance: Generated<number>;
  last_entry: number | null;
  owner_id: string;
  updated_at: Generated<Timestamp>;
}

export interface JobcastCreditTransactions {
  amount: number;
  attempt: number | null;
  balance_after: number;
  balance_before: Generated<number>;
  created_at: Generated<Timestamp>;
  entry: number;
  id: Generated<string>;
  idempotency_key: string | null;
  job_id: string | null;
  kind: string;
  owner_id: string;
  previous_entry: Generated<number | null>;
  reason: string | null;
  refunded_kind: Generated<string | null>;
  request_hash: Buffer | null;
}

export interface JobcastJobs {
  /**
   * Rises by one with every retry; say it in your updates so that a worker of an older attempt is refused.
   */
  attempt: Generated<number>;
  batch_id: string | null;
  /**
   * Of stage, message, counts, result and error as text; null where nothing was written since it is counted.
   */
  bytes: number | null;
  counts: Json | null;
  created_at: Generated<Timestamp>;
  credits: Generated<number>;
  error: Json | null;
  finished_at: Timestamp | null;
  id: Generated<string>;
  idempotency_key: string | null;
  message: string | null;
  metadata: Json | null;
  owner_id: string;
  params: Json | null;
  progress: Generated<number>;
  /**
   * Of the request that made the job under its idempotency key: another request under that key is refused.
   */
  request_hash: Buffer | null;
  result: Json | null;
  stage: string | null;
  started_at: Timestamp | null;
  status: Generated<Status>;
  timeout_at: Timestamp | null;
  /**
   * Whether any update of an unfinished job pushes timeout_at to timeout_seconds from then.
   */
  timeout_extends: Generated<boolean>;
  timeout_seconds: number | null;
  title: string | null;
  type: string;
  updated_at: Generated<Timestamp>;
  /**
   * Rises by one with every change of status, progress, stage, message, counts, result or error.
   */
  version: Generated<number>;
}

export interface JobcastJobTypes {
  timeout_extends: Generated<boolean>;
  timeout_seconds: number | null;
  type: string;
}

export interface JobcastMigrations {
  applied_at: Generated<Timestamp>;
  id: number;
  name: string;
}

export interface JobcastSigningKeys {
  created_at: Generated<Timestamp>;
  name: string;
  secret: Buffer;
}

export interface JobcastStatusHistory {
  attempt: number;
  /**
   * Of stage, message, counts, result and error as text, so that readers can stop in time; null in old rows.
   */
  bytes: number | null;
  counts: Json | null;
  error: Json | null;
  estimated_seconds_remaining: number | null;
  job_id: string;
  message: string | null;
  occurred_at: Generated<Timestamp>;
  progress: number;
  result: Json | null;
  source: string;
  stage: string | null;
  status: Status;
  version: number;
  /**
   * The writing transaction. New to a reader means: not visible in the snapshot of its last read.
   */
  xid: Generated<string>;
}

export interface JobcastWebhookDeliveries {
  job_id: string;
  received_at: Generated<Timestamp>;
  webhook_id: string;
}

export interface DB {
  "jobcast.batch_changes": JobcastBatchChanges;
  "jobcast.batches": JobcastBatches;
  "jobcast.credit_accounts": JobcastCreditAccounts;
  "jobcast.credit_transactions": JobcastCreditTransactions;
  "jobcast.job_types": JobcastJobTypes;
  "jobcast.jobs": JobcastJobs;
  "jobcast.migrations": JobcastMigrations;
  "jobcast.signing_keys": JobcastSigningKeys;
  "jobcast.status_history": JobcastStatusHistory;
  "jobcast.webhook_deliveries": JobcastWebhookDeliveries;
}
