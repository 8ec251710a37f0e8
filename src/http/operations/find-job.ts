import type { JobText } from "../../change/job-text.ts";
import type { JobStore } from "../../db/jobs.ts";
import { mayRead, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { noSuchJob } from "../validate.ts";

/**
 * The job in the path; an answer that tells a foreign job from none would tell that it exists.
 * @throws {JobcastError} not_found
 */
export async function findJob(jobs: JobStore, caller: Caller, id: string): Promise<JobText> {
  const job = await jobs.get(id, caller.ownerId);
  if (!job || !mayRead(caller, job)) throw noSuchJob();
  return job;
}

/** The same for who changes it. @throws {JobcastError} insufficient_scope, too */
export async function findOwnJob(jobs: JobStore, caller: Caller, id: string): Promise<JobText> {
  const job = await findJob(jobs, caller, id);
  requireOwn(caller, job.ownerId);
  return job;
}
