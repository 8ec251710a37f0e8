import type { BatchText } from "../change/batch-text.ts";
import { formatEventId } from "../change/event-id.ts";
import { type BatchRow, batchColumns, toBatchText } from "./batch-row.ts";
import { gather } from "./gather.ts";
import type { Query } from "./query.ts";
import { tagOf } from "./versions.ts";

/** A batch as it stands, and the id of the event that says so. */
export type BatchState = { readonly batch: BatchText; readonly id: string };

/** Batches of one query. */
const MAX_READS = 500;

/** What a stream of one batch reads with. A read begins after it was asked for. */
export type BatchReader = ReturnType<typeof createBatchReader>;

/** Reads batches, many in one query: all viewers of a batch look at once when one of its jobs changed. */
export function createBatchReader(query: Query) {
  async function load(ids: readonly string[]): Promise<(BatchState | undefined)[]> {
    const rows = await query<BatchRow & { tag: string }>(
      `select ${batchColumns()}, ${tagOf("b.updated_at")} as tag
       from jobcast.batches b where b.id = any ($1::uuid[])`,
      [ids],
    );
    const states = new Map(
      rows.map((row) => [
        row.id,
        { batch: toBatchText(row), id: formatEventId(row.version, row.tag) },
      ]),
    );
    return ids.map((id) => states.get(id));
  }
  const read = gather(load, { maxKeys: MAX_READS, nameOf: (id: string) => id });
  /** Undefined when there is no such batch. */
  return { read };
}
