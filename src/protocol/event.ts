import { z } from "zod";
import { jsonSchema } from "./json.ts";
import { statusSchema } from "./status.ts";

export const countsSchema = z.strictObject({
  total: z.int().min(0),
  completed: z.int().min(0),
  failed: z.int().min(0),
});

const jobErrorSchema = z.strictObject({ code: z.string(), message: z.string() });

/** The data of one `status` event: a job as one of its versions left it. Times are ISO 8601 UTC. */
export const statusEventSchema = z.object({
  /** Any UUID that PostgreSQL takes: an id made in SQL need not follow a version of RFC 9562. */
  jobId: z.guid(),
  version: z.int().min(1),
  attempt: z.int().min(1),
  status: statusSchema,
  progress: z.number().min(0).max(100),
  stage: z.string().nullable(),
  message: z.string().nullable(),
  counts: countsSchema.nullable(),
  result: jsonSchema.nullable(),
  error: jobErrorSchema.nullable(),
  batchId: z.guid().nullable(),
  /** Whole seconds from `occurredAt`, or null when it would be a guess. */
  estimatedSecondsRemaining: z.int().min(0).nullable(),
  /** Who wrote it: `api`, `callback`, `sweeper`, `sql`, or what a producer set as jobcast.source. */
  source: z.string(),
  occurredAt: z.iso.datetime(),
});

export type StatusEvent = z.infer<typeof statusEventSchema>;

/** One row of the feed: an event, whose it is, and the transaction that wrote it. */
export type Change = {
  readonly event: StatusEvent;
  readonly ownerId: string;
  readonly xid: number;
};
