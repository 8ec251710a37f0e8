import type { Status } from "../protocol/status.ts";

/**
 * A job as it goes to the wire, but for its links, and what is to be known of it on the way. It is
 * never parsed: the JSON in it is PostgreSQL's own text, whose numbers no double holds.
 */
export type JobText = {
  readonly id: string;
  readonly ownerId: string;
  readonly batchId: string | null;
  readonly attempt: number;
  readonly version: number;
  readonly status: Status;
  /** A StoredJob as JSON on one line. */
  readonly json: string;
};
