import type { Batch } from "../protocol/batch.ts";
import { type BatchRow, batchColumns, toBatch } from "./batch-row.ts";
import { gather } from "./gather.ts";
import type { Query } from "./query.ts";

/** Batches of one query. */
const MAX_READS = 500;

/** Reads batches, many in one query: all viewers of a batch look at once when one of its jobs changed. */
export function createBatchReader(query: Query) {
  async function load(ids: readonly string[]): Promise<(Batch | undefined)[]> {
    const rows = await query<BatchRow>(
      `select ${batchColumns()} from jobcast.batches b where b.id = any ($1::uuid[])`,
      [ids],
    );
    const batches = new Map(rows.map((row) => [row.id, toBatch(row)]));
    return ids.map((id) => batches.get(id));
  }
  const read = gather(load, { maxKeys: MAX_READS, nameOf: (id: string) => id });
  /** Undefined when there is no such batch. */
  return { read };
}
