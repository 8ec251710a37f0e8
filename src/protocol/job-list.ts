import { z } from "zod";
import { statusEventSchema } from "./event.ts";
import { jobSchema } from "./job.ts";
import { textSchema } from "./json.ts";
import { cursorSchema, integerSchema, limitSchema, nextCursorSchema } from "./page.ts";
import { statusSchema } from "./status.ts";

const nameSchema = textSchema(255).min(1);

/** `status=queued&status=failed` and `status=queued,failed` are the same. */
const statusesSchema = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => [value].flat().flatMap((part) => part.split(",")))
  .pipe(z.array(statusSchema));

/** Values that a list can leave out. */
const OMITTABLE = ["params", "result", "metadata"] as const;

/** `omit=params&omit=result` and `omit=params,result` are the same. */
const omitSchema = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => [value].flat().flatMap((part) => part.split(",")))
  .pipe(z.array(z.enum(OMITTABLE)))
  .optional();

/** A moment with its offset from UTC, or a day, which begins at midnight UTC. */
const momentSchema = z.union(
  [z.iso.datetime({ offset: true }), z.iso.date().transform((day) => `${day}T00:00:00Z`)],
  "must be an ISO 8601 date, or a date and time with its offset",
);

/**
 * The query of `GET /v1/jobs`. The newest job comes first; `from` is the first moment of creation
 * that counts, `to` the first that does not. With `offset` the answer has a `total`. Values above
 * 8 KiB are left out, and those that `omit` names; a job's `omitted` names what it lacks.
 */
export const listJobsQuerySchema = z
  .strictObject({
    owner: nameSchema.optional().meta({
      description: "Whose jobs.",
      example: "alice",
    }),
    status: statusesSchema.optional().meta({
      description: "Only those that stand so; several with commas.",
      example: ["pending", "processing"],
    }),
    type: nameSchema.optional().meta({ description: "Only those of this type.", example: "image" }),
    batch: z.guid().optional().meta({ description: "Only those of this batch." }),
    from: momentSchema.optional().meta({
      description: "Only those created at this moment or later; a day begins at midnight UTC.",
      example: "2026-07-01",
    }),
    to: momentSchema.optional().meta({
      description: "Only those created before this moment.",
      example: "2126-08-01T00:00:00Z",
    }),
    limit: limitSchema,
    offset: integerSchema(0, 2 ** 31 - 1)
      .optional()
      .meta({
        description: "How many to skip; the answer then has a `total`. Not with `cursor`.",
        example: 0,
      }),
    cursor: cursorSchema,
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
    items: z.array(jobSchema).meta({ description: "The jobs." }),
    total: z
      .int()
      .min(0)
      .optional()
      .meta({ description: "How many jobs match in all; only with `offset`." }),
    nextCursor: nextCursorSchema,
  })
  .meta({ description: "A page of jobs, the newest first." });

/** The query of `GET /v1/jobs/{id}/history`. */
export const historyQuerySchema = z.strictObject({
  after: integerSchema(0, Number.MAX_SAFE_INTEGER)
    .default(0)
    .meta({ description: "Only versions above this one.", example: 0 }),
  limit: limitSchema,
});

export const jobHistorySchema = z
  .object({
    items: z.array(statusEventSchema).meta({ description: "The versions." }),
    nextCursor: z
      .string()
      .nullable()
      .meta({ description: "The `after` of the next page; null at the end." }),
  })
  .meta({ description: "A page of a job's versions, ascending." });
