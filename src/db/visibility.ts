import { nextXid, parseSnapshot, type Snapshot } from "../change/snapshot.ts";

/*
 * What is new to who holds a snapshot, as SQL.
 */

/**
 * Rows of a table that the snapshot in parameter `$n` did not see; an index on xid finds them. Ids
 * that this cluster has not given out yet came with a restore, and would be new for ever.
 */
export function notVisibleIn(parameter: string, table = "h"): string {
  return `(${beganAfter(parameter, table)} or ${wasOpenIn(parameter, table)})
    and ${table}.xid < pg_snapshot_xmax(pg_current_snapshot())`;
}

export function beganAfter(parameter: string, table: string): string {
  return `${table}.xid >= pg_snapshot_xmax(${parameter}::pg_snapshot)`;
}

export function wasOpenIn(parameter: string, table: string): string {
  return `${table}.xid = any (array(select pg_snapshot_xip(${parameter}::pg_snapshot)))`;
}

/** The newest transaction whose rows a statement sees; null when there are none. */
export const NEWEST_XID = `greatest(
  (select n.xid from jobcast.status_history n order by n.xid desc limit 1),
  (select n.xid from jobcast.deletions n order by n.xid desc limit 1)
)`;

/**
 * The snapshot as far as the history goes: the same for every row that it could see, but without
 * the ids above the newest of them. Only a flushed commit is sure to keep its id: after a crash
 * the others are given out again, and a change written under one must not count as seen.
 */
export function upTo(newestXid: number | null, { xmin, xmax, xip }: Snapshot): Snapshot {
  const end = Math.min(xmax, nextXid(newestXid ?? 0));
  return { xmin: Math.min(xmin, end), xmax: end, xip: xip.filter((xid) => xid < end) };
}

/** What comes with each row of `withSnapshot`. */
export type SeenRow = { readonly snapshot: string; readonly newest: number | null };

/** The snapshot comes with the rows that it saw, also when there are none: then with one of nulls. */
export function withSnapshot(rows: string): string {
  return `
    select s.snapshot, s.newest, c.*
    from (select pg_current_snapshot()::text as snapshot, ${NEWEST_XID} as newest) s
    left join lateral (${rows}) c on true`;
}

export function seenBy(rows: readonly SeenRow[]): Snapshot {
  const [first] = rows;
  return upTo(first?.newest ?? null, parseSnapshot(first?.snapshot ?? ""));
}
