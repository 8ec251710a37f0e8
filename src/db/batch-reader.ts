import type { Pool } from "pg";
import type { Batch } from "../protocol/batch.ts";
import { gather } from "./gather.ts";

export const BATCH_COLUMNS = `
  b.id, b.owner_id, b.title, b.total, b.completed, b.failed, b.progress, b.status,
  b.estimated_seconds_remaining, b.version, b.created_at, b.finished_at`;

export type BatchRow = {
  id: string;
  owner_id: string;
  title: string | null;
  total: number;
  completed: number;
  failed: number;
  progress: number;
  status: Batch["status"];
  estimated_seconds_remaining: number | null;
  version: number;
  created_at: Date;
  finished_at: Date | null;
};

export function toBatch(row: BatchRow): Batch {
  return {
    id: row.id,
    ownerId: row.owner_id,
    title: row.title,
    total: row.total,
    completed: row.completed,
    failed: row.failed,
    progress: row.progress,
    status: row.status,
    estimatedSecondsRemaining: row.estimated_seconds_remaining,
    version: row.version,
    createdAt: row.created_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}

/** Batches of one query. */
const MAX_READS = 500;

/** Reads batches, many in one query: all viewers of a batch look at once when one of its jobs changed. */
export function createBatchReader(pool: Pool) {
  async function load(ids: readonly string[]): Promise<(Batch | undefined)[]> {
    const { rows } = await pool.query<BatchRow>(
      `select ${BATCH_COLUMNS} from jobcast.batches b where b.id = any ($1::uuid[])`,
      [ids],
    );
    const batches = new Map(rows.map((row) => [row.id, toBatch(row)]));
    return ids.map((id) => batches.get(id));
  }
  const read = gather(load, { maxKeys: MAX_READS, nameOf: (id: string) => id });
  /** Undefined when there is no such batch. */
  return { read };
}
