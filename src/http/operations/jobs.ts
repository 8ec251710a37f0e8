import type { Request } from "express";
import { formatCursor } from "../../change/cursor.ts";
import type { NewJob } from "../../db/jobs.ts";
import { JobcastError } from "../../errors.ts";
import {
  type CreateJob,
  createdJobSchema,
  createJobSchema,
  jobSchema,
} from "../../protocol/job.ts";
import {
  historyQuerySchema,
  jobHistorySchema,
  jobListSchema,
  listJobsQuerySchema,
  OMITTABLE,
} from "../../protocol/job-list.ts";
import { viewersSchema } from "../../protocol/viewers.ts";
import { ACCESS, listedOwner, maySeeOwners, requireNaming, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { onceOf } from "../idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "../job-cursor.ts";
import { jsonArray, selfLink, withCallback, withLinks } from "../job-links.ts";
import {
  asCreated,
  CURSOR,
  EVENTS,
  EXPORT,
  EXPORT_JOB,
  IMAGE,
  JOB,
  JOB_ID,
  OWNER,
} from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { pickMembers } from "../pick-members.ts";
import { assertRoom } from "../quota.ts";
import { viewerToken, withToken } from "../viewer-token.ts";
import { findJob } from "./find-job.ts";
import { jobActions } from "./job-actions.ts";
import { idempotentHead, jobPath } from "./parameters.ts";

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
      problems: [
        "insufficient_credits",
        "quota_exceeded",
        "job_exists",
        "idempotency_key_in_use",
        "idempotency_key_reused",
      ],
      async handler(parts, { req, caller, body, baseUrl }) {
        const { jobs, callbackLink, mintStreamToken } = parts;
        const { request, wanted } = toNewJob(req, caller, await body());
        await assertRoom(parts, { ...request, count: 1, by: caller.ownerId, makes: "job" });
        const job = await jobs.create(request, caller.ownerId);
        const grant = { ownerId: job.ownerId, jobs: [job.id], ...wanted };
        const token = wanted && (await viewerToken(mintStreamToken, caller, grant));
        return {
          status: 201,
          location: selfLink(job.id, baseUrl),
          json: withToken(await withCallback(job, callbackLink, baseUrl), token),
        };
      },
    }),
    defineOperation({
      id: "listJobs",
      method: "get",
      path: "/v1/jobs",
      summary: "List jobs",
      description:
        "Page with `cursor`, which stays right while jobs are created, or with `offset`, which also counts them. Without `ownerId` the caller's own; of who may read others', everybody's.",
      access: ACCESS.listJobs,
      query: listJobsQuerySchema,
      answers: {
        200: {
          description: "A page of jobs.",
          content: json(jobListSchema, {
            page: { items: [EXPORT_JOB, JOB], nextCursor: null, streamCursor: CURSOR },
          }),
        },
      },
      problems: [],
      async handler({ jobs, epoch }, { caller, query, baseUrl }) {
        const { ownerId, status, type, limit, offset, cursor, sort, ...others } = query;
        const { fields, omit = [], ...filter } = others;
        const wanted = fields && new Set<string>(fields);
        const left = OMITTABLE.filter((name) => omit.includes(name) || wanted?.has(name) === false);
        const after = cursor === undefined ? undefined : parseJobCursor(cursor);
        const isItsBatch = caller.batchId !== undefined && filter.batchId === caller.batchId;
        const owner = isItsBatch ? undefined : listedOwner(caller, ownerId);
        const listing = await jobs.list(
          { ...filter, ownerId: owner, statuses: status, types: type },
          { limit, offset, omit: left, after, isOldestFirst: sort === "createdAt" },
          caller.ownerId,
        );
        const whole = listing.jobs.map((job) => withLinks(job, baseUrl));
        const items = jsonArray(wanted ? whole.map((job) => pickMembers(job, wanted)) : whole);
        const total = listing.total === undefined ? "" : `,"total":${listing.total}`;
        const next = JSON.stringify(listing.next ? formatJobCursor(listing.next) : null);
        const streamCursor = formatCursor(epoch(), listing.snapshot);
        const cursors = `"nextCursor":${next},"streamCursor":"${streamCursor}"`;
        return { json: `{"items":${items}${total},${cursors}}` };
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
      async handler({ jobs }, { caller, id, query: { after, cursor = after, limit } }) {
        const job = await findJob(jobs, caller, id);
        const events = await jobs.history(job.id, cursor, limit, caller.ownerId);
        const last = events.at(-1)?.version;
        // A page may be shorter than asked for: it ends where it gets too large.
        const next = last === undefined || last >= job.version ? null : `"${last}"`;
        const items = jsonArray(events.map(({ json: event }) => event));
        return { json: `{"items":${items},"nextCursor":${next}}` };
      },
    }),
    defineOperation({
      id: "getJobViewers",
      method: "get",
      path: "/v1/jobs/{id}/viewers",
      summary: "See who watches a job",
      description:
        "How many streams and long polls of this job alone there are, in all processes, as of a few seconds ago; whose they are is told to who may read everybody's jobs. Only where `PRESENCE` is on.",
      access: ACCESS.getJobViewers,
      params: jobPath(JOB_ID),
      answers: {
        200: {
          description: "Who watches.",
          content: json(viewersSchema, { two: { count: 2, owners: [OWNER] } }),
        },
      },
      problems: ["not_found"],
      async handler({ jobs, presence }, { caller, id }) {
        const job = await findJob(jobs, caller, id);
        if (!presence) throw new JobcastError("not_found", "Who watches is not counted here.");
        const { count, owners } = await presence.read(job.id, caller.ownerId);
        return reply({ count, ...(maySeeOwners(caller) && { owners }) });
      },
    }),
    ...jobActions,
  ],
};

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function toNewJob(
  req: Request,
  caller: Caller,
  { value, text }: { readonly value: CreateJob; readonly text: string },
): { readonly request: NewJob; readonly wanted: CreateJob["streamToken"] } {
  const { params, metadata, ownerId = caller.ownerId, streamToken: wanted, ...job } = value;
  requireOwn(caller, ownerId);
  requireNaming(caller, job.id);
  const once = onceOf(req, { ...job, params, metadata, ownerId }, text);
  return { request: { ...job, ownerId, body: text, once }, wanted };
}
