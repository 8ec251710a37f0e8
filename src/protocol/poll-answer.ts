import { z } from "zod";
import { batchSchema } from "./batch.ts";
import { customEventSchema, deletedSchema, statusEventSchema } from "./event.ts";

function pollAnswerSchema<Event extends z.ZodType>(event: Event, description: string) {
  return z.object({
    events: z.array(event).meta({ description }),
    // The same as an event's id on the stream.
    cursor: z.string().meta({ description: "The `after` of the next poll." }),
    done: z.boolean().meta({ description: "Nothing follows: poll no more." }),
    reset: z.literal(true).optional().meta({
      description:
        "`after` meant nothing here: the events are the present state, to start over from.",
    }),
  });
}

export const statusPollSchema = pollAnswerSchema(
  z.union([statusEventSchema, customEventSchema, deletedSchema]),
  "What is new; none when the time was up.",
).meta({ description: "The answer to a long poll for one job, or for many." });

export const batchPollSchema = pollAnswerSchema(
  batchSchema,
  "The newest state, or nothing when the time was up.",
).meta({ description: "The answer to a long poll for a batch." });
