export {
  createJobcast,
  type Jobcast,
  type JobcastOptions,
  type StreamTokenGrant,
} from "./jobcast.ts";
export * from "./jobs/exports.ts";
export { ConfigError } from "./options.ts";
export type { Batch } from "./protocol/batch.ts";
export type { CustomEvent } from "./protocol/event.ts";
export type { Job } from "./protocol/job.ts";
export type { Problem } from "./protocol/problem.ts";
export type {
  BatchStreamEvent,
  ControlEvent,
  DeletedEvent,
  JobStreamEvent,
  PolledEvent,
} from "./protocol/stream-event.ts";
