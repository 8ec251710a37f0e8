import type { JobPosition } from "../db/job-list.ts";
import { JobcastError } from "../errors.ts";

/** The moment as PostgreSQL wrote it, to the microsecond and whatever it is, and the id. */
const POSITION = /^(-?infinity|\d{4,6}-[\d-]{5}[ T][\d:.]{8,15}(?:Z|\+00)(?: BC)?)([\da-f-]{36})$/;

/** A place in the list of jobs as one opaque word. */
export function formatJobCursor({ createdAt, id }: JobPosition): string {
  return Buffer.from(createdAt + id).toString("base64url");
}

/** @throws {JobcastError} invalid_request when the word is none of ours. */
export function parseJobCursor(cursor: string): JobPosition {
  const [, createdAt, id] = POSITION.exec(Buffer.from(cursor, "base64url").toString()) ?? [];
  if (createdAt && id) return { createdAt, id };
  throw new JobcastError("invalid_request", "The query of the request is not valid.", {
    fields: [{ path: "query.cursor", message: "is not a cursor of this list" }],
  });
}
