import express, { type Request, type Response, type Router } from "express";
import type { JobStore } from "../db/jobs.ts";
import { createJobSchema, jobActionSchema, type StoredJob } from "../protocol/job.ts";
import {
  historyQuerySchema,
  type JobHistory,
  type JobList,
  listJobsQuerySchema,
} from "../protocol/job-list.ts";
import { type Caller, callerOf, mayRead, requireScope } from "./auth/caller.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";
import { idempotencyKeyOf } from "./idempotency-key.ts";
import { formatJobCursor, parseJobCursor } from "./job-cursor.ts";
import { withCallback, withLinks } from "./job-links.ts";
import { noSuchJob, parseBody, parseJobId, parseQuery } from "./validate.ts";

export type JobsRouterParts = {
  readonly jobs: JobStore;
  readonly callbackLink: CallbackLinks;
  /** Where callers reach this server, without a slash at the end. Unset: links are paths. */
  readonly publicUrl?: string | undefined;
};

/** Creating, reading, cancelling and retrying jobs: what an owner may do with its own. */
export function createJobsRouter({ jobs, callbackLink, publicUrl }: JobsRouterParts): Router {
  const router = express.Router();

  /** The job in the path; an answer that tells a foreign job from none would tell that it exists. */
  async function findJob(req: Request, res: Response): Promise<StoredJob> {
    const job = await jobs.get(parseJobId(req));
    if (!job || !mayRead(callerOf(res), job)) throw noSuchJob();
    return job;
  }

  async function findOwnJob(req: Request, res: Response): Promise<StoredJob> {
    const job = await findJob(req, res);
    if (job.ownerId !== callerOf(res).ownerId) requireScope(callerOf(res), "jobs:write");
    return job;
  }

  router.post("/v1/jobs", async (req, res) => {
    const caller = callerOf(res);
    requireCreator(caller);
    const { ownerId = caller.ownerId, ...body } = parseBody(createJobSchema, req);
    if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
    const idempotencyKey = idempotencyKeyOf(req);
    const created = await jobs.create({ ...body, ownerId, idempotencyKey });
    const job = await withCallback(created, callbackLink, publicUrl);
    res.status(201).location(job.links.self).json(job);
  });

  router.get("/v1/jobs", async (req, res) => {
    const { owner, status, batch, limit, offset, cursor, ...filter } = parseQuery(
      listJobsQuerySchema,
      req,
    );
    const { next, total, ...listing } = await jobs.list(
      { ...filter, ownerId: listedOwner(callerOf(res), owner), statuses: status, batchId: batch },
      { limit, offset, after: cursor === undefined ? undefined : parseJobCursor(cursor) },
    );
    const list: JobList = {
      items: listing.jobs.map((job) => withLinks(job, publicUrl)),
      ...(total !== undefined && { total }),
      nextCursor: next ? formatJobCursor(next) : null,
    };
    res.json(list);
  });

  router.get("/v1/jobs/:id", async (req, res) => {
    res.json(withLinks(await findJob(req, res), publicUrl));
  });

  router.get("/v1/jobs/:id/history", async (req, res) => {
    const { after, limit } = parseQuery(historyQuerySchema, req);
    const job = await findJob(req, res);
    const items = await jobs.history(job.id, after, limit);
    const last = items.at(-1)?.version ?? after;
    const isEnd = items.length < limit || last >= job.version;
    const history: JobHistory = { items, nextCursor: isEnd ? null : String(last) };
    res.json(history);
  });

  router.post("/v1/jobs/:id/cancel", async (req, res) => {
    const { id } = await findOwnJob(req, res);
    const { message } = parseBody(jobActionSchema, req);
    res.json(withLinks(await jobs.cancel(id, message), publicUrl));
  });

  router.post("/v1/jobs/:id/retry", async (req, res) => {
    const { id } = await findOwnJob(req, res);
    const { message } = parseBody(jobActionSchema, req);
    const job = await jobs.retry(id, message);
    // An owner who may only watch must not be able to report on the job itself.
    if (isCreator(callerOf(res))) res.json(await withCallback(job, callbackLink, publicUrl));
    else res.json(withLinks(job, publicUrl));
  });

  return router;
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
