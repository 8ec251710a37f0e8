import { z } from "zod";

/*
 * What a stream says beside the states of jobs and batches.
 */

/** Its id is the one before it again. */
export const pingSchema = z
  .object({ at: z.iso.datetime().meta({ description: "When it was sent." }) })
  .meta({ description: "The data of `ping`, the heartbeat." });

/** The last four are also error codes: who is not let in for now is told so by a stream, too. */
export const closeReasonSchema = z.enum([
  "token_expired",
  "max_age",
  "database_changed",
  "draining",
  "database_unavailable",
  "keys_unavailable",
  "overloaded",
]);

/** Of a stream that ends before what it is about; its id is the one before it again. */
export const closeSchema = z
  .object({
    reason: closeReasonSchema.meta({ description: "Why the server ends the stream." }),
    retryMs: z.int().min(0).meta({
      description: "Milliseconds to wait before coming back; jittered, and sent as `retry:` too.",
    }),
  })
  .meta({ description: "The data of `close`, the last event of such a stream." });

/** Why the server ends a stream before its job does. */
export type CloseReason = z.infer<typeof closeReasonSchema>;

/** On a stream of one job or batch, `reset` has the state itself. */
export const resetSchema = z
  .object({
    reason: z.literal("unknown_cursor").meta({ description: "Why the client has to start over." }),
  })
  .meta({ description: "The data of `reset` over many jobs; their states follow." });

/** Over many jobs: nothing to tell yet, and its id is the place to come back to. */
export const readySchema = z
  .strictObject({})
  .meta({ description: "The data of `ready`: nothing but its id." });
