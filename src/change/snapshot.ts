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

/** Ids are 32 bits and an epoch above them; in each epoch the first three are never given out. */
const EPOCH_IDS = 2 ** 32;
const SPECIAL_IDS = 3;

/** Whether PostgreSQL takes it as the xmin or xmax of a snapshot. */
export function isBound(xid: number): boolean {
  return xid > 0 && Number.isSafeInteger(xid) && xid % EPOCH_IDS !== 0;
}

/** The id that is given out after this one. */
export function nextXid(xid: number): number {
  const next = xid + 1;
  return next % EPOCH_IDS < SPECIAL_IDS ? next - (next % EPOCH_IDS) + SPECIAL_IDS : next;
}

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
