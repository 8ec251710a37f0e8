import type { Batch } from "../protocol/batch.ts";
import { toIso, toIsoOrNull } from "./moment.ts";

/** A title of up to this many bytes is told with every change and in every list. */
const SHORT_TITLE_BYTES = 8 * 1_024;

const COLUMNS = [
  "id",
  "owner_id",
  "total",
  "completed",
  "failed",
  "progress",
  "status",
  "estimated_seconds_remaining",
  "version",
  "created_at",
  "finished_at",
] as const;

/**
 * The columns of batches `b`.
 * @param titleBytes a longer title is left out, and named in `omitted`
 * @param prefix before each name, where there are others beside them
 */
export function batchColumns(titleBytes = SHORT_TITLE_BYTES, prefix = ""): string {
  return [
    ...COLUMNS.map((name) => `b.${name} as ${prefix}${name}`),
    `case when octet_length(b.title) <= ${titleBytes} then b.title end as ${prefix}title`,
    `octet_length(b.title) > ${titleBytes} as ${prefix}is_title_omitted`,
  ].join(", ");
}

export type BatchRow = {
  readonly id: string;
  readonly owner_id: string;
  readonly title: string | null;
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  readonly progress: number;
  readonly status: Batch["status"];
  readonly estimated_seconds_remaining: number | null;
  readonly version: number;
  readonly created_at: string;
  readonly finished_at: string | null;
  readonly is_title_omitted: boolean | null;
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
    createdAt: toIso(row.created_at),
    finishedAt: toIsoOrNull(row.finished_at),
    ...(row.is_title_omitted && { omitted: ["title"] }),
  };
}
