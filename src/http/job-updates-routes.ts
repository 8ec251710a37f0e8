import express, { type Request, type Router } from "express";
import type { UpdateOutcome } from "../db/job-updates.ts";
import type { JobPatch } from "../db/jobs.ts";
import { JobcastError } from "../errors.ts";
import { jobIdSchema, updateJobSchema, updateJobsSchema } from "../protocol/job.ts";
import { isFinal, type Status } from "../protocol/status.ts";
import { toStorable } from "../protocol/storable.ts";
import { sendJson } from "./answers.ts";
import { callerOf, requireScope } from "./auth/caller.ts";
import { type JsonBody, parseBodyJson } from "./body.ts";
import { toJobcastError, toRefusal } from "./foreign-errors.ts";
import { jsonArray, withLinks } from "./job-links.ts";
import type { JobsRouterParts } from "./jobs-routes.ts";
import { toProblem } from "./problem.ts";
import { noSuchJob, parseBody, parseJobId } from "./validate.ts";

/** What workers write. The scope comes first: without it nobody learns whether a job exists. */
export function createJobUpdatesRouter(parts: Omit<JobsRouterParts, "callbackLink">): Router {
  const { jobs, readBody, publicUrl } = parts;
  const router = express.Router();

  router.patch("/v1/jobs/:id", async (req, res) => {
    const caller = callerOf(res);
    requireScope(caller, "jobs:write");
    const id = parseJobId(req);
    const bytes = await readBody(req, res, caller.ownerId);
    const job = await jobs.update(id, readPatch(bytes, req.get("content-type")), caller.ownerId);
    sendJson(res, withLinks(job, publicUrl));
  });

  router.patch("/v1/jobs", async (req, res) => {
    const caller = callerOf(res);
    requireScope(caller, "jobs:write");
    const bytes = await readBody(req, res, caller.ownerId);
    const { ids, text } = readPatches(bytes, req.get("content-type"));
    // From 1 on, as PostgreSQL counts; what is no id is nobody's job.
    const positions = ids.flatMap((id, index) => (isJobId(id) ? [index + 1] : []));
    const outcomes = await jobs.updateMany(text, positions, caller.ownerId);
    for (const outcome of outcomes.values()) report(req, outcome);
    const results = ids.map((id, index) => toResult(id, outcomes.get(index + 1), publicUrl));
    sendJson(res, `{"results":${jsonArray(results)}}`);
  });

  return router;
}

function readPatch(bytes: Buffer, contentType: string | undefined): JobPatch {
  const body = parseReport(bytes, contentType, (value) => [value]);
  const { attempt } = parseBody(updateJobSchema, body);
  return { patch: body.text, attempt };
}

function readPatches(
  bytes: Buffer,
  contentType: string | undefined,
): { ids: string[]; text: string } {
  const body = parseReport(bytes, contentType, (value) => {
    const { updates } = (value ?? {}) as { updates?: unknown };
    return Array.isArray(updates) ? updates : [];
  });
  const { updates } = parseBody(updateJobsSchema, body);
  return { ids: updates.map(({ id }) => id), text: body.text };
}

/**
 * A worker's report. The end of a job must not be lost for a character that cannot be kept: there it
 * is replaced, where any other report is refused for it.
 */
function parseReport(
  bytes: Buffer,
  contentType: string | undefined,
  updatesOf: (value: unknown) => readonly unknown[],
): JsonBody {
  const body = parseBodyJson(bytes, contentType);
  if (!updatesOf(body.value).some(isEnd)) return body;
  const text = toStorable(body.text);
  return text === body.text ? body : { text, value: JSON.parse(text) };
}

function isEnd(update: unknown): boolean {
  return (
    typeof update === "object" && update !== null && isFinal((update as { status: Status }).status)
  );
}

function isJobId(id: string): boolean {
  return jobIdSchema.safeParse(id).success;
}

/** @param outcome undefined for an id that cannot be one */
function toResult(
  id: string,
  outcome: UpdateOutcome | undefined,
  publicUrl: string | undefined,
): string {
  const { job, refusal } = outcome ?? {};
  const head = `{"id":${JSON.stringify(id)},"ok"`;
  if (job && refusal === undefined) return `${head}:true,"job":${withLinks(job, publicUrl)}}`;
  return `${head}:false,"problem":${JSON.stringify(toProblem(refuse(outcome)))}}`;
}

function refuse({ job, refusal, error }: UpdateOutcome = {}): JobcastError {
  if (error !== undefined) return toJobcastError(error);
  if (refusal === undefined) return noSuchJob();
  return (
    toRefusal(refusal, membersOf(job, refusal)) ??
    new JobcastError("internal", `refused by ${refusal}`)
  );
}

/** What an application has hung on the table may refuse for reasons of its own. */
function report(req: Request, outcome: UpdateOutcome): void {
  if (outcome.refusal === undefined && outcome.error === undefined) return;
  const { code, message } = refuse(outcome);
  const details = { err: outcome.error, reason: message };
  if (code === "internal") req.log?.error(details, "an update failed for no known reason");
}

/** What its caller may know of a job that was looked at. */
function membersOf(job: UpdateOutcome["job"], refusal: string) {
  if (!job) return undefined;
  const { status, version, attempt } = job;
  return refusal === "JC003" ? { status, attempt } : { status, version };
}
