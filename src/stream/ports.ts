import type { Batch } from "../protocol/batch.ts";
import type { Change, EventText } from "../protocol/event.ts";
import type { Scope, ScopeWalk } from "../protocol/scope.ts";
import type { Snapshot } from "../protocol/snapshot.ts";
import type { Status } from "../protocol/status.ts";

/** A job as it stands, and a page of its events above the one that was asked for, ascending. */
export type JobReplay = {
  readonly ownerId: string;
  readonly version: number;
  readonly status: Status;
  /** Of the row above which was read, for event ids; null when there is none. */
  readonly tagAfter: string | null;
  readonly events: readonly EventText[];
};

/** What a stream of one job reads with. A read begins after it was asked for. */
export type JobReader = {
  /** `after` null, or above the present version: the newest event alone. Undefined: no such job. */
  read(jobId: string, after: number | null): Promise<JobReplay | undefined>;
};

/** A page of a walk over many jobs; no page weighs more than a megabyte, but for a single event. */
export type ScopePage = {
  readonly changes: readonly Change[];
  /** What the whole walk sees. */
  readonly snapshot: Snapshot;
  /** Where it goes on; undefined at its end. */
  readonly next: ScopeWalk | undefined;
};

/** What a stream over many jobs reads with; `owner` is whose turn it is. */
export type ScopeReader = {
  readStates(scope: Scope, owner: string): Promise<ScopePage>;
  /** Undefined: too much to replay, or a snapshot from the future. */
  readSince(scope: Scope, since: Snapshot, owner: string): Promise<ScopePage | undefined>;
  readOn(scope: Scope, walk: ScopeWalk, owner: string): Promise<ScopePage>;
};

/** A batch as it stands, and the id of the event that says so. */
export type BatchState = { readonly batch: Batch; readonly id: string };

/** What a stream of one batch reads with. A read begins after it was asked for. */
export type BatchReader = {
  /** Undefined: no such batch. */
  read(batchId: string): Promise<BatchState | undefined>;
};
