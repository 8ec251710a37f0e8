import { z } from "zod";
import { countsSchema, statusEventSchema } from "./event.ts";
import { jsonObjectSchema, jsonSchema, textSchema } from "./json.ts";
import { problemSchema } from "./problem.ts";
import { type Status, statusSchema } from "./status.ts";

/** The largest `integer` of PostgreSQL. */
const MAX_INTEGER = 2 ** 31 - 1;

/** How many updates one `PATCH /v1/jobs` takes: one transaction should stay a short one. */
const MAX_UPDATES = 1_000;

/** Any UUID that PostgreSQL takes: an id made in SQL need not follow a version of RFC 9562. */
export const jobIdSchema = z.guid();

const nameSchema = textSchema(255).min(1);
/** Texts that no index holds: only the size of a request bounds them. */
const freeTextSchema = textSchema(1_000_000);

/** A job as it stands: the data of its newest event, and what does not change from event to event. */
export const jobSchema = statusEventSchema.extend({
  /** The same as `jobId`. */
  id: jobIdSchema,
  ownerId: z.string(),
  type: z.string(),
  title: z.string().nullable(),
  params: jsonSchema.nullable(),
  metadata: jsonObjectSchema.nullable(),
  credits: z.object({ charged: z.int().min(0), refunded: z.int().min(0) }),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
  startedAt: z.iso.datetime().nullable(),
  finishedAt: z.iso.datetime().nullable(),
  timeoutAt: z.iso.datetime().nullable(),
  /** Absolute when the server knows its public URL, else from the root of its host. */
  links: z.object({ self: z.string(), events: z.string() }),
});

export type Job = z.infer<typeof jobSchema>;

/**
 * The answer to whoever made a job or its next attempt: `links.callback` is the URL, with a token
 * for this attempt, that an external provider can report to. Whoever has it can write the job.
 */
export const createdJobSchema = jobSchema.extend({
  links: jobSchema.shape.links.extend({ callback: z.string() }),
});

export type CreatedJob = z.infer<typeof createdJobSchema>;

/** A job without what depends on where it is served. */
export type StoredJob = Omit<Job, "links">;

/**
 * A job as it goes to the wire, but for its links, and what is to be known of it on the way. It is
 * never parsed: the JSON in it is PostgreSQL's own text, whose numbers no double holds.
 */
export type JobText = {
  readonly id: string;
  readonly ownerId: string;
  readonly attempt: number;
  readonly version: number;
  readonly status: Status;
  /** A StoredJob as JSON on one line. */
  readonly json: string;
};

/** The body of `POST /v1/jobs`. `ownerId` defaults to the caller. */
export const createJobSchema = z.strictObject({
  type: nameSchema,
  title: freeTextSchema.nullish(),
  params: jsonSchema.nullish(),
  metadata: jsonObjectSchema.nullish(),
  batchId: z.guid().nullish(),
  /** Seconds from the creation until the job times out. Default: never. */
  timeoutSeconds: z.int().min(1).max(MAX_INTEGER).nullish(),
  /** Whether any update of the unfinished job sets the deadline anew. */
  timeoutExtends: z.boolean().optional(),
  /** Charged with the creation and with each retry, refunded when an attempt fails. */
  credits: z.int().min(0).max(MAX_INTEGER).optional(),
  ownerId: nameSchema.optional(),
});

export type CreateJob = z.infer<typeof createJobSchema>;

/**
 * The body of `PATCH /v1/jobs/{id}`: what is named changes, null empties, the rest stays. With
 * `attempt` the update is refused unless that attempt is running.
 */
export const updateJobSchema = z.strictObject({
  attempt: z.int().min(1).max(MAX_INTEGER).optional(),
  status: statusSchema.optional(),
  progress: z.number().min(0).max(100).optional(),
  stage: freeTextSchema.nullish(),
  message: freeTextSchema.nullish(),
  counts: countsSchema.nullish(),
  result: jsonSchema.nullish(),
  error: z.strictObject({ code: nameSchema, message: freeTextSchema }).nullish(),
});

export type UpdateJob = z.infer<typeof updateJobSchema>;

/** The body of `PATCH /v1/jobs`. An id that is none is one item's problem, not the request's. */
export const updateJobsSchema = z.strictObject({
  updates: z
    .array(updateJobSchema.extend({ id: z.string() }))
    .min(1)
    .max(MAX_UPDATES),
});

/** The answer to `PATCH /v1/jobs`: a result for each update, in their order. */
export const updateResultsSchema = z.object({
  results: z.array(
    z.discriminatedUnion("ok", [
      z.object({ id: z.string(), ok: z.literal(true), job: jobSchema }),
      z.object({ id: z.string(), ok: z.literal(false), problem: problemSchema }),
    ]),
  ),
});

/** The optional body of `POST /v1/jobs/{id}/cancel` and `/retry`: what the job's message becomes. */
export const jobActionSchema = z.strictObject({ message: freeTextSchema.optional() }).prefault({});
