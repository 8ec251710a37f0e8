import express, { type Request, type Response, type Router } from "express";
import type { BatchStore, NewBatch } from "../db/batches.ts";
import {
  type Batch,
  type BatchList,
  type BatchResource,
  createBatchSchema,
  listBatchesQuerySchema,
} from "../protocol/batch.ts";
import { jobActionSchema } from "../protocol/job.ts";
import { sendJson } from "./answers.ts";
import { type Caller, callerOf, requireScope } from "./auth/caller.ts";
import { parseBodyJson, type ReadBody, SMALL_BODY } from "./body.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";
import { visibleBatch } from "./events/batch-events.ts";
import { onceOf } from "./idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "./job-cursor.ts";
import { jsonArray, withCallback } from "./job-links.ts";
import { listedOwner, requireCreator } from "./jobs-routes.ts";
import { parseBody, parseJobId, parseQuery } from "./validate.ts";

export type BatchesRouterParts = {
  readonly batches: BatchStore;
  readonly callbackLink: CallbackLinks;
  readonly readBody: ReadBody;
  /** Where callers reach this server, without a slash at the end. Unset: links are paths. */
  readonly publicUrl?: string | undefined;
};

/** Groups of jobs. The scopes are those of jobs, and so is the silence about other owners'. */
export function createBatchesRouter(parts: BatchesRouterParts): Router {
  const { batches, callbackLink, readBody, publicUrl } = parts;
  const router = express.Router();

  async function findBatch(req: Request, res: Response): Promise<Batch> {
    const caller = callerOf(res);
    return visibleBatch(await batches.get(parseJobId(req), caller.ownerId), caller);
  }

  router.post("/v1/batches", async (req, res) => {
    const caller = callerOf(res);
    requireCreator(caller);
    const bytes = await readBody(req, res, caller.ownerId);
    const made = await batches.create(readNewBatch(req, bytes, caller), caller.ownerId);
    const batch = withBatchLinks(made.batch, publicUrl);
    const jobs = await Promise.all(
      made.jobs.map((job) => withCallback(job, callbackLink, publicUrl)),
    );
    res.status(201).location(batch.links.self);
    sendJson(res, `${JSON.stringify(batch).slice(0, -1)},"jobs":${jsonArray(jobs)}}`);
  });

  router.get("/v1/batches", async (req, res) => {
    const caller = callerOf(res);
    const { owner, limit, cursor } = parseQuery(listBatchesQuerySchema, req);
    const after = cursor === undefined ? undefined : parseJobCursor(cursor);
    const ofOwner = listedOwner(caller, owner);
    const listing = await batches.list(ofOwner, { limit, after }, caller.ownerId);
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
    const bytes = await readBody(req, res, caller.ownerId, { maxBytes: SMALL_BODY });
    const { message } = parseBody(jobActionSchema, parseBodyJson(bytes, req.get("content-type")));
    const batch = visibleBatch(await batches.cancel(id, message, caller.ownerId), caller);
    res.json(withBatchLinks(batch, publicUrl));
  });

  return router;
}

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function readNewBatch(req: Request, bytes: Buffer, caller: Caller): NewBatch {
  const body = parseBodyJson(bytes, req.get("content-type"));
  const { ownerId = caller.ownerId, ...batch } = parseBody(createBatchSchema, body);
  if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
  return {
    ownerId,
    title: batch.title,
    body: body.text,
    jobCount: batch.jobs.length,
    once: onceOf(req, { ...batch, ownerId }, body.text),
  };
}

function withBatchLinks(batch: Batch, publicUrl = ""): BatchResource {
  const self = `${publicUrl}/v1/batches/${batch.id}`;
  const jobs = `${publicUrl}/v1/jobs?batch=${batch.id}`;
  return { ...batch, links: { self, events: `${self}/events`, jobs } };
}
