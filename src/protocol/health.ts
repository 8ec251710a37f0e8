import { z } from "zod";

/** The answer to `GET /healthz`: whoever can say so lives. */
export const healthSchema = z.object({ status: z.literal("ok") });

/** The answer to `GET /readyz`, with status 503 while `ready` is false. */
export const readinessSchema = z.object({
  /** Whether this process should be sent requests. */
  ready: z.boolean(),
  phase: z.enum(["new", "started", "draining", "stopped"]),
  /** Whether the database answers on all of our connections to it. */
  database: z.boolean(),
  feed: z.enum(["connecting", "awake", "dozing", "asleep"]),
  bell: z.boolean().nullable(),
  lastReadAgoMs: z.int().min(0).nullable(),
  /** What is in the way, of a process that is not ready. */
  why: z.array(z.string()).optional(),
});
