import type { Request } from "express";
import { z } from "zod";
import type { JobText } from "../../change/job-text.ts";
import type { JobStore, NewJob } from "../../db/jobs.ts";
import {
  type CreateJob,
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
import { ACCESS, listedOwner, mayPassOn, mayRead, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { SMALL_BODY } from "../body.ts";
import { onceOf } from "../idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "../job-cursor.ts";
import { jsonArray, selfLink, withCallback, withLinks } from "../job-links.ts";
import {
  asCreated,
  EVENTS,
  EXPORT,
  EXPORT_ID,
  EXPORT_JOB,
  IMAGE,
  JOB,
  JOB_ID,
} from "../openapi/examples.ts";
import { defineOperation, json, type Resource } from "../operation.ts";
import { noSuchJob } from "../validate.ts";
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

export const jobs: Resource = {
  name: "Jobs",
  description: "What an owner does with its jobs.",
  operations: [
    defineOperation({
      id: "createJob",
      method: "post",
      path: "/v1/jobs",
      summary: "Create a job",
      description:
        "Charges the credits and creates the job in one transaction, or does neither. The answer has the URL for a provider's callbacks.",
      access: ACCESS.createJob,
      headers: idempotentHead,
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
      async handler({ jobs, callbackLink }, { req, caller, body, baseUrl }) {
        const job = await jobs.create(toNewJob(req, caller, await body()), caller.ownerId);
        return {
          status: 201,
          location: selfLink(job.id, baseUrl),
          json: await withCallback(job, callbackLink, baseUrl),
        };
      },
    }),
    defineOperation({
      id: "listJobs",
      method: "get",
      path: "/v1/jobs",
      summary: "List jobs",
      description:
        "The newest first. Page with `cursor`, which stays right while jobs are created, or with `offset`, which also counts them. Without `owner` the caller's own; of who may read others', everybody's.",
      access: ACCESS.listJobs,
      query: listJobsQuerySchema,
      answers: {
        200: {
          description: "A page of jobs.",
          content: json(jobListSchema, { page: { items: [EXPORT_JOB, JOB], nextCursor: null } }),
        },
      },
      problems: [],
      async handler({ jobs }, { caller, query, baseUrl }) {
        const { owner, status, batch, limit, offset, cursor, omit, ...filter } = query;
        const after = cursor === undefined ? undefined : parseJobCursor(cursor);
        const listing = await jobs.list(
          { ...filter, ownerId: listedOwner(caller, owner), statuses: status, batchId: batch },
          { limit, offset, omit, after },
          caller.ownerId,
        );
        const items = jsonArray(listing.jobs.map((job) => withLinks(job, baseUrl)));
        const total = listing.total === undefined ? "" : `,"total":${listing.total}`;
        const next = JSON.stringify(listing.next ? formatJobCursor(listing.next) : null);
        return { json: `{"items":${items}${total},"nextCursor":${next}}` };
      },
    }),
    defineOperation({
      id: "getJob",
      method: "get",
      path: "/v1/jobs/{id}",
      summary: "Read a job",
      description: "A job as it stands.",
      access: ACCESS.getJob,
      params: jobPath(JOB_ID),
      answers: { 200: { description: "The job.", content: json(jobSchema, { job: JOB }) } },
      problems: ["not_found"],
      async handler({ jobs }, { caller, id, baseUrl }) {
        return { json: withLinks(await findJob(jobs, caller, id), baseUrl) };
      },
    }),
    defineOperation({
      id: "getJobHistory",
      method: "get",
      path: "/v1/jobs/{id}/history",
      summary: "Read a job's history",
      description: "Every version of the job, ascending: what its stream has shown.",
      access: ACCESS.getJobHistory,
      params: jobPath(JOB_ID),
      query: historyQuerySchema,
      answers: {
        200: {
          description: "A page of versions.",
          content: json(jobHistorySchema, { page: { items: EVENTS, nextCursor: null } }),
        },
      },
      problems: ["not_found"],
      async handler({ jobs }, { caller, id, query: { after, limit } }) {
        const job = await findJob(jobs, caller, id);
        const events = await jobs.history(job.id, after, limit, caller.ownerId);
        const last = events.at(-1)?.version;
        // A page may be shorter than asked for: it ends where it gets too large.
        const next = last === undefined || last >= job.version ? null : `"${last}"`;
        const items = jsonArray(events.map(({ json: event }) => event));
        return { json: `{"items":${items},"nextCursor":${next}}` };
      },
    }),
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
      async handler({ jobs }, { caller, id, body, baseUrl }) {
        await findOwnJob(jobs, caller, id);
        const { message } = (await body()).value;
        return { json: withLinks(await jobs.cancel(id, message, caller.ownerId), baseUrl) };
      },
    }),
    defineOperation({
      id: "retryJob",
      method: "post",
      path: "/v1/jobs/{id}/retry",
      summary: "Retry a job",
      description:
        "Begins the next attempt of a job that failed, was cancelled or timed out, and charges its credits again.",
      access: ACCESS.retryJob,
      params: jobPath(EXPORT_ID),
      body: {
        required: false,
        maxBytes: SMALL_BODY,
        schema: jobActionSchema,
        examples: { retry: {} },
      },
      answers: {
        200: {
          description:
            "The job, pending again. Callers with `jobs:create` or `jobs:write` also get the callback URL of the new attempt.",
          content: json(z.union([createdJobSchema, jobSchema]), { retry: asCreated(retried) }),
        },
      },
      problems: ["not_found", "job_conflict", "insufficient_credits"],
      async handler({ jobs, callbackLink }, { caller, id, body, baseUrl }) {
        await findOwnJob(jobs, caller, id);
        const { message } = (await body()).value;
        const job = await jobs.retry(id, message, caller.ownerId);
        // An owner who may only watch must not be able to report on the job itself.
        if (!mayPassOn(caller)) return { json: withLinks(job, baseUrl) };
        return { json: await withCallback(job, callbackLink, baseUrl) };
      },
    }),
  ],
};

/** The job in the path; an answer that tells a foreign job from none would tell that it exists. */
async function findJob(jobs: JobStore, caller: Caller, id: string): Promise<JobText> {
  const job = await jobs.get(id, caller.ownerId);
  if (!job || !mayRead(caller, job)) throw noSuchJob();
  return job;
}

async function findOwnJob(jobs: JobStore, caller: Caller, id: string): Promise<void> {
  requireOwn(caller, (await findJob(jobs, caller, id)).ownerId);
}

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function toNewJob(
  req: Request,
  caller: Caller,
  { value, text }: { readonly value: CreateJob; readonly text: string },
): NewJob {
  const { params, metadata, ownerId = caller.ownerId, ...job } = value;
  requireOwn(caller, ownerId);
  return {
    ...job,
    ownerId,
    body: text,
    once: onceOf(req, { ...job, params, metadata, ownerId }, text),
  };
}
