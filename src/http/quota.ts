import { JobcastError } from "../errors.ts";
import type { HttpParts } from "./parts.ts";

/** Jobs that are looked at, where only their bytes are bounded. */
const MOST = 100_000;

/**
 * Whether an owner may have so many more jobs. Requests at one moment do not see each other, so they
 * may go beyond it together, by what they ask for.
 * @throws {JobcastError} quota_exceeded
 */
export async function assertRoom(
  { jobs, quota }: Pick<HttpParts, "jobs" | "quota">,
  ownerId: string,
  count: number,
  by: string,
): Promise<void> {
  const { unfinishedJobsPerOwner: maxJobs, unfinishedBytesPerOwner: maxBytes } = quota ?? {};
  if (maxJobs === undefined && maxBytes === undefined) return;
  const unfinished = await jobs.unfinishedOf(ownerId, maxJobs ?? MOST, by);
  if (maxJobs !== undefined && unfinished.count + count > maxJobs) {
    throw exceeded(`${unfinished.count} unfinished jobs, and may have ${maxJobs}`);
  }
  if (maxBytes !== undefined && unfinished.bytes >= maxBytes) {
    throw exceeded(`unfinished jobs of ${unfinished.bytes} bytes, and may have ${maxBytes}`);
  }
}

function exceeded(what: string): JobcastError {
  return new JobcastError("quota_exceeded", `The owner has ${what}.`);
}
