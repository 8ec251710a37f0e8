import type { Status } from "../protocol/status.ts";

/**
 * A batch as it goes to the wire, but for its links, and what is to be known of it on the way. As
 * with jobs, nothing parses it.
 */
export type BatchText = {
  readonly id: string;
  readonly ownerId: string;
  readonly version: number;
  readonly status: Status;
  /** A Batch as JSON on one line. */
  readonly json: string;
};
