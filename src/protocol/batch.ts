import { z } from "zod";
import { createdJobSchema, createJobSchema } from "./job.ts";
import { jsonObjectSchema, textSchema } from "./json.ts";
import { cursorSchema, limitSchema, nextCursorSchema, severalSchema } from "./page.ts";
import { statusSchema, writtenStatusSchema } from "./status.ts";
import { streamTokenSchema, wantedStreamTokenSchema } from "./stream-token.ts";

/** A group of jobs as it stands; also the data of one `batch` event. Times are ISO 8601 UTC. */
export const batchSchema = z
  .object({
    id: z.uuid().meta({ description: "The batch." }),
    ownerId: z.string().meta({ description: "Whose batch it is, and whose jobs." }),
    title: z.string().nullable().meta({ description: "What people call it." }),
    metadata: jsonObjectSchema
      .nullable()
      .meta({ description: "What the application wants to find here again." }),
    total: z.int().min(0).meta({ description: "How many jobs it has." }),
    completed: z.int().min(0).meta({ description: "How many of them completed." }),
    failed: z
      .int()
      .min(0)
      .meta({ description: "How many ended otherwise: failed, cancelled or timed out." }),
    progress: z.number().min(0).max(100).meta({
      description:
        "The mean of the jobs' progress, where one that ended counts as 100; itself 100 when all have.",
    }),
    status: statusSchema.meta({
      description:
        "`pending`, `processing`, and when all have ended `completed` if any did, else how they ended.",
    }),
    estimatedSecondsRemaining: z
      .int()
      .min(0)
      .nullable()
      .meta({ description: "From the newest version; null when it would be a guess." }),
    version: z.int().min(1).meta({ description: "Counts the batch's changes." }),
    createdAt: z.iso.datetime().meta({ description: "When it was created." }),
    finishedAt: z.iso
      .datetime()
      .nullable()
      .meta({ description: "When the last of its jobs ended." }),
    omitted: z.array(z.string()).optional().meta({
      description:
        "What is null here although the batch has it: in events and lists a title or metadata above 8 KiB.",
    }),
  })
  .meta({ description: "A batch as it stands: the data of `batch`." });

export type Batch = z.infer<typeof batchSchema>;

/** That a batch is no more: the last that is told on a stream of it. */
export const deletedBatchSchema = z
  .object({
    batchId: z.guid().meta({ description: "The batch that is no more." }),
    deleted: z.literal(true).meta({ description: "Tells it from a `BatchEvent`." }),
  })
  .meta({ description: "The data of `deleted` on a stream of a batch." });

/** A DeletedBatchEvent as JSON. */
export function deletedBatchJson(batchId: string): string {
  return JSON.stringify({ batchId, deleted: true } satisfies z.infer<typeof deletedBatchSchema>);
}

/** A batch as it is served. The links are absolute when the server knows its public URL. */
export const batchResourceSchema = batchSchema
  .extend({
    links: z
      .object({
        self: z.string().meta({ description: "The batch." }),
        events: z.string().meta({ description: "Its stream." }),
        jobs: z.string().meta({ description: "Its jobs." }),
      })
      .meta({ description: "Where to find it; absolute if the server knows its public URL." }),
  })
  .meta({ description: "A batch as it stands." });

export type BatchResource = z.infer<typeof batchResourceSchema>;

/** How many jobs one request makes: one transaction should stay a short one. */
const MAX_JOBS = 1_000;

const ownerSchema = textSchema(255).min(1);

const jobsSchema = z
  .array(createJobSchema.omit({ ownerId: true, batchId: true, id: true, streamToken: true }))
  .min(1)
  .max(MAX_JOBS)
  .meta({ description: "Up to 1,000 jobs, which are created together or not at all." });

/** The body of `POST /v1/batches`. */
export const createBatchSchema = z
  .strictObject({
    title: textSchema(1_000_000).nullish().meta({ description: "What people call it." }),
    metadata: jsonObjectSchema
      .nullish()
      .meta({ description: "What the application wants to find here again." }),
    jobs: jobsSchema,
    ownerId: ownerSchema.optional().meta({
      description: "Whose they all are. Default: the caller.",
    }),
    streamToken: wantedStreamTokenSchema,
  })
  .meta({ description: "A batch to be, and its jobs." });

export type CreateBatch = z.infer<typeof createBatchSchema>;

/** The answer to it. */
export const createdBatchSchema = batchResourceSchema
  .extend({
    jobs: z.array(createdJobSchema).meta({ description: "Its jobs, in the order of the request." }),
    streamToken: streamTokenSchema.optional().meta({ description: "If it was asked for." }),
  })
  .meta({ description: "A batch for whoever made it." });

/** The body of `POST /v1/batches/{id}/jobs`. */
export const addJobsSchema = z
  .strictObject({ jobs: jobsSchema })
  .meta({ description: "Jobs for a batch that is there." });

export type AddJobs = z.infer<typeof addJobsSchema>;

/** The answer to it. */
export const addedJobsSchema = z
  .object({
    items: z.array(createdJobSchema).meta({ description: "In the order of the request." }),
  })
  .meta({ description: "The jobs that were added." });

/** The query of `GET /v1/batches`. The newest batch comes first. */
export const listBatchesQuerySchema = z.strictObject({
  ownerId: ownerSchema.optional().meta({
    description: "Whose batches.",
    example: "alice",
  }),
  status: severalSchema(writtenStatusSchema)
    .optional()
    .meta({
      description: "Only those that stand so; several with commas.",
      example: ["processing"],
    }),
  limit: limitSchema,
  cursor: cursorSchema,
});

export const batchListSchema = z
  .object({
    items: z.array(batchResourceSchema).meta({ description: "The batches." }),
    nextCursor: nextCursorSchema,
  })
  .meta({ description: "A page of batches, the newest first." });
