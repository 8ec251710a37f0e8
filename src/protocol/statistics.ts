import { z } from "zod";
import { LISTENING_TEXTS } from "./health.ts";

const countOf = (description: string) => z.int().min(0).meta({ description });

/** The answer to `GET /v1/stats`. */
export const statisticsSchema = z
  .object({
    streams: z
      .object({
        total: countOf("Open now."),
        byTransport: z
          .object({ sse: countOf("Server-Sent Events."), longPoll: countOf("Polls that wait.") })
          .meta({ description: "Open now, by transport." }),
        byOwner: z
          .array(
            z.object({
              ownerId: z.string().meta({ description: "Whose they are." }),
              streams: countOf("Open now."),
            }),
          )
          .meta({
            description: "The owners with the most open streams, at most 100, the most first.",
          }),
        opened: countOf("Let in."),
        refused: countOf("One too many."),
        cut: z
          .object({
            slow: countOf("They left too much unread."),
            stalled: countOf("They took nothing at all between two heartbeats."),
            memory: countOf(
              "All together left too much unread, and they had held the most for the longest.",
            ),
          })
          .meta({ description: "Clients that were cut." }),
      })
      .meta({ description: "Streams, and long polls that wait." }),
    subscriptions: z
      .object({
        topics: countOf("Jobs, owners and batches that somebody watches."),
        subscribers: countOf("Watchers; who watches several things counts for each."),
      })
      .meta({ description: "What is watched." }),
    listener: z
      .object({
        isHealthy: z.boolean().meta({ description: "Whether changes are read, and in time." }),
        state: z
          .enum(["connecting", "awake", "dozing", "asleep"])
          .meta({ description: LISTENING_TEXTS.feed }),
        bell: z.boolean().nullable().meta({ description: LISTENING_TEXTS.bell }),
        trouble: z.string().nullable().meta({
          description:
            "Why there is no session to read with (an SQLSTATE, an errno or a word); null while there is one.",
        }),
        lastReadAgoMs: z
          .int()
          .min(0)
          .nullable()
          .meta({ description: LISTENING_TEXTS.lastReadAgoMs }),
        changes: countOf("Changes that were read, whoever watches them."),
      })
      .meta({ description: "What reads the changes from the database." }),
    events: z
      .object({
        delivered: countOf("Sent to clients, on streams and as answers to long polls."),
        replayed: countOf("Those of them that were read back for streams that began or came back."),
        unsentBytes: countOf("Bytes that wait for clients who are slow to take them."),
      })
      .meta({ description: "Events of jobs and batches." }),
    database: z
      .record(
        z.string(),
        z.object({
          isHealthy: z.boolean().meta({ description: "Whether the database answered lately." }),
          trouble: z.string().optional().meta({ description: "Why it does not." }),
          running: countOf("Statements under way."),
          waiting: countOf("Statements that wait for their turn."),
        }),
      )
      .meta({ description: "The connections, by what they are for." }),
    retention: z
      .object({
        removed: z
          .record(z.string(), z.int().min(0))
          .meta({ description: "Rows that this process removed, by what was removed." }),
        sweptAgoMs: z
          .int()
          .min(0)
          .nullable()
          .meta({ description: "Milliseconds since it last looked after everything that is old." }),
      })
      .meta({ description: "What was old enough to be removed." }),
    process: z
      .object({
        uptimeSeconds: z.number().min(0).meta({ description: "Since it began." }),
        rssBytes: countOf("Its memory."),
      })
      .meta({ description: "The process itself." }),
  })
  .meta({ description: "Of the one process that answers; counters since it began." });

export type Statistics = z.infer<typeof statisticsSchema>;
