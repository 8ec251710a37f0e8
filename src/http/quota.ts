import type { KeyedRequest } from "../db/jobs.ts";
import { JobcastError } from "../errors.ts";
import type { Once } from "../once.ts";
import type { HttpParts } from "./parts.ts";

/** Jobs that are looked at, where only their bytes are bounded. */
const MOST = 100_000;

type Wish = {
  readonly ownerId: string;
  /** How many jobs. */
  readonly count: number;
  readonly by: string;
  readonly makes: KeyedRequest["makes"];
  /** Whose idempotency key it is, where not the owner's. */
  readonly subject?: string;
  readonly once?: Once | undefined;
};

/**
 * Whether an owner may have so many more jobs. Requests at one moment do not see each other, so they
 * may go beyond it together, by what they ask for. What was carried out before is answered again, however many there are by now.
 * @throws {JobcastError} quota_exceeded
 */
export async function assertRoom(
  { jobs, quota }: Pick<HttpParts, "jobs" | "quota">,
  { ownerId, count, by, makes, subject = ownerId, once }: Wish,
): Promise<void> {
  const { unfinishedJobsPerOwner: maxJobs, unfinishedBytesPerOwner: maxBytes } = quota ?? {};
  if (maxJobs === undefined && maxBytes === undefined) return;
  const unfinished = await jobs.unfinishedOf(ownerId, maxJobs ?? MOST, by);
  const hasMany = maxJobs !== undefined && unfinished.count + count > maxJobs;
  const hasLarge = maxBytes !== undefined && unfinished.bytes >= maxBytes;
  if (!hasMany && !hasLarge) return;
  if (once && (await jobs.wasMade({ makes, subject, key: once.key }, by))) return;
  if (hasMany) {
    throw exceeded(`${unfinished.count} unfinished jobs, and may have ${maxJobs}`);
  }
  throw exceeded(`unfinished jobs of ${unfinished.bytes} bytes, and may have ${maxBytes}`);
}

function exceeded(what: string): JobcastError {
  return new JobcastError("quota_exceeded", `The owner has ${what}.`);
}
