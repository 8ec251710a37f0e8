import { z } from "zod";
import { statusEventSchema } from "./event.ts";
import { jobSchema } from "./job.ts";
import { textSchema } from "./json.ts";
import { statusSchema } from "./status.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 100;

/** A whole number in a query: digits and nothing else. */
function integerSchema(min: number, max: number) {
  return z
    .string()
    .regex(/^\d+$/, "must be a whole number")
    .transform(Number)
    .pipe(z.int().min(min).max(max));
}

export const limitSchema = integerSchema(1, MAX_LIMIT).default(DEFAULT_LIMIT);
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
    owner: nameSchema.optional(),
    status: statusesSchema.optional(),
    type: nameSchema.optional(),
    batch: z.guid().optional(),
    from: momentSchema.optional(),
    to: momentSchema.optional(),
    limit: limitSchema,
    offset: integerSchema(0, 2 ** 31 - 1).optional(),
    cursor: z.string().optional(),
    omit: omitSchema,
  })
  .refine(({ offset, cursor }) => offset === undefined || cursor === undefined, {
    path: ["cursor"],
    message: "cannot be combined with offset",
  });

/** `nextCursor` is the `cursor` of the next page, or null at the end. */
export const jobListSchema = z.object({
  items: z.array(jobSchema),
  total: z.int().min(0).optional(),
  nextCursor: z.string().nullable(),
});

/** The query of `GET /v1/jobs/{id}/history`: versions above `after`, ascending. */
export const historyQuerySchema = z.strictObject({
  after: integerSchema(0, Number.MAX_SAFE_INTEGER).default(0),
  limit: limitSchema,
});

/** `nextCursor` is the `after` of the next page, or null at the end. */
export const jobHistorySchema = z.object({
  items: z.array(statusEventSchema),
  nextCursor: z.string().nullable(),
});
