import { z } from "zod";
import { jsonSchema } from "./json.ts";
import { statusSchema } from "./status.ts";

export const countsSchema = z.strictObject({
  total: z.int().min(0).meta({ description: "How many items there are." }),
  completed: z.int().min(0).meta({ description: "How many of them are done." }),
  failed: z.int().min(0).meta({ description: "How many of them failed." }),
});

/** What the members of an error are for. */
export const ERROR_TEXTS = { code: "For programs.", message: "For people." } as const;

const jobErrorSchema = z.strictObject({
  code: z.string().meta({ description: ERROR_TEXTS.code }),
  message: z.string().meta({ description: ERROR_TEXTS.message }),
});

/** What a version says, and an update can say. */
export const STATE_TEXTS = {
  status: "Where the job stands. The last four statuses are final.",
  progress: "Percent. It never goes back within an attempt.",
  stage: "What the worker is at, in its own word.",
  message: "What the worker says, for people.",
  counts: "Items of a job that has many.",
  result: "What came out, any JSON.",
  error: "Why the job failed.",
} as const;

/** The data of one `status` event. Times are ISO 8601 UTC. */
export const statusEventSchema = z
  .object({
    // Any UUID that PostgreSQL takes: an id made in SQL need not follow a version of RFC 9562.
    jobId: z.guid().meta({ description: "The job." }),
    version: z.int().min(1).meta({ description: "Counts the job's changes, without holes." }),
    attempt: z.int().min(1).meta({ description: "Counts the retries, from 1 on." }),
    status: statusSchema.meta({ description: STATE_TEXTS.status }),
    progress: z.number().min(0).max(100).meta({ description: STATE_TEXTS.progress }),
    stage: z.string().nullable().meta({ description: STATE_TEXTS.stage }),
    message: z.string().nullable().meta({ description: STATE_TEXTS.message }),
    counts: countsSchema.nullable().meta({ description: STATE_TEXTS.counts }),
    result: jsonSchema.nullable().meta({ description: STATE_TEXTS.result }),
    error: jobErrorSchema.nullable().meta({ description: STATE_TEXTS.error }),
    batchId: z.guid().nullable().meta({ description: "The batch that the job belongs to." }),
    estimatedSecondsRemaining: z
      .int()
      .min(0)
      .nullable()
      .meta({ description: "From `occurredAt`; null when it would be a guess." }),
    source: z.string().meta({
      description:
        "Who wrote it: `api`, `callback`, `sweeper`, `sql`, or what a producer called itself (the setting `jobcast.source`).",
    }),
    occurredAt: z.iso.datetime().meta({ description: "When it was written." }),
    omitted: z.array(z.string()).optional().meta({
      description:
        "What is null here although the job has it: its row holds more than is told (4 MiB), or cannot be read.",
    }),
  })
  .meta({ description: "A job as one of its versions left it." });

export type StatusEvent = z.infer<typeof statusEventSchema>;

/**
 * That a job is no more: the last that is told of it, on whichever stream. Its version is the one
 * after the last that the job had, so that one rule tells what was told already.
 */
export const deletedSchema = z
  .object({
    jobId: z.guid().meta({ description: "The job that is no more." }),
    version: z.int().min(1).meta({ description: "The one after the last that it had." }),
    deleted: z.literal(true).meta({ description: "Tells it from a `StatusEvent`." }),
  })
  .meta({ description: "The data of `deleted`; among the events of a poll, too." });

/** A DeletedEvent as JSON. */
export function deletedJson(jobId: string, version: number): string {
  return JSON.stringify({ jobId, version, deleted: true } satisfies z.infer<typeof deletedSchema>);
}
