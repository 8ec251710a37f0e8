/*
 * `jobcast/jobs`: jobs in an application's own transaction, without the service and what it needs.
 */
export { ERROR_CODES, type ErrorCode, type FieldProblem, JobcastError } from "../errors.ts";
export type { StatusEvent } from "../protocol/event.ts";
export type { StoredJob, UpdateJob } from "../protocol/job.ts";
export type { Json, JsonObject } from "../protocol/json.ts";
export { isFinal, STATUSES, type Status } from "../protocol/status.ts";
export { jobs, type NewJob } from "./jobs.ts";
export type { Transaction } from "./transaction.ts";
