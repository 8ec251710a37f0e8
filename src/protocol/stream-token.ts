import { z } from "zod";
import { jobIdSchema } from "./job.ts";

/** The body of `POST /v1/stream-tokens`, which may be left out. */
export const createStreamTokenSchema = z
  .strictObject({
    jobs: z
      .array(jobIdSchema.toLowerCase())
      .min(1)
      .max(100)
      .optional()
      .meta({ description: "The jobs that it may watch. Default: all that the caller owns." }),
    ttlSeconds: z.int().min(10).max(3600).default(300).meta({
      description: "How long it is good for. It never outlives the token that asked for it.",
    }),
  })
  .prefault({})
  .meta({ description: "What the token is for; may be left out." });

export const streamTokenSchema = z
  .object({
    token: z.string().meta({ description: "Send it as `?access_token=`, or as any other token." }),
    expiresAt: z.iso
      .datetime()
      .meta({ description: "When it, and every stream that it opened, ends." }),
  })
  .meta({ description: "A token for the streams." });

export type StreamToken = z.infer<typeof streamTokenSchema>;
