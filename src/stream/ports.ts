import type { Batch } from "../protocol/batch.ts";
import type { Change, StatusEvent } from "../protocol/event.ts";
import type { Scope } from "../protocol/scope.ts";
import type { Snapshot } from "../protocol/snapshot.ts";

/** A job as it stands, and a page of its events above the one that was asked for, ascending. */
export type JobReplay = {
  readonly ownerId: string;
  readonly version: number;
  readonly status: StatusEvent["status"];
  readonly events: readonly StatusEvent[];
};

/** What a stream of one job reads with. A read begins after it was asked for. */
export type JobReader = {
  /** `after` null, or above the present version: the newest event alone. Undefined: no such job. */
  read(jobId: string, after: number | null): Promise<JobReplay | undefined>;
};

/** Changes, and the snapshot that saw them. */
export type ScopeRead = { readonly changes: readonly Change[]; readonly snapshot: Snapshot };

/** What a stream over many jobs reads with. */
export type ScopeReader = {
  readStates(scope: Scope): Promise<ScopeRead>;
  /** Undefined: too much to replay, or a snapshot from the future. */
  readSince(scope: Scope, since: Snapshot): Promise<ScopeRead | undefined>;
};

/** What a stream of one batch reads with. A read begins after it was asked for. */
export type BatchReader = {
  /** Undefined: no such batch. */
  read(batchId: string): Promise<Batch | undefined>;
};
