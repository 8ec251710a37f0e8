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

export type Timestamp = ColumnType<Date, Date | string, Date | string>;

export interface JobcastJobs {
  /**
   * Rises by one with every retry; say it in your updates so that a worker of an older attempt is refused.
   */
  attempt: Generated<number>;
  batch_id: string | null;
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

export interface DB {
  "jobcast.jobs": JobcastJobs;
  "jobcast.migrations": JobcastMigrations;
  "jobcast.signing_keys": JobcastSigningKeys;
  "jobcast.status_history": JobcastStatusHistory;
}
