import { isBound, type Snapshot } from "./snapshot.ts";

/** Longer, or with other bytes, a Last-Event-ID costs browsers a CORS preflight (Fetch, 2.2.2). */
const MAX_LENGTH = 64;

/**
 * The id of an event on a stream over many jobs: the feed's snapshot, as
 * `<epoch>-<xmin>.<xmax - xmin>.<xip - xmin>...` in base 36. The epoch names the database, since
 * a snapshot means nothing to another one.
 *
 * Too many transactions in flight to fit: everything from xmin on counts as unseen, which can
 * repeat a change but cannot miss one.
 */
export function formatCursor(epoch: string, snapshot: Snapshot): string {
  const { xmin, xmax, xip } = snapshot;
  const parts = [xmin, xmax - xmin, ...xip.map((xid) => xid - xmin)];
  const cursor = `${epoch}-${parts.map((part) => part.toString(36)).join(".")}`;
  return cursor.length <= MAX_LENGTH ? cursor : `${epoch}-${xmin.toString(36)}.0`;
}

/** The snapshot that a cursor stands for; undefined when it is malformed or of another epoch. */
export function parseCursor(epoch: string, cursor: string): Snapshot | undefined {
  if (cursor.length > MAX_LENGTH || !/^[0-9a-z]+-[0-9a-z]+(\.[0-9a-z]+)+$/.test(cursor)) return;
  const [itsEpoch, snapshot = ""] = cursor.split("-");
  if (itsEpoch !== epoch) return;
  const [xmin = 0, width = 0, ...xip] = snapshot
    .split(".")
    .map((part) => Number.parseInt(part, 36));
  const parsed = { xmin, xmax: xmin + width, xip: xip.map((offset) => xmin + offset) };
  return isSnapshot(parsed) ? parsed : undefined;
}

/** Whether PostgreSQL would read it: anybody can make up a cursor. */
function isSnapshot({ xmin, xmax, xip }: Snapshot): boolean {
  const isAscending = xip.every((xid, index) => index === 0 || xid > (xip[index - 1] ?? 0));
  return isBound(xmin) && isBound(xmax) && isAscending && (xip.at(-1) ?? 0) < xmax;
}
