import express, { type Request, type Response, type Router } from "express";
import type { JobStore, NewJob } from "../db/jobs.ts";
import { createJobSchema, type JobText, jobActionSchema } from "../protocol/job.ts";
import { historyQuerySchema, listJobsQuerySchema } from "../protocol/job-list.ts";
import { sendJson } from "./answers.ts";
import { type Caller, callerOf, mayRead, requireScope } from "./auth/caller.ts";
import { parseBodyJson, type ReadBody, SMALL_BODY } from "./body.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";
import { onceOf } from "./idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "./job-cursor.ts";
import { jsonArray, selfLink, withCallback, withLinks } from "./job-links.ts";
import { noSuchJob, parseBody, parseJobId, parseQuery } from "./validate.ts";

export type JobsRouterParts = {
  readonly jobs: JobStore;
  readonly callbackLink: CallbackLinks;
  readonly readBody: ReadBody;
  /** Where callers reach this server, without a slash at the end. Unset: links are paths. */
  readonly publicUrl?: string | undefined;
};

/**
 * Creating, reading, cancelling and retrying jobs: what an owner may do with its own. Nobody's body
 * is read before he may do it.
 */
export function createJobsRouter(parts: JobsRouterParts): Router {
  const { jobs, callbackLink, readBody, publicUrl } = parts;
  const router = express.Router();

  /** The job in the path; an answer that tells a foreign job from none would tell that it exists. */
  async function findJob(req: Request, res: Response): Promise<JobText> {
    const caller = callerOf(res);
    const job = await jobs.get(parseJobId(req), caller.ownerId);
    if (!job || !mayRead(caller, job)) throw noSuchJob();
    return job;
  }

  async function findOwnJob(req: Request, res: Response): Promise<JobText> {
    const job = await findJob(req, res);
    if (job.ownerId !== callerOf(res).ownerId) requireScope(callerOf(res), "jobs:write");
    return job;
  }

  async function readMessage(req: Request, res: Response): Promise<string | undefined> {
    const bytes = await readBody(req, res, callerOf(res).ownerId, { maxBytes: SMALL_BODY });
    return parseBody(jobActionSchema, parseBodyJson(bytes, req.get("content-type"))).message;
  }

  router.post("/v1/jobs", async (req, res) => {
    const caller = callerOf(res);
    requireCreator(caller);
    const bytes = await readBody(req, res, caller.ownerId);
    const job = await jobs.create(readNewJob(req, bytes, caller), caller.ownerId);
    const created = await withCallback(job, callbackLink, publicUrl);
    sendJson(res.status(201).location(selfLink(job.id, publicUrl)), created);
  });

  router.get("/v1/jobs", async (req, res) => {
    const caller = callerOf(res);
    const { owner, status, batch, limit, offset, cursor, omit, ...filter } = parseQuery(
      listJobsQuerySchema,
      req,
    );
    const listing = await jobs.list(
      { ...filter, ownerId: listedOwner(caller, owner), statuses: status, batchId: batch },
      { limit, offset, omit, after: cursor === undefined ? undefined : parseJobCursor(cursor) },
      caller.ownerId,
    );
    const items = jsonArray(listing.jobs.map((job) => withLinks(job, publicUrl)));
    const total = listing.total === undefined ? "" : `,"total":${listing.total}`;
    const next = JSON.stringify(listing.next ? formatJobCursor(listing.next) : null);
    sendJson(res, `{"items":${items}${total},"nextCursor":${next}}`);
  });

  router.get("/v1/jobs/:id", async (req, res) => {
    sendJson(res, withLinks(await findJob(req, res), publicUrl));
  });

  router.get("/v1/jobs/:id/history", async (req, res) => {
    const { after, limit } = parseQuery(historyQuerySchema, req);
    const job = await findJob(req, res);
    const events = await jobs.history(job.id, after, limit, callerOf(res).ownerId);
    const last = events.at(-1)?.version;
    // A page may be shorter than asked for: it ends where it gets too large.
    const next = last === undefined || last >= job.version ? null : `"${last}"`;
    const items = jsonArray(events.map(({ json }) => json));
    sendJson(res, `{"items":${items},"nextCursor":${next}}`);
  });

  router.post("/v1/jobs/:id/cancel", async (req, res) => {
    const { id } = await findOwnJob(req, res);
    const message = await readMessage(req, res);
    const job = await jobs.cancel(id, message, callerOf(res).ownerId);
    sendJson(res, withLinks(job, publicUrl));
  });

  router.post("/v1/jobs/:id/retry", async (req, res) => {
    const { id } = await findOwnJob(req, res);
    const message = await readMessage(req, res);
    const job = await jobs.retry(id, message, callerOf(res).ownerId);
    // An owner who may only watch must not be able to report on the job itself.
    if (isCreator(callerOf(res))) sendJson(res, await withCallback(job, callbackLink, publicUrl));
    else sendJson(res, withLinks(job, publicUrl));
  });

  return router;
}

/** What was parsed is let go of at once: the text is all that the database needs of it. */
function readNewJob(req: Request, bytes: Buffer, caller: Caller): NewJob {
  const body = parseBodyJson(bytes, req.get("content-type"));
  const { params, metadata, ownerId = caller.ownerId, ...job } = parseBody(createJobSchema, body);
  if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
  const request = { ...job, params, metadata, ownerId };
  return { ...job, ownerId, body: body.text, once: onceOf(req, request, body.text) };
}

/** @throws {JobcastError} insufficient_scope */
export function requireCreator(caller: Caller): void {
  if (!isCreator(caller)) requireScope(caller, "jobs:create");
}

function isCreator({ scopes }: Caller): boolean {
  return scopes.has("jobs:create") || scopes.has("jobs:write");
}

/** Whose jobs a list is about: undefined is everybody's, for those who may read any. */
export function listedOwner(caller: Caller, owner: string | undefined): string | undefined {
  if (caller.scopes.has("jobs:read") || caller.scopes.has("jobs:write")) return owner;
  if (owner !== undefined && owner !== caller.ownerId) requireScope(caller, "jobs:read");
  return caller.ownerId;
}
