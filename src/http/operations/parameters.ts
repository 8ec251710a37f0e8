import { z } from "zod";
import { jobIdSchema } from "../../protocol/job-id.ts";
import { waitSchema } from "../events/events-request.ts";

/** The path of a job. */
export function jobPath(example: string) {
  return z.object({ id: jobIdSchema.meta({ description: "The job.", example }) });
}

/** The path of a batch. */
export function batchPath(example: string) {
  return z.object({ id: jobIdSchema.meta({ description: "The batch.", example }) });
}

/** The head of a request that counts once; `onceOf` reads it. */
export const idempotentHead = z.object({
  "Idempotency-Key": z.string().min(1).max(255).optional().meta({
    description:
      "1 to 255 visible ASCII characters, best a UUID. The same request with the same key is answered as the first one was, and does nothing again; keys belong to the owner.",
    example: "8e03978e-40d5-43e8-bc93-6894a57f9324",
  }),
});

/** What streams read of the query: where to go on, and how long a poll waits. */
export function resumeQuery(lastId: string) {
  return z.object({
    lastEventId: z.string().optional().meta({
      description:
        "The last id that was seen: go on after it. The header wins, since a browser repeats a stale URL.",
      example: lastId,
    }),
    after: z.string().optional().meta({
      description: "The same, in the words of long polling: the `cursor` of the answer before.",
      example: lastId,
    }),
    wait: waitSchema.meta({
      description: "Long polling only: seconds to wait when there is nothing yet.",
      example: 0,
    }),
  });
}

/** What they read of the head. */
export function resumeHead(lastId: string) {
  return z.object({
    "Last-Event-ID": z.string().optional().meta({
      description:
        "The last id that was seen. `EventSource` sends it by itself when it reconnects.",
      example: lastId,
    }),
  });
}
