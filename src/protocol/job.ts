import { z } from "zod";
import { countsSchema, ERROR_TEXTS, JOB_TEXTS, STATE_TEXTS, versionSchema } from "./event.ts";
import { jobIdSchema } from "./job-id.ts";
import { jsonObjectSchema, jsonSchema, textSchema } from "./json.ts";
import { problemSchema } from "./problem.ts";
import { writtenStatusSchema } from "./status.ts";
import { streamTokenSchema, wantedStreamTokenSchema } from "./stream-token.ts";

/** The largest `integer` of PostgreSQL. */
const MAX_INTEGER = 2 ** 31 - 1;

/** How many updates one `PATCH /v1/jobs` takes: one transaction should stay a short one. */
const MAX_UPDATES = 1_000;

const nameSchema = textSchema(255).min(1);
/** Texts that no index holds: only the size of a request bounds them. */
const freeTextSchema = textSchema(1_000_000);

const linksSchema = z.object({
  self: z.string().meta({ description: "The job." }),
  events: z.string().meta({ description: "Its stream." }),
});

const LINKS = { description: "Where to find it; absolute if the server knows its public URL." };

export const jobSchema = z
  .object({
    id: jobIdSchema.meta({ description: "The job. In events it is `jobId`." }),
    ownerId: z.string().meta({ description: "Whose job it is." }),
    ...versionSchema.shape,
    params: jsonSchema.nullable().meta({ description: JOB_TEXTS.params }),
    credits: z
      .object({
        charged: z.int().min(0).meta({ description: "Taken from the owner's account." }),
        refunded: z.int().min(0).meta({ description: "Given back for attempts that failed." }),
      })
      .meta({ description: "What all attempts together were charged and refunded." }),
    cost: z.int().min(0).nullable().meta({ description: JOB_TEXTS.cost }),
    createdAt: z.iso.datetime().meta({ description: "When it was created." }),
    updatedAt: z.iso.datetime().meta({ description: "When it was last changed." }),
    startedAt: z.iso
      .datetime()
      .nullable()
      .meta({ description: "When the attempt began to be processed." }),
    finishedAt: z.iso.datetime().nullable().meta({ description: "When it ended." }),
    timeoutAt: z.iso
      .datetime()
      .nullable()
      .meta({ description: "When the job times out, if it has not ended." }),
    omitted: z.array(z.string()).optional().meta({
      description:
        "What is null here although the job has it: in lists values above 8 KiB (1 KiB among more than 100 jobs) and those that `omit` named, else above 4 MiB.",
    }),
    links: linksSchema.meta(LINKS),
  })
  .meta({
    description:
      "A job as it stands: its newest event, and what does not change from event to event.",
  });

export type Job = z.infer<typeof jobSchema>;

export const createdJobSchema = jobSchema
  .extend({
    links: linksSchema
      .extend({
        callback: z.string().meta({
          description:
            "Where a provider may report on this attempt. It has a token in it: whoever has it can write the job.",
        }),
      })
      .meta(LINKS),
    streamToken: streamTokenSchema.optional().meta({ description: "If it was asked for." }),
  })
  .meta({
    description:
      "A job for whoever made it, or its next attempt: with the URL for an external provider.",
  });

export type CreatedJob = z.infer<typeof createdJobSchema>;

/** A job without what depends on where it is served. */
export type StoredJob = Omit<Job, "links">;

/** The body of `POST /v1/jobs`. */
export const createJobSchema = z
  .strictObject({
    type: nameSchema.meta({ description: JOB_TEXTS.type }),
    title: freeTextSchema.nullish().meta({ description: JOB_TEXTS.title }),
    params: jsonSchema.nullish().meta({ description: JOB_TEXTS.params }),
    metadata: jsonObjectSchema.nullish().meta({ description: JOB_TEXTS.metadata }),
    batchId: z
      .guid()
      .nullish()
      .meta({ description: "A batch of the same owner, which the job joins." }),
    timeoutSeconds: z.int().min(1).max(MAX_INTEGER).nullish().meta({
      description: "After so many seconds the job ends as `timeout`. Default: never.",
    }),
    timeoutExtends: z.boolean().optional().meta({
      description: "Whether each update of the unfinished job sets the deadline anew.",
    }),
    credits: z.int().min(0).max(MAX_INTEGER).optional().meta({
      description:
        "Charged with the creation and with each retry; refunded when the attempt fails, times out or is cancelled. Default: 0.",
    }),
    ownerId: nameSchema.optional().meta({
      description: "Whose job it is. Default: the caller.",
    }),
    id: jobIdSchema.optional().meta({
      description: "Its id, for callers with `jobs:write`. Default: a new one.",
    }),
    streamToken: wantedStreamTokenSchema,
  })
  .meta({ description: "A job to be." });

export type CreateJob = z.infer<typeof createJobSchema>;

/** The body of `PATCH /v1/jobs/{id}`. */
export const updateJobSchema = z
  .strictObject({
    version: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional().meta({
      description: "Refuse the update unless the job has this version: compare and swap.",
    }),
    attempt: z.int().min(1).max(MAX_INTEGER).optional().meta({
      description:
        "Refuse the update unless this attempt is running: for workers that may be late.",
    }),
    status: writtenStatusSchema.optional().meta({ description: STATE_TEXTS.status }),
    progress: z.number().min(0).max(100).optional().meta({ description: STATE_TEXTS.progress }),
    stage: freeTextSchema.nullish().meta({ description: STATE_TEXTS.stage }),
    message: freeTextSchema.nullish().meta({ description: STATE_TEXTS.message }),
    counts: countsSchema.nullish().meta({ description: STATE_TEXTS.counts }),
    result: jsonSchema.nullish().meta({ description: STATE_TEXTS.result }),
    error: z
      .strictObject({
        code: nameSchema.meta({ description: ERROR_TEXTS.code }),
        message: freeTextSchema.meta({ description: ERROR_TEXTS.message }),
      })
      .nullish()
      .meta({ description: STATE_TEXTS.error }),
    cost: z.int().min(0).max(MAX_INTEGER).nullish().meta({ description: JOB_TEXTS.cost }),
    title: freeTextSchema.nullish().meta({ description: JOB_TEXTS.title }),
    metadata: jsonObjectSchema.nullish().meta({ description: JOB_TEXTS.metadata }),
  })
  .meta({ description: "What is named changes, null empties, the rest stays as it is." });

export type UpdateJob = z.infer<typeof updateJobSchema>;

/** The body of `PATCH /v1/jobs`. An id that is none is one item's problem, not the request's. */
export const updateJobsSchema = z
  .strictObject({
    updates: z
      .array(
        updateJobSchema
          .omit({ title: true, metadata: true })
          .extend({ id: z.string().meta({ description: "The job." }) }),
      )
      .min(1)
      .max(MAX_UPDATES)
      .meta({ description: "The updates. Those of one job are applied in their order." }),
  })
  .meta({ description: "Updates of many jobs." });

/** The answer to `PATCH /v1/jobs`. */
export const updateResultsSchema = z
  .object({
    results: z
      .array(
        z.discriminatedUnion("ok", [
          z.object({
            id: z.string().meta({ description: "As the update has it." }),
            ok: z.literal(true).meta({ description: "The update was applied." }),
            job: jobSchema,
          }),
          z.object({
            id: z.string().meta({ description: "As the update has it." }),
            ok: z.literal(false).meta({ description: "It was not." }),
            problem: problemSchema,
          }),
        ]),
      )
      .meta({ description: "In the order of the updates." }),
  })
  .meta({ description: "What became of each update." });

/** The optional body of a cancel. */
export const jobActionSchema = z
  .strictObject({
    message: freeTextSchema.optional().meta({ description: "What the job's message becomes." }),
  })
  .prefault({})
  .meta({ description: "What to say of it; may be left out." });

/** The optional body of `POST /v1/jobs/{id}/retry`. */
export const retryJobSchema = z
  .strictObject({
    message: freeTextSchema.optional().meta({ description: "What the job's message becomes." }),
    attempt: z.int().min(1).max(MAX_INTEGER).optional().meta({
      description: "Retry only if this is the newest attempt: for who may ask twice.",
    }),
  })
  .prefault({})
  .meta({ description: "What to say of it, and of which attempt it is; may be left out." });

export type RetryJob = z.infer<typeof retryJobSchema>;
