import type { Request } from "express";
import { z } from "zod";
import type { BatchText } from "../../change/batch-text.ts";
import type { MoreJobs, NewBatch } from "../../db/batches.ts";
import {
  type AddJobs,
  addedJobsSchema,
  addJobsSchema,
  batchListSchema,
  batchResourceSchema,
  type CreateBatch,
  createBatchSchema,
  createdBatchSchema,
  listBatchesQuerySchema,
} from "../../protocol/batch.ts";
import { jobActionSchema } from "../../protocol/job.ts";
import { batchPollSchema } from "../../protocol/poll-answer.ts";
import { ACCESS, listedOwner, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { SMALL_BODY } from "../body.ts";
import { withAdmission } from "../events/admission.ts";
import { batchEvents, visibleBatch } from "../events/batch-events.ts";
import { onceOf } from "../idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "../job-cursor.ts";
import { jsonArray, withCallback } from "../job-links.ts";
import { streamText } from "../openapi/event-text.ts";
import {
  ADDED_JOB,
  BATCH,
  BATCH_EVENT,
  BATCH_ID,
  eventIdOf,
  MESH_JOBS,
  MESHES,
} from "../openapi/examples.ts";
import { defineOperation, json, type Resource } from "../operation.ts";
import { viewerToken, withToken } from "../viewer-token.ts";
import { NO_CONTENT, STREAM_PROBLEMS } from "./events.ts";
import { batchPath, idempotentHead, resumeHead, resumeQuery } from "./parameters.ts";

const cancelled = {
  ...BATCH,
  total: 3,
  failed: 3,
  progress: 100,
  status: "cancelled",
  version: 4,
  finishedAt: "2026-07-28T09:36:02.733Z",
};

export const batches: Resource = {
  name: "Batches",
  description: "Groups of jobs that are made, watched and cancelled together.",
  operations: [
    defineOperation({
      id: "createBatch",
      method: "post",
      path: "/v1/batches",
      summary: "Create a batch",
      description: "Creates the batch with its jobs, and charges all their credits, or nothing.",
      access: ACCESS.createBatch,
      headers: idempotentHead,
      body: { required: true, schema: createBatchSchema, examples: { meshes: MESHES } },
      answers: {
        201: {
          description: "The batch and its jobs were created.",
          headers: { Location: { description: "The batch.", example: BATCH.links.self } },
          content: json(createdBatchSchema, { meshes: { ...BATCH, jobs: MESH_JOBS } }),
        },
      },
      problems: ["insufficient_credits", "idempotency_key_in_use", "idempotency_key_reused"],
      async handler(
        { batches: store, callbackLink, mintStreamToken },
        { req, caller, body, baseUrl },
      ) {
        const { request, wanted } = toNewBatch(req, caller, await body());
        const made = await store.create(request, caller.ownerId);
        const { id: batchId, ownerId } = made.batch;
        const grant = { ownerId, batchId, ...wanted };
        const token = wanted && (await viewerToken(mintStreamToken, caller, grant));
        const jobs = await Promise.all(
          made.jobs.map((job) => withCallback(job, callbackLink, baseUrl)),
        );
        return {
          status: 201,
          location: batchLink(batchId, baseUrl),
          json: withToken(
            `${withBatchLinks(made.batch, baseUrl).slice(0, -1)},"jobs":${jsonArray(jobs)}}`,
            token,
          ),
        };
      },
    }),
    defineOperation({
      id: "listBatches",
      method: "get",
      path: "/v1/batches",
      summary: "List batches",
      description:
        "The newest first. Without `ownerId` the caller's own; of who may read others', everybody's.",
      access: ACCESS.listBatches,
      query: listBatchesQuerySchema,
      answers: {
        200: {
          description: "A page of batches.",
          content: json(batchListSchema, { page: { items: [BATCH], nextCursor: null } }),
        },
      },
      problems: [],
      async handler({ batches: store }, { caller, query, baseUrl }) {
        const { ownerId, status: statuses, limit, cursor } = query;
        const after = cursor === undefined ? undefined : parseJobCursor(cursor);
        const filter = { ownerId: listedOwner(caller, ownerId), statuses };
        const listing = await store.list(filter, { limit, after }, caller.ownerId);
        const items = jsonArray(listing.batches.map((batch) => withBatchLinks(batch, baseUrl)));
        const next = JSON.stringify(listing.next ? formatJobCursor(listing.next) : null);
        return { json: `{"items":${items},"nextCursor":${next}}` };
      },
    }),
    defineOperation({
      id: "getBatch",
      method: "get",
      path: "/v1/batches/{id}",
      summary: "Read a batch",
      description: "A batch as it stands.",
      access: ACCESS.getBatch,
      params: batchPath(BATCH_ID),
      answers: {
        200: { description: "The batch.", content: json(batchResourceSchema, { batch: BATCH }) },
      },
      problems: ["not_found"],
      async handler({ batches: store }, { caller, id, baseUrl }) {
        const batch = visibleBatch(await store.get(id, caller.ownerId), caller);
        return { json: withBatchLinks(batch, baseUrl) };
      },
    }),
    defineOperation({
      id: "streamBatch",
      method: "get",
      path: "/v1/batches/{id}/events",
      summary: "Watch a batch",
      description:
        "The newest state whenever one of the jobs changed. States that come faster than they are read are skipped. When all jobs have ended, so does the stream.",
      access: ACCESS.streamBatch,
      params: batchPath(BATCH_ID),
      reads: resumeQuery(eventIdOf(2)),
      headers: resumeHead(eventIdOf(2)),
      answers: {
        200: {
          description: "States of the batch, as a stream or as the answer to a poll.",
          content: {
            "text/event-stream": {
              schema: z.string(),
              examples: {
                stream: streamText([{ event: "batch", id: eventIdOf(2), data: BATCH_EVENT }]),
              },
            },
            "application/json": {
              schema: batchPollSchema,
              examples: { poll: { events: [BATCH_EVENT], cursor: eventIdOf(2), done: false } },
            },
          },
        },
        204: NO_CONTENT,
      },
      problems: STREAM_PROBLEMS,
      handler: (parts, call) => withAdmission(batchEvents, parts, call),
    }),
    defineOperation({
      id: "cancelBatch",
      method: "post",
      path: "/v1/batches/{id}/cancel",
      summary: "Cancel a batch",
      description: "Cancels those of its jobs that have not ended.",
      access: ACCESS.cancelBatch,
      params: batchPath(BATCH_ID),
      body: {
        required: false,
        maxBytes: SMALL_BODY,
        schema: jobActionSchema,
        examples: { cancel: { message: "Not needed any more" } },
      },
      answers: {
        200: {
          description: "The batch as it stands now.",
          content: json(batchResourceSchema, { cancel: cancelled }),
        },
      },
      problems: ["not_found"],
      async handler({ batches: store }, { caller, id, body, baseUrl }) {
        requireOwn(caller, visibleBatch(await store.get(id, caller.ownerId), caller).ownerId);
        const { message } = (await body()).value;
        const batch = visibleBatch(await store.cancel(id, message, caller.ownerId), caller);
        return { json: withBatchLinks(batch, baseUrl) };
      },
    }),
    defineOperation({
      id: "addJobs",
      method: "post",
      path: "/v1/batches/{id}/jobs",
      summary: "Add jobs to a batch",
      description:
        "Creates them all and charges their credits, or nothing. A batch that had ended goes on.",
      access: ACCESS.addJobs,
      params: batchPath(BATCH_ID),
      headers: idempotentHead,
      body: {
        required: true,
        schema: addJobsSchema,
        examples: { mesh: { jobs: [MESHES.jobs[0]] } },
      },
      answers: {
        201: {
          description: "The jobs were added.",
          content: json(addedJobsSchema, { mesh: { items: [ADDED_JOB] } }),
        },
      },
      problems: [
        "not_found",
        "insufficient_credits",
        "idempotency_key_in_use",
        "idempotency_key_reused",
      ],
      async handler({ batches: store, callbackLink }, { req, caller, id, body, baseUrl }) {
        requireOwn(caller, visibleBatch(await store.get(id, caller.ownerId), caller).ownerId);
        const added = await store.addJobs(id, toMoreJobs(req, await body()), caller.ownerId);
        const items = added.map((job) => withCallback(job, callbackLink, baseUrl));
        return { status: 201, json: `{"items":${jsonArray(await Promise.all(items))}}` };
      },
    }),
    defineOperation({
      id: "retryBatch",
      method: "post",
      path: "/v1/batches/{id}/retry",
      summary: "Retry what failed of a batch",
      description:
        "Begins the next attempt of every job that failed or timed out, and charges their credits again, or does nothing. What was cancelled stays so.",
      access: ACCESS.retryBatch,
      params: batchPath(BATCH_ID),
      headers: idempotentHead,
      body: {
        required: false,
        maxBytes: SMALL_BODY,
        schema: jobActionSchema,
        examples: { retry: {} },
      },
      answers: {
        200: {
          description: "The batch as it stands now.",
          content: json(batchResourceSchema, { retry: BATCH }),
        },
      },
      problems: [
        "not_found",
        "insufficient_credits",
        "idempotency_key_in_use",
        "idempotency_key_reused",
      ],
      async handler({ batches: store }, { req, caller, id, body, baseUrl }) {
        requireOwn(caller, visibleBatch(await store.get(id, caller.ownerId), caller).ownerId);
        const { value, text } = await body();
        const once = onceOf(req, value, text);
        const batch = await store.retry(id, { ...value, once }, caller.ownerId);
        return { json: withBatchLinks(visibleBatch(batch, caller), baseUrl) };
      },
    }),
    defineOperation({
      id: "deleteBatch",
      method: "delete",
      path: "/v1/batches/{id}",
      summary: "Delete a batch",
      description: "With all its jobs, of which each must have ended.",
      access: ACCESS.deleteBatch,
      params: batchPath(BATCH_ID),
      answers: { 204: { description: "It is no more." } },
      problems: ["not_found", "job_conflict"],
      async handler({ batches: store }, { caller, id }) {
        requireOwn(caller, visibleBatch(await store.get(id, caller.ownerId), caller).ownerId);
        await store.delete(id, caller.ownerId);
        return {};
      },
    }),
  ],
};

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function toNewBatch(
  req: Request,
  caller: Caller,
  { value, text }: { readonly value: CreateBatch; readonly text: string },
): { readonly request: NewBatch; readonly wanted: CreateBatch["streamToken"] } {
  const { ownerId = caller.ownerId, streamToken: wanted, ...batch } = value;
  requireOwn(caller, ownerId);
  const once = onceOf(req, { ...batch, ownerId }, text);
  const { title, jobs } = batch;
  return { request: { ownerId, title, body: text, jobCount: jobs.length, once }, wanted };
}

function toMoreJobs(
  req: Request,
  { value, text }: { readonly value: AddJobs; readonly text: string },
): MoreJobs {
  return { body: text, jobCount: value.jobs.length, once: onceOf(req, value, text) };
}

function batchLink(id: string, baseUrl: string): string {
  return `${baseUrl}/v1/batches/${id}`;
}

/** As it is served, as JSON. */
function withBatchLinks({ id, json: batch }: BatchText, baseUrl: string): string {
  const self = batchLink(id, baseUrl);
  const links = { self, events: `${self}/events`, jobs: `${baseUrl}/v1/jobs?batchId=${id}` };
  return `${batch.slice(0, -1)},"links":${JSON.stringify(links)}}`;
}
