import { z } from "zod";
import {
  createdJobSchema,
  createJobSchema,
  jobActionSchema,
  jobSchema,
} from "../../protocol/job.ts";
import {
  historyQuerySchema,
  jobHistorySchema,
  jobListSchema,
  listJobsQuerySchema,
} from "../../protocol/job-list.ts";
import {
  asCreated,
  EVENTS,
  EXPORT,
  EXPORT_ID,
  EXPORT_JOB,
  IMAGE,
  JOB,
  JOB_ID,
  OWNER,
} from "./examples.ts";
import { jobSchemas } from "./job-schemas.ts";
import { json, type Resource } from "./operation.ts";
import { header, pathId, queryOf } from "./parameters.ts";

const cancelled = {
  ...EXPORT_JOB,
  version: 2,
  status: "cancelled",
  message: "Not needed any more",
  finishedAt: "2026-07-28T09:32:10.518Z",
  occurredAt: "2026-07-28T09:32:10.518Z",
  updatedAt: "2026-07-28T09:32:10.518Z",
};

const retried = { ...EXPORT_JOB, version: 3, attempt: 2 };

/** An Idempotency-Key, for the operations that take one. */
export const idempotencyKey = header("Idempotency-Key", z.string().min(1).max(255).optional(), [
  "1 to 255 visible ASCII characters, best a UUID. The same request with the same key is answered as the first one was, and does nothing again; keys belong to the owner.",
  "8e03978e-40d5-43e8-bc93-6894a57f9324",
]);

export const jobs: Resource = {
  name: "Jobs",
  description: "What an owner does with its jobs.",
  schemas: jobSchemas,
  operations: [
    {
      id: "createJob",
      method: "post",
      path: "/v1/jobs",
      summary: "Create a job",
      description:
        "Charges the credits and creates the job in one transaction, or does neither. The answer has the URL for a provider's callbacks. For another owner the token needs `jobs:write`.",
      access: ["jobs:create", "jobs:write"],
      parameters: [idempotencyKey],
      body: {
        required: true,
        schema: createJobSchema,
        examples: { image: IMAGE, minimal: EXPORT },
      },
      answers: {
        201: {
          description: "The job was created.",
          headers: { Location: { description: "The job.", example: JOB.links.self } },
          content: json(createdJobSchema, {
            image: asCreated(JOB),
            minimal: asCreated(EXPORT_JOB),
          }),
        },
      },
      problems: ["insufficient_credits", "idempotency_key_in_use", "idempotency_key_reused"],
    },
    {
      id: "listJobs",
      method: "get",
      path: "/v1/jobs",
      summary: "List jobs",
      description:
        "The newest first. Page with `cursor`, which stays right while jobs are created, or with `offset`, which also counts them. The caller's own, or any with `jobs:read` or `jobs:write`.",
      access: "caller",
      parameters: queryOf(listJobsQuerySchema, {
        owner: ["Whose jobs; others than one's own need `jobs:read`.", OWNER],
        status: ["Only those that stand so; several with commas.", "pending,processing"],
        type: ["Only those of this type.", "image"],
        batch: ["Only those of this batch."],
        from: [
          "Only those created at this moment or later; a day begins at midnight UTC.",
          "2026-07-01",
        ],
        to: ["Only those created before this moment.", "2126-08-01T00:00:00Z"],
        limit: ["How many at most.", 20],
        offset: ["How many to skip; the answer then has a `total`. Not with `cursor`.", 0],
        cursor: ["The `nextCursor` of the page before."],
        omit: [
          "Leaves out `params`, `result` or `metadata`; several with commas. Values above 8 KiB are always left out of a list; a job's `omitted` names what it lacks.",
          "params,result",
        ],
      }),
      answers: {
        200: {
          description: "A page of jobs.",
          content: json(jobListSchema, { page: { items: [EXPORT_JOB, JOB], nextCursor: null } }),
        },
      },
      problems: [],
    },
    {
      id: "getJob",
      method: "get",
      path: "/v1/jobs/{id}",
      summary: "Read a job",
      description: "One's own, or any with `jobs:read` or `jobs:write`.",
      access: "caller",
      parameters: [pathId("id", "The job.", JOB_ID)],
      answers: { 200: { description: "The job.", content: json(jobSchema, { job: JOB }) } },
      problems: ["not_found"],
    },
    {
      id: "getJobHistory",
      method: "get",
      path: "/v1/jobs/{id}/history",
      summary: "Read a job's history",
      description: "Every version of the job, ascending: what its stream has shown.",
      access: "caller",
      parameters: [
        pathId("id", "The job.", JOB_ID),
        ...queryOf(historyQuerySchema, {
          after: ["Only versions above this one.", 0],
          limit: ["How many at most.", 20],
        }),
      ],
      answers: {
        200: {
          description: "A page of versions.",
          content: json(jobHistorySchema, { page: { items: EVENTS, nextCursor: null } }),
        },
      },
      problems: ["not_found"],
    },
    {
      id: "cancelJob",
      method: "post",
      path: "/v1/jobs/{id}/cancel",
      summary: "Cancel a job",
      description:
        "By its owner, or with `jobs:write`. Credits of the attempt are refunded. To cancel what is cancelled changes nothing; what ended otherwise is a conflict.",
      access: "caller",
      parameters: [pathId("id", "The job.", EXPORT_ID)],
      body: {
        required: false,
        schema: jobActionSchema,
        examples: { cancel: { message: "Not needed any more" } },
      },
      answers: {
        200: {
          description: "The job, cancelled.",
          content: json(jobSchema, { cancel: cancelled }),
        },
      },
      problems: ["not_found", "job_conflict"],
    },
    {
      id: "retryJob",
      method: "post",
      path: "/v1/jobs/{id}/retry",
      summary: "Retry a job",
      description:
        "Begins the next attempt of a job that failed, was cancelled or timed out, and charges its credits again. By its owner, or with `jobs:write`.",
      access: "caller",
      parameters: [pathId("id", "The job.", EXPORT_ID)],
      body: { required: false, schema: jobActionSchema, examples: { retry: {} } },
      answers: {
        200: {
          description:
            "The job, pending again. Callers with `jobs:create` or `jobs:write` also get the callback URL of the new attempt.",
          content: json(z.union([createdJobSchema, jobSchema]), { retry: asCreated(retried) }),
        },
      },
      problems: ["not_found", "job_conflict", "insufficient_credits"],
    },
  ],
};
