import type { Status } from "../protocol/status.ts";

/**
 * A status event as it goes to the wire, and what is to be known of it on the way. It is never
 * parsed: the JSON in it is PostgreSQL's own text, whose numbers no double holds.
 */
export type EventText = {
  readonly jobId: string;
  readonly version: number;
  /** The type of the event: `status`, `deleted`, or the name that its producer gave it. */
  readonly kind: string;
  /** Of the event on a stream of this job alone. */
  readonly id: string;
  readonly status: Status;
  /** A StatusEvent, or another of this kind, as JSON on one line. */
  readonly json: string;
};

/** One row of the history: an event, whose it is, and the transaction that wrote it. */
export type Change = EventText & {
  readonly ownerId: string;
  readonly batchId: string | null;
  /** Of the job; empty when it was deleted. */
  readonly type: string;
  readonly xid: number;
};

/** The JSON of a change with its owner, for who is told of more than one. */
export function withOwner({ json, ownerId }: Pick<Change, "json" | "ownerId">): string {
  return `${json.slice(0, -1)},"ownerId":${JSON.stringify(ownerId)}}`;
}

/** The same as the feed tells it. Without JSON it is large: whoever wants it reads it by himself. */
export type News = Omit<Change, "json"> & { readonly json: string | undefined };
