import { z } from "zod";
import { jsonSchema } from "./json.ts";
import { type Status, statusSchema } from "./status.ts";

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
  /**
   * Members that are null here although the job has them: their row holds more than 4 MiB, or what
   * PostgreSQL cannot give back.
   */
  omitted: z.array(z.string()).optional(),
});

export type StatusEvent = z.infer<typeof statusEventSchema>;

/**
 * A status event as it goes to the wire, and what is to be known of it on the way. It is never
 * parsed: the JSON in it is PostgreSQL's own text, whose numbers no double holds.
 */
export type EventText = {
  readonly jobId: string;
  readonly version: number;
  /** Of the event on a stream of this job alone. */
  readonly id: string;
  readonly status: Status;
  /** A StatusEvent as JSON on one line. */
  readonly json: string;
};

/**
 * That a job is no more: the last that is told of it, on whichever stream. Its version is the one
 * after the last that the job had, so that one rule tells what was told already.
 */
export const deletedSchema = z.object({
  jobId: z.guid(),
  version: z.int().min(1),
  deleted: z.literal(true),
});

/** A DeletedEvent as JSON. */
export function deletedJson(jobId: string, version: number): string {
  return JSON.stringify({ jobId, version, deleted: true } satisfies z.infer<typeof deletedSchema>);
}

/** One row of the history: an event, whose it is, and the transaction that wrote it. */
export type Change = EventText & {
  /** The type of the event: a version of a job, or that the job was deleted. */
  readonly kind: "status" | "deleted";
  readonly ownerId: string;
  readonly batchId: string | null;
  readonly xid: number;
};

/** The same as the feed tells it. Without JSON it is large: whoever wants it reads it by himself. */
export type News = Omit<Change, "json"> & { readonly json: string | undefined };
