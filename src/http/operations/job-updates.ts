import type { Request } from "express";
import { toRefusal } from "../../database-errors.ts";
import type { UpdateOutcome } from "../../db/job-updates.ts";
import type { JobPatch, JobStore } from "../../db/jobs.ts";
import { JobcastError } from "../../errors.ts";
import { emitSchema } from "../../protocol/event.ts";
import {
  jobSchema,
  updateJobSchema,
  updateJobsSchema,
  updateResultsSchema,
} from "../../protocol/job.ts";
import { jobIdSchema } from "../../protocol/job-id.ts";
import { isFinal, statusCalled } from "../../protocol/status.ts";
import { toStorable } from "../../protocol/storable.ts";
import { ACCESS, mayWrite, requireScope } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { type JsonBody, parseBodyJson } from "../body.ts";
import { toJobcastError } from "../foreign-errors.ts";
import { jsonArray, withLinks } from "../job-links.ts";
import { EVENTS, EXPORT_ID, EXPORT_JOB, JOB_ID, jobAt } from "../openapi/examples.ts";
import { problemExample } from "../openapi/problems.ts";
import { defineOperation, json, type Resource } from "../operation.ts";
import { toProblem } from "../problem.ts";
import { noSuchJob, parseBody } from "../validate.ts";
import { jobPath } from "./parameters.ts";

const [, rendering, enlarging] = EVENTS;
const STRANGER_ID = "01984f2e-ffff-7000-8000-0000000000ff";

const exported = {
  ...EXPORT_JOB,
  version: 4,
  attempt: 2,
  status: "completed",
  progress: 100,
  result: { url: "https://files.example/export.csv" },
  startedAt: "2026-07-28T09:33:00.120Z",
  finishedAt: "2026-07-28T09:33:00.120Z",
};

export const jobUpdates: Resource = {
  name: "Workers",
  description:
    "What whoever does the work writes. It may be written in SQL as well, with the same rules and the same events.",
  operations: [
    defineOperation({
      id: "updateJob",
      method: "patch",
      path: "/v1/jobs/{id}",
      summary: "Update a job",
      description:
        "What is named changes, null empties, the rest stays. Owners may do so with the title and the metadata. An update that changes nothing makes no version, and so does a progress that is lower than the present one. To say the same end again is no error; another end is a conflict.",
      access: ACCESS.updateJob,
      params: jobPath(JOB_ID),
      body: {
        required: true,
        schema: updateJobSchema,
        examples: {
          progress: {
            attempt: 1,
            status: "processing",
            progress: 40,
            stage: "rendering",
            message: "Step 12 of 30",
          },
        },
      },
      answers: {
        200: {
          description: "The job as it stands now.",
          content: json(jobSchema, { progress: jobAt(rendering) }),
        },
      },
      problems: ["not_found", "job_conflict", "attempt_mismatch", "version_mismatch"],
      async handler({ jobs, readBody }, call) {
        const { req, res, caller, baseUrl } = call;
        if (!mayWrite(caller)) await requireOwnJob(jobs, caller, req);
        const bytes = await readBody(req, res, caller.ownerId);
        const { patch, named } = readPatch(bytes, req.get("content-type"));
        if (!named.every((name) => OWNERS_MEMBERS.has(name))) requireScope(caller, "jobs:write");
        const job = await jobs.update(call.id, patch, caller.ownerId);
        return { json: withLinks(job, baseUrl) };
      },
    }),
    defineOperation({
      id: "emitEvent",
      method: "post",
      path: "/v1/jobs/{id}/events",
      summary: "Tell an event of one's own",
      description:
        "A line of a log, a preview, whatever the producer has to say beside the state. It is a version of the job, so it has its place among the others, and who was away gets it; on streams its name is the type of the event. At most 1,000 a job, of 64 KiB each.",
      access: ACCESS.emitEvent,
      params: jobPath(JOB_ID),
      body: {
        required: true,
        schema: emitSchema,
        examples: { log: { event: "log", data: { line: "loading the model" } } },
      },
      answers: {
        201: {
          description: "The job, one version later.",
          content: json(jobSchema, { log: jobAt({ ...enlarging, version: 4 }) }),
        },
      },
      problems: ["not_found", "job_conflict", "attempt_mismatch"],
      async handler({ jobs }, { caller, id, body, baseUrl }) {
        const { value, text } = await body();
        const { event, attempt } = value;
        const job = await jobs.emit(id, { event, body: text, attempt }, caller.ownerId);
        return { status: 201, json: withLinks(job, baseUrl) };
      },
    }),
    defineOperation({
      id: "updateJobs",
      method: "patch",
      path: "/v1/jobs",
      summary: "Update many jobs",
      description:
        "Up to 1,000 updates in one transaction, with a result for each: one that is refused does not keep the others from being applied.",
      access: ACCESS.updateJobs,
      body: {
        required: true,
        schema: updateJobsSchema,
        examples: {
          three: {
            updates: [
              { id: JOB_ID, progress: 60, stage: "enlarging", message: null },
              { id: EXPORT_ID, status: "completed", result: exported.result },
              { id: STRANGER_ID, progress: 10 },
            ],
          },
        },
      },
      answers: {
        200: {
          description: "A result for each update.",
          content: json(updateResultsSchema, {
            three: {
              results: [
                { id: JOB_ID, ok: true, job: jobAt(enlarging) },
                { id: EXPORT_ID, ok: true, job: exported },
                { id: STRANGER_ID, ok: false, problem: problemExample("not_found").value },
              ],
            },
          }),
        },
      },
      problems: [],
      async handler({ jobs, readBody }, { req, res, caller, baseUrl }) {
        const bytes = await readBody(req, res, caller.ownerId);
        const { ids, text } = readPatches(bytes, req.get("content-type"));
        // From 1 on, as PostgreSQL counts; what is no id is nobody's job.
        const positions = ids.flatMap((id, index) => (isJobId(id) ? [index + 1] : []));
        const outcomes = await jobs.updateMany(text, positions, caller.ownerId);
        for (const outcome of outcomes.values()) report(req, outcome);
        const results = ids.map((id, index) => toResult(id, outcomes.get(index + 1), baseUrl));
        return { json: `{"results":${jsonArray(results)}}` };
      },
    }),
  ],
};

/** What is somebody else's and what is nobody's look the same to who may write none. */
async function requireOwnJob(jobs: JobStore, caller: Caller, req: Request): Promise<void> {
  const { data: id } = jobIdSchema.safeParse(req.params["id"]);
  const job = id === undefined ? undefined : await jobs.get(id.toLowerCase(), caller.ownerId);
  if (job?.ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
}

/** What an owner may say of his job; the others are reports. */
const OWNERS_MEMBERS: ReadonlySet<string> = new Set(["title", "metadata", "version"]);

function readPatch(
  bytes: Buffer,
  contentType: string | undefined,
): { readonly patch: JobPatch; readonly named: readonly string[] } {
  const body = parseReport(bytes, contentType, (value) => [value]);
  const { attempt, ...members } = parseBody(updateJobSchema, body);
  return { patch: { patch: body.text, attempt }, named: Object.keys(members) };
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
  const status = statusCalled((update as { status?: unknown } | null)?.status);
  return status !== undefined && isFinal(status);
}

function isJobId(id: string): boolean {
  return jobIdSchema.safeParse(id).success;
}

/** @param outcome undefined for an id that cannot be one */
function toResult(id: string, outcome: UpdateOutcome | undefined, baseUrl: string): string {
  const { job, refusal } = outcome ?? {};
  const head = `{"id":${JSON.stringify(id)},"ok"`;
  if (job && refusal === undefined) return `${head}:true,"job":${withLinks(job, baseUrl)}}`;
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
