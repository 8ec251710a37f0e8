export { ERROR_CODES, type ErrorCode, JobcastError } from "./errors.ts";
export {
  createJobcast,
  type Jobcast,
  type JobcastOptions,
  type StreamTokenGrant,
} from "./jobcast.ts";
export { jobs, type NewJob } from "./jobs/jobs.ts";
export type { Transaction } from "./jobs/transaction.ts";
export { ConfigError } from "./options.ts";
export type { Batch } from "./protocol/batch.ts";
export type { StatusEvent } from "./protocol/event.ts";
export type { Job, StoredJob, UpdateJob } from "./protocol/job.ts";
export type { Problem } from "./protocol/problem.ts";
export { STATUSES, type Status } from "./protocol/status.ts";
