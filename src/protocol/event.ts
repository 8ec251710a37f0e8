import { z } from "zod";
import { jsonObjectSchema, jsonSchema } from "./json.ts";
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

/** What a job is made with. */
export const JOB_TEXTS = {
  type: "What kind of job it is, in the application's own word.",
  title: "What people call it.",
  params: "What the worker needs to know, any JSON.",
  metadata: "What the application wants to find here again.",
  cost: "What the attempt has really cost, in credits; said with its end, and settled then.",
} as const;

/** What is told of a job with each of its versions and of the job as it stands. Times are ISO 8601 UTC. */
export const versionSchema = z.object({
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
  type: z.string().meta({ description: JOB_TEXTS.type }),
  title: z.string().nullable().meta({ description: JOB_TEXTS.title }),
  metadata: jsonObjectSchema.nullable().meta({ description: JOB_TEXTS.metadata }),
});

/** The data of one `status` event. Its title and metadata are those that the job has by now. */
export const statusEventSchema = z
  .object({
    // Any UUID that PostgreSQL takes: an id made in SQL need not follow a version of RFC 9562.
    jobId: z.guid().meta({ description: "The job." }),
    ...versionSchema.shape,
    ownerId: z.string().optional().meta({
      description: "Whose job it is: on streams over many jobs, for who may read everybody's.",
    }),
    omitted: z.array(z.string()).optional().meta({
      description:
        "What is null here although the job has it: a title or metadata above 1 KiB, and what makes its row more than is told (4 MiB), or cannot be read.",
    }),
  })
  .meta({ description: "A job as one of its versions left it." });

export type StatusEvent = z.infer<typeof statusEventSchema>;

/** How a producer calls an event of its own: not as ours are called, nor as EventSource's. */
const eventNameSchema = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/, "must be a letter, and up to 63 of A-Z a-z 0-9 _ . : -")
  .refine((name) => !TAKEN.has(name.toLowerCase()), "is taken");

const TAKEN: ReadonlySet<string> = new Set([
  ...["status", "batch", "reset", "deleted", "ready", "ping", "close"],
  ...["message", "open", "error"],
]);

/** The data of an event of the producer's own, whose type is its name. */
export const customEventSchema = z
  .object({
    jobId: z.guid().meta({ description: "The job." }),
    version: versionSchema.shape.version,
    attempt: versionSchema.shape.attempt,
    event: z.string().meta({ description: "Its name, which is the type of the event, too." }),
    data: jsonSchema.nullable().meta({ description: "What its producer said, any JSON." }),
    batchId: versionSchema.shape.batchId,
    source: versionSchema.shape.source,
    occurredAt: versionSchema.shape.occurredAt,
    type: versionSchema.shape.type,
    title: versionSchema.shape.title,
    metadata: versionSchema.shape.metadata,
    ownerId: z.string().optional().meta({ description: "Whose job it is: as in `StatusEvent`." }),
    omitted: z.array(z.string()).optional().meta({ description: "As in `StatusEvent`." }),
  })
  .meta({
    description: "An event of the producer's own, in its place among the versions of its job.",
  });

export type CustomEvent = z.infer<typeof customEventSchema>;

/** The body of `POST /v1/jobs/{id}/events`. */
export const emitSchema = z
  .strictObject({
    event: eventNameSchema.meta({ description: "Its name, such as `log` or `preview`." }),
    data: jsonSchema.nullish().meta({ description: "What it says, any JSON up to 64 KiB." }),
    attempt: z
      .int()
      .min(1)
      .max(2 ** 31 - 1)
      .optional()
      .meta({ description: "Refuse it unless this attempt is running." }),
  })
  .meta({ description: "An event of the producer's own." });

/**
 * That a job is no more: the last that is told of it, on whichever stream. Its version is the one
 * after the last that the job had, so that one rule tells what was told already.
 */
export const deletedSchema = z
  .object({
    jobId: z.guid().meta({ description: "The job that is no more." }),
    version: z.int().min(1).meta({ description: "The one after the last that it had." }),
    deleted: z.literal(true).meta({ description: "Tells it from a `StatusEvent`." }),
    ownerId: z.string().optional().meta({ description: "Whose it was: as in `StatusEvent`." }),
  })
  .meta({ description: "The data of `deleted`; among the events of a poll, too." });

/** A DeletedEvent as JSON. */
export function deletedJson(jobId: string, version: number): string {
  return JSON.stringify({ jobId, version, deleted: true } satisfies z.infer<typeof deletedSchema>);
}
