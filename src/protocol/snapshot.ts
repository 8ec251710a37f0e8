/**
 * A PostgreSQL snapshot: what a reader has seen. Transactions below `xmin` had ended, those from
 * `xmax` on had not begun, and those in `xip` were in progress.
 * @see https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
 */
export type Snapshot = {
  readonly xmin: number;
  readonly xmax: number;
  /** Ascending. */
  readonly xip: readonly number[];
};

/** Reads the text of `pg_current_snapshot()`: `xmin:xmax:xip,xip,...`. */
export function parseSnapshot(text: string): Snapshot {
  const [xmin, xmax, xip] = text.split(":");
  return {
    xmin: Number(xmin),
    xmax: Number(xmax),
    xip: xip ? xip.split(",").map(Number) : [],
  };
}

/** The text that PostgreSQL reads as `pg_snapshot`. */
export function formatSnapshot({ xmin, xmax, xip }: Snapshot): string {
  return `${xmin}:${xmax}:${xip.join(",")}`;
}

/** Whether a committed row of this transaction was already visible to whoever holds the snapshot. */
export function isVisibleIn(snapshot: Snapshot, xid: number): boolean {
  if (xid < snapshot.xmin) return true;
  return xid < snapshot.xmax && !snapshot.xip.includes(xid);
}

/** Whether every transaction that `earlier` did not see has ended for `later`. */
export function hasPassed(later: Snapshot, earlier: Snapshot): boolean {
  return later.xmin >= earlier.xmax;
}
