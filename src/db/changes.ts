import type { Change, StatusEvent } from "../protocol/event.ts";
import { nextXid, type Snapshot } from "../protocol/snapshot.ts";

/*
 * The readers of status_history are plain SQL: they need pg_snapshot functions and lateral joins
 * with several outputs, and run on sessions that no query builder should own.
 */

/** The columns of a change, from `status_history h` and its `jobs j`. */
export const CHANGE_COLUMNS = `
  h.job_id, h.version, h.attempt, h.status, h.progress, h.stage, h.message, h.counts, h.result,
  h.error, h.estimated_seconds_remaining, h.source, h.xid, h.occurred_at, j.owner_id, j.batch_id`;

/**
 * Rows of status_history that the snapshot in parameter `$n` did not see; an index on xid finds them.
 * Ids that this cluster has not given out yet came with a restore, and would be new for ever.
 */
export function notVisibleIn(parameter: string): string {
  return `(h.xid >= pg_snapshot_xmax(${parameter}::pg_snapshot)
    or h.xid = any (array(select pg_snapshot_xip(${parameter}::pg_snapshot))))
    and h.xid < pg_snapshot_xmax(pg_current_snapshot())`;
}

/** The newest transaction whose rows a statement sees; null when there are none. */
export const NEWEST_XID =
  "(select n.xid::text from jobcast.status_history n order by n.xid desc limit 1)";

/**
 * The snapshot as far as the history goes: the same for every row that it could see, but without
 * the ids above the newest of them. Only a flushed commit is sure to keep its id: after a crash
 * the others are given out again, and a change written under one must not count as seen.
 */
export function upTo(newestXid: number | null, { xmin, xmax, xip }: Snapshot): Snapshot {
  const end = Math.min(xmax, nextXid(newestXid ?? 0));
  return { xmin: Math.min(xmin, end), xmax: end, xip: xip.filter((xid) => xid < end) };
}

export type ChangeRow = {
  job_id: string;
  version: number;
  attempt: number;
  status: StatusEvent["status"];
  progress: number;
  stage: string | null;
  message: string | null;
  counts: StatusEvent["counts"];
  result: StatusEvent["result"];
  error: StatusEvent["error"];
  estimated_seconds_remaining: number | null;
  source: string;
  xid: string;
  occurred_at: Date;
  owner_id: string;
  batch_id: string | null;
};

export function toChange(row: ChangeRow): Change {
  return {
    event: {
      jobId: row.job_id,
      version: row.version,
      attempt: row.attempt,
      status: row.status,
      progress: row.progress,
      stage: row.stage,
      message: row.message,
      counts: row.counts,
      result: row.result,
      error: row.error,
      batchId: row.batch_id,
      estimatedSecondsRemaining: row.estimated_seconds_remaining,
      source: row.source,
      occurredAt: row.occurred_at.toISOString(),
    },
    ownerId: row.owner_id,
    xid: Number(row.xid),
  };
}

/** A row of a left join whose right side, the change, may be missing. */
export type MaybeChangeRow<Extra> = Extra & (ChangeRow | { job_id: null });

export function hasChange<Extra>(row: MaybeChangeRow<Extra>): row is Extra & ChangeRow {
  return row.job_id !== null;
}
