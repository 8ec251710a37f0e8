import { z } from "zod";
import { batchSchema } from "./batch.ts";
import { deletedSchema, statusEventSchema } from "./event.ts";

function pollAnswerSchema<Event extends z.ZodType>(event: Event) {
  return z.object({
    events: z.array(event),
    /** The next poll's `after`; the same cursor as an event's id on the stream. */
    cursor: z.string(),
    /** Nothing follows: poll no more. */
    done: z.boolean(),
    /** `after` meant nothing here: the events are the present state, to start over from. */
    reset: z.literal(true).optional(),
  });
}

/** The answer to a long poll of one job, or of many. */
export const statusPollSchema = pollAnswerSchema(z.union([statusEventSchema, deletedSchema]));

/** The answer to a long poll of a batch: its newest state, or nothing. */
export const batchPollSchema = pollAnswerSchema(batchSchema);
