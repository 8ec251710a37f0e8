import { z } from "zod";
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
});

export type Batch = z.infer<typeof batchSchema>;
