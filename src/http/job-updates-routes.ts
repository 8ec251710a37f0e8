import express, { type RequestHandler, type Router } from "express";
import type { UpdateOutcome } from "../db/jobs.ts";
import { JobcastError } from "../errors.ts";
import {
  jobIdSchema,
  type UpdateResult,
  updateJobSchema,
  updateJobsSchema,
} from "../protocol/job.ts";
import { callerOf, requireScope } from "./auth/caller.ts";
import { toRefusal } from "./foreign-errors.ts";
import { withLinks } from "./job-links.ts";
import type { JobsRouterParts } from "./jobs-routes.ts";
import { toProblem } from "./problem.ts";
import { noSuchJob, parseBody, parseJobId } from "./validate.ts";

/** What workers write. The scope comes first: without it nobody learns whether a job exists. */
export function createJobUpdatesRouter({
  jobs,
  publicUrl,
}: Omit<JobsRouterParts, "callbackLink">): Router {
  const router = express.Router();

  router.patch("/v1/jobs/:id", requireWorker, async (req, res) => {
    const id = parseJobId(req);
    const job = await jobs.update(id, parseBody(updateJobSchema, req));
    res.json(withLinks(job, publicUrl));
  });

  router.patch("/v1/jobs", requireWorker, async (req, res) => {
    const { updates } = parseBody(updateJobsSchema, req);
    const known = updates.filter(({ id }) => jobIdSchema.safeParse(id).success);
    const outcomes = await jobs.updateMany(
      known.map((update) => ({ ...update, id: update.id.toLowerCase() })),
    );
    const results = new Map(known.map((update, index) => [update, outcomes[index]]));
    res.json({
      results: updates.map((update) => toResult(update.id, results.get(update), publicUrl)),
    });
  });

  return router;
}

const requireWorker: RequestHandler = (_req, res, next) => {
  requireScope(callerOf(res), "jobs:write");
  next();
};

/** @param outcome undefined for an id that cannot be one */
function toResult(
  id: string,
  outcome: UpdateOutcome | undefined,
  publicUrl: string | undefined,
): UpdateResult {
  const { job, refusal } = outcome ?? {};
  if (job && refusal === undefined) return { id, ok: true, job: withLinks(job, publicUrl) };
  return { id, ok: false, problem: toProblem(refuse(outcome)) };
}

function refuse({ job, refusal }: UpdateOutcome = {}): JobcastError {
  if (!job || refusal === undefined) return noSuchJob();
  const { status, version, attempt } = job;
  const members = refusal === "JC003" ? { status, attempt } : { status, version };
  return toRefusal(refusal, members) ?? new JobcastError("internal", `refused by ${refusal}`);
}
