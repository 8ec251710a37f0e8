import { z } from "zod";

/** The answer to `GET /healthz`. */
export const healthSchema = z
  .object({ status: z.literal("ok").meta({ description: "Always the same." }) })
  .meta({ description: "That the process lives." });

/** How the listener reads, as health and statistics tell it. */
export const LISTENING_TEXTS = {
  feed: "`asleep` waits for the bell, `awake` reads on a timer, `dozing` is between the two, `connecting` has no session.",
  bell: "Whether our own notification was heard lately; null where none is needed.",
  lastReadAgoMs: "Milliseconds since everything there was had been read.",
} as const;

/** The answer to `GET /readyz`, with status 503 while `ready` is false. */
export const readinessSchema = z
  .object({
    ready: z.boolean().meta({
      description: "Migrated, answered by the database, reading, and the bell really heard.",
    }),
    phase: z
      .enum(["new", "started", "draining", "stopped"])
      .meta({ description: "`started` unless it is starting or stopping." }),
    database: z
      .boolean()
      .meta({ description: "Whether the database answers on all of our connections to it." }),
    feed: z
      .enum(["connecting", "awake", "dozing", "asleep"])
      .meta({ description: LISTENING_TEXTS.feed }),
    bell: z.boolean().nullable().meta({ description: LISTENING_TEXTS.bell }),
    lastReadAgoMs: z.int().min(0).nullable().meta({ description: LISTENING_TEXTS.lastReadAgoMs }),
    why: z
      .array(z.string())
      .optional()
      .meta({ description: "What is in the way; of a process that is not ready." }),
  })
  .meta({ description: "Whether the process should be sent requests." });
