import express, { type Request, type Response, type Router } from "express";
import type { BatchStore } from "../db/batches.ts";
import {
  type Batch,
  type BatchList,
  type BatchResource,
  type CreatedBatch,
  createBatchSchema,
  listBatchesQuerySchema,
} from "../protocol/batch.ts";
import { jobActionSchema } from "../protocol/job.ts";
import { callerOf, requireScope } from "./auth/caller.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";
import { visibleBatch } from "./events/batch-events.ts";
import { idempotencyKeyOf } from "./idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "./job-cursor.ts";
import { withCallback } from "./job-links.ts";
import { listedOwner, requireCreator } from "./jobs-routes.ts";
import { parseBody, parseJobId, parseQuery } from "./validate.ts";

export type BatchesRouterParts = {
  readonly batches: BatchStore;
  readonly callbackLink: CallbackLinks;
  /** Where callers reach this server, without a slash at the end. Unset: links are paths. */
  readonly publicUrl?: string | undefined;
};

/** Groups of jobs. The scopes are those of jobs, and so is the silence about other owners'. */
export function createBatchesRouter(parts: BatchesRouterParts): Router {
  const { batches, callbackLink, publicUrl } = parts;
  const router = express.Router();

  async function findBatch(req: Request, res: Response): Promise<Batch> {
    return visibleBatch(await batches.get(parseJobId(req)), callerOf(res));
  }

  router.post("/v1/batches", async (req, res) => {
    const caller = callerOf(res);
    requireCreator(caller);
    const { ownerId = caller.ownerId, ...body } = parseBody(createBatchSchema, req);
    if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
    const idempotencyKey = idempotencyKeyOf(req);
    const { batch, jobs } = await batches.create({ ...body, ownerId, idempotencyKey });
    const created: CreatedBatch = {
      ...withBatchLinks(batch, publicUrl),
      jobs: await Promise.all(jobs.map((job) => withCallback(job, callbackLink, publicUrl))),
    };
    res.status(201).location(created.links.self).json(created);
  });

  router.get("/v1/batches", async (req, res) => {
    const { owner, limit, cursor } = parseQuery(listBatchesQuerySchema, req);
    const listing = await batches.list(listedOwner(callerOf(res), owner), {
      limit,
      after: cursor === undefined ? undefined : parseJobCursor(cursor),
    });
    const list: BatchList = {
      items: listing.batches.map((batch) => withBatchLinks(batch, publicUrl)),
      nextCursor: listing.next ? formatJobCursor(listing.next) : null,
    };
    res.json(list);
  });

  router.get("/v1/batches/:id", async (req, res) => {
    res.json(withBatchLinks(await findBatch(req, res), publicUrl));
  });

  router.post("/v1/batches/:id/cancel", async (req, res) => {
    const caller = callerOf(res);
    const { id, ownerId } = await findBatch(req, res);
    if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
    const { message } = parseBody(jobActionSchema, req);
    const batch = visibleBatch(await batches.cancel(id, message), caller);
    res.json(withBatchLinks(batch, publicUrl));
  });

  return router;
}

function withBatchLinks(batch: Batch, publicUrl = ""): BatchResource {
  const self = `${publicUrl}/v1/batches/${batch.id}`;
  const jobs = `${publicUrl}/v1/jobs?batch=${batch.id}`;
  return { ...batch, links: { self, events: `${self}/events`, jobs } };
}
