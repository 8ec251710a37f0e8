import type { Request } from "express";
import { z } from "zod";
import type { NewBatch } from "../../db/batches.ts";
import {
  type Batch,
  type BatchList,
  type BatchResource,
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
import { BATCH, BATCH_EVENT, BATCH_ID, eventIdOf, MESH_JOBS, MESHES } from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { NO_CONTENT, STREAM_PROBLEMS } from "./events.ts";
import { batchPath, idempotentHead, resumeHead, resumeQuery } from "./parameters.ts";

const cancelled = {
  ...BATCH,
  failed: 2,
  progress: 100,
  status: "cancelled",
  version: 3,
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
      async handler({ batches: store, callbackLink }, { req, caller, body, baseUrl }) {
        const made = await store.create(toNewBatch(req, caller, await body()), caller.ownerId);
        const batch = withBatchLinks(made.batch, baseUrl);
        const jobs = await Promise.all(
          made.jobs.map((job) => withCallback(job, callbackLink, baseUrl)),
        );
        return {
          status: 201,
          location: batch.links.self,
          json: `${JSON.stringify(batch).slice(0, -1)},"jobs":${jsonArray(jobs)}}`,
        };
      },
    }),
    defineOperation({
      id: "listBatches",
      method: "get",
      path: "/v1/batches",
      summary: "List batches",
      description:
        "The newest first. Without `owner` the caller's own; of who may read others', everybody's.",
      access: ACCESS.listBatches,
      query: listBatchesQuerySchema,
      answers: {
        200: {
          description: "A page of batches.",
          content: json(batchListSchema, { page: { items: [BATCH], nextCursor: null } }),
        },
      },
      problems: [],
      async handler({ batches: store }, { caller, query: { owner, limit, cursor }, baseUrl }) {
        const after = cursor === undefined ? undefined : parseJobCursor(cursor);
        const ofOwner = listedOwner(caller, owner);
        const listing = await store.list(ofOwner, { limit, after }, caller.ownerId);
        return reply({
          items: listing.batches.map((batch) => withBatchLinks(batch, baseUrl)),
          nextCursor: listing.next ? formatJobCursor(listing.next) : null,
        } satisfies BatchList);
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
        return reply(withBatchLinks(batch, baseUrl));
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
        return reply(withBatchLinks(batch, baseUrl));
      },
    }),
  ],
};

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function toNewBatch(
  req: Request,
  caller: Caller,
  { value, text }: { readonly value: CreateBatch; readonly text: string },
): NewBatch {
  const { ownerId = caller.ownerId, ...batch } = value;
  requireOwn(caller, ownerId);
  const once = onceOf(req, { ...batch, ownerId }, text);
  return { ownerId, title: batch.title, body: text, jobCount: batch.jobs.length, once };
}

function withBatchLinks(batch: Batch, baseUrl: string): BatchResource {
  const self = `${baseUrl}/v1/batches/${batch.id}`;
  const jobs = `${baseUrl}/v1/jobs?batch=${batch.id}`;
  return { ...batch, links: { self, events: `${self}/events`, jobs } };
}
