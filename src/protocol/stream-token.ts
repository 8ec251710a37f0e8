import { z } from "zod";
import { jobIdSchema } from "./job.ts";

/** The body of `POST /v1/stream-tokens`, which may be left out. */
export const createStreamTokenSchema = z
  .strictObject({
    /** Left out: all jobs of the caller. */
    jobs: z.array(jobIdSchema.toLowerCase()).min(1).max(100).optional(),
    /** The token ends with the one that asked for it, if that is sooner. */
    ttlSeconds: z.int().min(10).max(3600).default(300),
  })
  .prefault({});

/** The answer to it. */
export const streamTokenSchema = z.object({ token: z.string(), expiresAt: z.iso.datetime() });

export type StreamToken = z.infer<typeof streamTokenSchema>;
