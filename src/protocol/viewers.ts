import { z } from "zod";

/** The answer to `GET /v1/jobs/{id}/viewers`. */
export const viewersSchema = z
  .object({
    count: z.int().min(0).meta({
      description: "Streams and long polls of this job alone, in all processes, a few seconds ago.",
    }),
    owners: z.array(z.string()).optional().meta({
      description: "Whose they are, up to 100: for who may read everybody's jobs.",
    }),
  })
  .meta({ description: "Who watches a job." });
