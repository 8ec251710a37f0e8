import { z } from "zod";
import { jobIdSchema } from "./job-id.ts";
import { textSchema } from "./json.ts";

const ttlSchema = z.int().min(10).max(3600).default(300).meta({
  description:
    "How long it is good for, in seconds. It never outlives the token that asked for it.",
});

/** Asks a creation for a token that watches what it makes. */
export const wantedStreamTokenSchema = z.strictObject({ ttlSeconds: ttlSchema }).optional().meta({
  description: "Answer with a stream token for it, `{}` for one of 300 seconds.",
});

/** The body of `POST /v1/stream-tokens`, which may be left out. */
export const createStreamTokenSchema = z
  .strictObject({
    jobs: z
      .array(jobIdSchema.toLowerCase())
      .min(1)
      .max(100)
      .optional()
      .meta({ description: "The jobs that it may watch. Default: all of the owner." }),
    batchId: jobIdSchema.toLowerCase().optional().meta({
      description: "The batch that it may watch, and its jobs. Not with `jobs`.",
    }),
    ownerId: textSchema(255).min(1).optional().meta({
      description:
        "Whose viewer it is for: with `jobs:write` anybody's. Default: the caller. Not with `jobs` or `batchId`, which are whose they are.",
    }),
    ttlSeconds: ttlSchema,
  })
  .refine(({ jobs, batchId, ownerId }) => [jobs, batchId, ownerId].filter(Boolean).length < 2, {
    message: "name jobs, a batch or an owner, not two of them",
  })
  .prefault({})
  .meta({ description: "What the token is for; may be left out." });

export const streamTokenSchema = z
  .object({
    token: z.string().meta({
      description:
        "For streams as `?access_token=`, or as any other token; and to read what it may watch.",
    }),
    expiresAt: z.iso
      .datetime()
      .meta({ description: "When it, and every stream that it opened, ends." }),
  })
  .meta({ description: "A token for the streams." });

export type StreamToken = z.infer<typeof streamTokenSchema>;
