import { z } from "zod";

/*
 * What a stream says beside the states of jobs and batches. An event without an id does not move
 * the client's Last-Event-ID.
 */

/** The data of `ping`, the heartbeat; it has no id. */
export const pingSchema = z.object({ at: z.iso.datetime() });

/** The data of `close`, the last event of a stream that ends before what it is about; no id. */
export const closeSchema = z.object({
  reason: z.enum(["token_expired", "draining", "max_age", "database_changed"]),
  /** How long to wait before coming back; jittered. */
  retryMs: z.int().min(0),
});

/** Why the server ends a stream before its job does. */
export type CloseReason = z.infer<typeof closeSchema>["reason"];

/**
 * The data of `reset` on a stream over many jobs, whose present states follow. On a stream of one
 * job or batch, `reset` has the state itself.
 */
export const resetSchema = z.object({ reason: z.literal("unknown_cursor") });

/** The data of `ready`, over many jobs: nothing to tell yet, and its id is the place to come back to. */
export const readySchema = z.strictObject({});
