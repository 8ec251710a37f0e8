import { z } from "zod";

/*
 * What a stream says beside the states of jobs and batches.
 */

/** The data of `ping`, the heartbeat; its id is the one before it again. */
export const pingSchema = z.object({ at: z.iso.datetime() });

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

/**
 * The data of `close`, the last event of a stream that ends before what it is about; its id is the
 * one before it again.
 */
export const closeSchema = z.object({
  reason: closeReasonSchema,
  /** How long to wait before coming back; jittered. */
  retryMs: z.int().min(0),
});

/** Why the server ends a stream before its job does. */
export type CloseReason = z.infer<typeof closeReasonSchema>;

/**
 * The data of `reset` on a stream over many jobs, whose present states follow. On a stream of one
 * job or batch, `reset` has the state itself.
 */
export const resetSchema = z.object({ reason: z.literal("unknown_cursor") });

/** The data of `ready`, over many jobs: nothing to tell yet, and its id is the place to come back to. */
export const readySchema = z.strictObject({});
