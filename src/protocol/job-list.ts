import { z } from "zod";
import { customEventSchema, statusEventSchema } from "./event.ts";
import { jobSchema } from "./job.ts";
import { digitsOfExponents, jsonObjectSchema, textSchema } from "./json.ts";
import {
  cursorSchema,
  integerSchema,
  limitSchema,
  nextCursorSchema,
  severalSchema,
} from "./page.ts";
import { writtenStatusSchema } from "./status.ts";

const nameSchema = textSchema(255).min(1);

/** Values that a list can leave out. */
export const OMITTABLE = ["params", "result", "metadata"] as const;

const omitSchema = severalSchema(z.enum(OMITTABLE)).optional();

/** A moment with its offset from UTC, or a day, which counts from `fromDay` on. */
function momentSchema(fromDay: (day: string) => string) {
  return z.union(
    [z.iso.datetime({ offset: true }), z.iso.date().transform(fromDay)],
    "must be an ISO 8601 date, or a date and time with its offset",
  );
}

const beginning = (day: string) => `${day}T00:00:00Z`;
const DAY_MS = 86_400_000;
/** The first moment after it. Of the last day that there is, that day's last. */
const afterwards = (day: string) =>
  day === "9999-12-31" ? `${day}T24:00:00Z` : new Date(Date.parse(day) + DAY_MS).toISOString();

/** A JSON object as text. */
const containedSchema = textSchema(4_096).refine(isJsonObject, "must be a JSON object");

function isJsonObject(text: string): boolean {
  try {
    return jsonObjectSchema.safeParse(JSON.parse(text)).success && digitsOfExponents(text) === 0;
  } catch {
    return false;
  }
}

/**
 * The query of `GET /v1/jobs`. `from` is the first moment of creation that counts, `to` the first
 * that does not, or the last day that does. With `offset` the answer has a `total`. Values above
 * 8 KiB are left out, and those that `omit` names; a job's `omitted` names what it lacks.
 */
export const listJobsQuerySchema = z
  .strictObject({
    ownerId: nameSchema.optional().meta({
      description: "Whose jobs.",
      example: "alice",
    }),
    status: severalSchema(writtenStatusSchema)
      .optional()
      .meta({
        description: "Only those that stand so; several with commas.",
        example: ["pending", "processing"],
      }),
    type: severalSchema(nameSchema)
      .optional()
      .meta({ description: "Only those of this type; several with commas.", example: ["image"] }),
    batchId: z.guid().optional().meta({ description: "Only those of this batch." }),
    q: textSchema(200).min(1).optional().meta({
      description:
        "Only those with this in their title, whatever its case, or at the start of their id.",
      example: "bicycle",
    }),
    metadata: containedSchema.optional().meta({
      description: "Only those whose metadata has these members, as a JSON object.",
      example: '{"project":"postcards"}',
    }),
    from: momentSchema(beginning).optional().meta({
      description: "Only those created at this moment or later; a day begins at midnight UTC.",
      example: "2026-07-01",
    }),
    to: momentSchema(afterwards).optional().meta({
      description: "Only those created before this moment; a day counts to its end, UTC.",
      example: "2126-08-01T00:00:00Z",
    }),
    sort: z.enum(["-createdAt", "createdAt"]).default("-createdAt").meta({
      description: "The newest first, or the oldest.",
      example: "-createdAt",
    }),
    limit: limitSchema,
    offset: integerSchema(0, 2 ** 31 - 1)
      .optional()
      .meta({
        description:
          "How many to skip; the answer then has a `total`. Not with `cursor`, which stays right while jobs are created: what was created since shifts what is skipped.",
        example: 0,
      }),
    cursor: cursorSchema,
    // No example: the answer is not the shape that the description has for a list.
    fields: severalSchema(jobSchema.keyof()).optional().meta({
      description: "Only these members of each job; several with commas. Default: all.",
    }),
    omit: omitSchema.meta({
      description:
        "Leaves out `params`, `result` or `metadata`; several with commas. Values above 8 KiB are always left out of a list; a job's `omitted` names what it lacks.",
      example: ["params", "result"],
    }),
  })
  .refine(({ offset, cursor }) => offset === undefined || cursor === undefined, {
    path: ["cursor"],
    message: "cannot be combined with offset",
  });

export const jobListSchema = z
  .object({
    items: z.array(jobSchema).meta({ description: "The jobs; with `fields` only what it names." }),
    total: z
      .int()
      .min(0)
      .optional()
      .meta({ description: "How many jobs match in all; only with `offset`." }),
    nextCursor: nextCursorSchema,
    streamCursor: z.string().meta({
      description:
        "The `after` of a stream over the same jobs that goes on where this list ends; of several pages, that of the first.",
    }),
  })
  .meta({ description: "A page of jobs." });

/** The query of `GET /v1/jobs/{id}/history`. */
export const historyQuerySchema = z.strictObject({
  after: integerSchema(0, Number.MAX_SAFE_INTEGER)
    .default(0)
    .meta({ description: "Only versions above this one.", example: 0 }),
  cursor: integerSchema(0, Number.MAX_SAFE_INTEGER)
    .optional()
    .meta({ description: "The `nextCursor` of the page before." }),
  limit: limitSchema,
});

export const jobHistorySchema = z
  .object({
    items: z
      .array(z.union([statusEventSchema, customEventSchema]))
      .meta({ description: "The versions, and among them the events of producers." }),
    nextCursor: z
      .string()
      .nullable()
      .meta({ description: "The `cursor` of the next page; null at the end." }),
  })
  .meta({ description: "A page of a job's versions, ascending." });
