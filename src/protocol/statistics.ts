import { z } from "zod";

const countSchema = z.int().min(0);

/** The answer to `GET /v1/stats`: of the one process that gave it, counted since it began. */
export const statisticsSchema = z.object({
  streams: z.object({
    /** Open now, long polls that wait included. */
    total: countSchema,
    byTransport: z.object({ sse: countSchema, longPoll: countSchema }),
    /** The owners with the most streams, at most 100 of them, the first with the most. */
    byOwner: z.array(z.object({ ownerId: z.string(), streams: countSchema })),
    opened: countSchema,
    /** For being one too many. */
    refused: countSchema,
    /**
     * Clients that left too much unread, or took nothing at all between two heartbeats, or held the
     * most when all together left too much.
     */
    cut: z.object({ slow: countSchema, stalled: countSchema, memory: countSchema }),
  }),
  /** Jobs, owners and batches that somebody watches; whoever watches several counts for each. */
  subscriptions: z.object({ topics: countSchema, subscribers: countSchema }),
  listener: z.object({
    /** Whether changes are read, and in time. */
    isHealthy: z.boolean(),
    /** `asleep` waits for the bell, `awake` reads on a timer, `dozing` is between the two. */
    state: z.enum(["connecting", "awake", "dozing", "asleep"]),
    /** Whether our own notification was heard lately; null where none is needed. */
    bell: z.boolean().nullable(),
    /** Why there is no session to read with: an SQLSTATE, an errno or a word; null while there is. */
    trouble: z.string().nullable(),
    lastReadAgoMs: countSchema.nullable(),
    /** Changes that were read, whoever watches them. */
    changes: countSchema,
  }),
  events: z.object({
    /** Sent to clients, on streams and as answers to long polls. */
    delivered: countSchema,
    /** Those of them that were read back for streams that began or came back. */
    replayed: countSchema,
    /** Bytes that wait for clients who are slow to take them. */
    unsentBytes: countSchema,
  }),
  /** The connections to the database, by what they are for. */
  database: z.record(
    z.string(),
    z.object({
      /** Whether the database answered lately. */
      isHealthy: z.boolean(),
      /** Why it does not. */
      trouble: z.string().optional(),
      /** Statements under way, and those that wait for their turn. */
      running: countSchema,
      waiting: countSchema,
    }),
  ),
  /** What was old enough to be removed. */
  retention: z.object({
    /** Rows that this process removed, by what was removed. */
    removed: z.record(z.string(), countSchema),
    /** Since it last looked after everything; null before the first time. */
    sweptAgoMs: countSchema.nullable(),
  }),
  process: z.object({ uptimeSeconds: z.number().min(0), rssBytes: countSchema }),
});

export type Statistics = z.infer<typeof statisticsSchema>;
