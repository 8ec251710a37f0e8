import { z } from "zod";
import { createdJobSchema, createJobSchema } from "./job.ts";
import { limitSchema } from "./job-list.ts";
import { textSchema } from "./json.ts";
import { statusSchema } from "./status.ts";

/** A group of jobs as it stands; also the data of one `batch` event. Times are ISO 8601 UTC. */
export const batchSchema = z.object({
  id: z.uuid(),
  ownerId: z.string(),
  title: z.string().nullable(),
  total: z.int().min(0),
  completed: z.int().min(0),
  /** Jobs that ended otherwise: failed, cancelled or timeout. */
  failed: z.int().min(0),
  /** The mean of the jobs' progress, where one that ended counts as 100. */
  progress: z.number().min(0).max(100),
  /** `pending`, `processing`, and once all have ended: `completed` when any did, else how they ended. */
  status: statusSchema,
  /** Whole seconds from the newest version, or null when it would be a guess. */
  estimatedSecondsRemaining: z.int().min(0).nullable(),
  version: z.int().min(1),
  createdAt: z.iso.datetime(),
  finishedAt: z.iso.datetime().nullable(),
  /** `["title"]` where a title of more than 8 KiB is left out: in events and lists. */
  omitted: z.array(z.string()).optional(),
});

export type Batch = z.infer<typeof batchSchema>;

/** That a batch is no more: the last that is told on a stream of it. */
export const deletedBatchSchema = z.object({ batchId: z.guid(), deleted: z.literal(true) });

/** A DeletedBatchEvent as JSON. */
export function deletedBatchJson(batchId: string): string {
  return JSON.stringify({ batchId, deleted: true } satisfies z.infer<typeof deletedBatchSchema>);
}

/** A batch as it is served. The links are absolute when the server knows its public URL. */
export const batchResourceSchema = batchSchema.extend({
  links: z.object({ self: z.string(), events: z.string(), jobs: z.string() }),
});

export type BatchResource = z.infer<typeof batchResourceSchema>;

/** How many jobs one request makes: one transaction should stay a short one. */
const MAX_JOBS = 1_000;

const ownerSchema = textSchema(255).min(1);

/** The body of `POST /v1/batches`. `ownerId`, of the batch and all its jobs, defaults to the caller. */
export const createBatchSchema = z.strictObject({
  title: textSchema(1_000_000).nullish(),
  jobs: z
    .array(createJobSchema.omit({ ownerId: true, batchId: true }))
    .min(1)
    .max(MAX_JOBS),
  ownerId: ownerSchema.optional(),
});

export type CreateBatch = z.infer<typeof createBatchSchema>;

/** The answer to it: the jobs in the order of the request. */
export const createdBatchSchema = batchResourceSchema.extend({ jobs: z.array(createdJobSchema) });

/** The query of `GET /v1/batches`. The newest batch comes first. */
export const listBatchesQuerySchema = z.strictObject({
  owner: ownerSchema.optional(),
  limit: limitSchema,
  cursor: z.string().optional(),
});

/** `nextCursor` is the `cursor` of the next page, or null at the end. */
export const batchListSchema = z.object({
  items: z.array(batchResourceSchema),
  nextCursor: z.string().nullable(),
});

export type BatchList = z.infer<typeof batchListSchema>;
