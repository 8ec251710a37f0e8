import type { Lane } from "./lane.ts";

/** Rows of one statement, which is a short one however much was restored. */
const MOST = 10_000;

/**
 * After a logical restore into another cluster the stored transaction ids mean nothing: those
 * above this cluster's counter would look like changes that are still to come. They get the id
 * of a transaction that ended long ago (the first normal one), and so count as seen. Deletions of
 * that cluster were told there.
 * @returns how many rows were mended
 */
export async function adoptRestoredHistory(lane: Lane, signal: AbortSignal): Promise<number> {
  const query = lane.for({});
  await query("delete from jobcast.deletions where xid >= pg_snapshot_xmax(pg_current_snapshot())");
  let adopted = 0;
  for (let last = MOST; last === MOST; adopted += last) {
    signal.throwIfAborted();
    const rows = await query(
      `update jobcast.status_history set xid = '3'
       where (job_id, version) in (
         select job_id, version from jobcast.status_history
         where xid >= pg_snapshot_xmax(pg_current_snapshot())
         limit ${MOST}
       )
       returning 1`,
    );
    last = rows.length;
  }
  return adopted;
}
