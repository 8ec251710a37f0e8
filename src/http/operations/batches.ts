import type { Request } from "express";
import { z } from "zod";
import type { NewBatch } from "../../db/batches.ts";
import {
  batchListSchema,
  batchResourceSchema,
  type CreateBatch,
  createBatchSchema,
  createdBatchSchema,
  listBatchesQuerySchema,
} from "../../protocol/batch.ts";
import { batchPollSchema } from "../../protocol/poll-answer.ts";
import { ACCESS, listedOwner, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { batchLink, withBatchLinks } from "../batch-links.ts";
import { withAdmission } from "../events/admission.ts";
import { batchEvents, visibleBatch } from "../events/batch-events.ts";
import { onceOf } from "../idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "../job-cursor.ts";
import { jsonArray, withCallback } from "../job-links.ts";
import { streamText } from "../openapi/event-text.ts";
import { BATCH, BATCH_EVENT, BATCH_ID, eventIdOf, MESH_JOBS, MESHES } from "../openapi/examples.ts";
import { defineOperation, json, type Resource } from "../operation.ts";
import { assertRoom } from "../quota.ts";
import { viewerToken, withToken } from "../viewer-token.ts";
import { batchChanges } from "./batch-changes.ts";
import { NO_CONTENT, STREAM_PROBLEMS } from "./events.ts";
import { batchPath, idempotentHead, resumeHead, resumeQuery } from "./parameters.ts";

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
      problems: [
        "insufficient_credits",
        "quota_exceeded",
        "idempotency_key_in_use",
        "idempotency_key_reused",
      ],
      async handler(parts, { req, caller, body, baseUrl }) {
        const { batches: store, callbackLink, mintStreamToken } = parts;
        const { request, wanted } = toNewBatch(req, caller, await body());
        await assertRoom(parts, {
          ...request,
          count: request.jobCount,
          by: caller.ownerId,
          makes: "batch",
        });
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
    ...batchChanges,
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
