import { z } from "zod";
import {
  createdJobSchema,
  jobActionSchema,
  jobSchema,
  retryJobSchema,
} from "../../protocol/job.ts";
import { ACCESS, mayPassOn } from "../access.ts";
import { audit } from "../audit.ts";
import { SMALL_BODY } from "../body.ts";
import { onceOf } from "../idempotency-key.ts";
import { withCallback, withLinks } from "../job-links.ts";
import { asCreated, EXPORT_ID, EXPORT_JOB } from "../openapi/examples.ts";
import { defineOperation, json, type Operation } from "../operation.ts";
import { findOwnJob } from "./find-job.ts";
import { idempotentHead, jobPath } from "./parameters.ts";

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

/** What an owner does with a job that is there. */
export const jobActions: readonly Operation[] = [
  defineOperation({
    id: "cancelJob",
    method: "post",
    path: "/v1/jobs/{id}/cancel",
    summary: "Cancel a job",
    description:
      "Credits of the attempt are refunded. To cancel what is cancelled changes nothing; what ended otherwise is a conflict.",
    access: ACCESS.cancelJob,
    params: jobPath(EXPORT_ID),
    body: {
      required: false,
      maxBytes: SMALL_BODY,
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
    async handler({ jobs }, { req, res, caller, id, body, baseUrl }) {
      const { ownerId } = await findOwnJob(jobs, caller, id);
      const { message } = (await body()).value;
      const job = await jobs.cancel(id, message, caller.ownerId);
      if (ownerId !== caller.ownerId) audit({ req, res }, "job.cancelled", { job: id, ownerId });
      return { json: withLinks(job, baseUrl) };
    },
  }),
  defineOperation({
    id: "retryJob",
    method: "post",
    path: "/v1/jobs/{id}/retry",
    summary: "Retry a job",
    description:
      "Begins the next attempt of a job that failed, was cancelled or timed out, and charges its credits again: with an `Idempotency-Key` once, and with `attempt` only if that one is the newest.",
    access: ACCESS.retryJob,
    params: jobPath(EXPORT_ID),
    headers: idempotentHead,
    body: {
      required: false,
      maxBytes: SMALL_BODY,
      schema: retryJobSchema,
      examples: { retry: {} },
    },
    answers: {
      200: {
        description:
          "The job, pending again. Callers with `jobs:create` or `jobs:write` also get the callback URL of the new attempt.",
        content: json(z.union([createdJobSchema, jobSchema]), { retry: asCreated(retried) }),
      },
    },
    problems: [
      "not_found",
      "job_conflict",
      "attempt_mismatch",
      "insufficient_credits",
      "idempotency_key_in_use",
      "idempotency_key_reused",
    ],
    async handler({ jobs, callbackLink }, { req, caller, id, body, baseUrl }) {
      await findOwnJob(jobs, caller, id);
      const { value, text } = await body();
      const once = onceOf(req, value, text);
      const job = await jobs.retry(id, { ...value, once }, caller.ownerId);
      // An owner who may only watch must not be able to report on the job itself.
      if (!mayPassOn(caller)) return { json: withLinks(job, baseUrl) };
      return { json: await withCallback(job, callbackLink, baseUrl) };
    },
  }),
  defineOperation({
    id: "deleteJob",
    method: "delete",
    path: "/v1/jobs/{id}",
    summary: "Delete a job",
    description:
      "With its history; its entries in the ledger stay. Whoever watches it is told. Only what has ended can be deleted.",
    access: ACCESS.deleteJob,
    params: jobPath(EXPORT_ID),
    answers: { 204: { description: "It is no more." } },
    problems: ["not_found", "job_conflict"],
    async handler({ jobs }, { req, res, caller, id }) {
      const { ownerId } = await findOwnJob(jobs, caller, id);
      await jobs.delete(id, caller.ownerId);
      if (ownerId !== caller.ownerId) audit({ req, res }, "job.deleted", { job: id, ownerId });
      return {};
    },
  }),
];
