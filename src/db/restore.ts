import type { Pool } from "pg";
import { untimed } from "./pool.ts";

/**
 * After a logical restore into another cluster the stored transaction ids mean nothing: those
 * above this cluster's counter would look like changes that are still to come. They get the id
 * of a transaction that ended long ago (the first normal one), and so count as seen.
 * @returns how many rows were mended
 */
export async function adoptRestoredHistory(pool: Pool): Promise<number> {
  const { rowCount } = await pool.query(
    untimed(
      `update jobcast.status_history set xid = '3'
       where xid >= pg_snapshot_xmax(pg_current_snapshot())`,
    ),
  );
  return rowCount ?? 0;
}
