import { JobcastError } from "../errors.ts";
import type { HttpParts } from "./parts.ts";

/**
 * Whether an owner may have so many more jobs. Requests at one moment do not see each other, so they
 * may go beyond it together, by what they ask for.
 * @throws {JobcastError} quota_exceeded
 */
export async function assertRoom(
  { jobs, maxUnfinishedJobs }: Pick<HttpParts, "jobs" | "maxUnfinishedJobs">,
  ownerId: string,
  count: number,
  by: string,
): Promise<void> {
  if (maxUnfinishedJobs === undefined) return;
  const unfinished = await jobs.countUnfinished(ownerId, maxUnfinishedJobs, by);
  if (unfinished + count <= maxUnfinishedJobs) return;
  throw new JobcastError(
    "quota_exceeded",
    `The owner has ${unfinished} unfinished jobs, and may have ${maxUnfinishedJobs}.`,
  );
}
