import type { Request } from "express";
import type { BatchText } from "../../change/batch-text.ts";
import type { BatchStore, MoreJobs } from "../../db/batches.ts";
import {
  type AddJobs,
  addedJobsSchema,
  addJobsSchema,
  batchResourceSchema,
} from "../../protocol/batch.ts";
import { jobActionSchema } from "../../protocol/job.ts";
import { ACCESS, requireOwn } from "../access.ts";
import { audit } from "../audit.ts";
import type { Caller } from "../auth/caller.ts";
import { withBatchLinks } from "../batch-links.ts";
import { SMALL_BODY } from "../body.ts";
import { visibleBatch } from "../events/batch-events.ts";
import { onceOf } from "../idempotency-key.ts";
import { jsonArray, withCallback } from "../job-links.ts";
import { ADDED_JOB, BATCH, BATCH_ID, MESHES } from "../openapi/examples.ts";
import { defineOperation, json, type Operation } from "../operation.ts";
import { assertRoom } from "../quota.ts";
import { batchPath, idempotentHead } from "./parameters.ts";

const cancelled = {
  ...BATCH,
  total: 3,
  failed: 3,
  progress: 100,
  status: "cancelled",
  version: 4,
  finishedAt: "2026-07-28T09:36:02.733Z",
};

/** What is done with a batch that is there. */
export const batchChanges: readonly Operation[] = [
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
    async handler({ batches: store }, { req, res, caller, id, body, baseUrl }) {
      const { ownerId } = await findOwnBatch(store, caller, id);
      const { message } = (await body()).value;
      const batch = visibleBatch(await store.cancel(id, message, caller.ownerId), caller);
      if (ownerId !== caller.ownerId) {
        audit({ req, res }, "batch.cancelled", { batch: id, ownerId });
      }
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
      "quota_exceeded",
      "idempotency_key_in_use",
      "idempotency_key_reused",
    ],
    async handler(parts, { req, caller, id, body, baseUrl }) {
      const { batches: store, callbackLink } = parts;
      const { ownerId } = await findOwnBatch(store, caller, id);
      const more = toMoreJobs(req, await body());
      await assertRoom(parts, {
        ownerId,
        count: more.jobCount,
        by: caller.ownerId,
        makes: "jobs of a batch",
        subject: id,
        once: more.once,
      });
      const added = await store.addJobs(id, more, caller.ownerId);
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
      await findOwnBatch(store, caller, id);
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
    async handler({ batches: store }, { req, res, caller, id }) {
      const { ownerId } = await findOwnBatch(store, caller, id);
      await store.delete(id, caller.ownerId);
      if (ownerId !== caller.ownerId) {
        audit({ req, res }, "batch.deleted", { batch: id, ownerId });
      }
      return {};
    },
  }),
];

/** @throws {JobcastError} not_found, and insufficient_scope to who may only see it */
async function findOwnBatch(store: BatchStore, caller: Caller, id: string): Promise<BatchText> {
  const batch = visibleBatch(await store.get(id, caller.ownerId), caller);
  requireOwn(caller, batch.ownerId);
  return batch;
}

function toMoreJobs(
  req: Request,
  { value, text }: { readonly value: AddJobs; readonly text: string },
): MoreJobs {
  return { body: text, jobCount: value.jobs.length, once: onceOf(req, value, text) };
}
