import type { BatchText } from "../change/batch-text.ts";
import type { Batch } from "../protocol/batch.ts";
import { omission } from "./changes.ts";
import { toIso, toIsoOrNull } from "./moment.ts";
import { isJsonWithin, isSmallJson } from "./value-size.ts";

/** What of a title and of metadata is told with every change and in every list. */
const SHORT_BYTES = 8 * 1_024;

const COLUMNS = [
  "id",
  "owner_id",
  "total",
  "completed",
  "failed",
  "status",
  "estimated_seconds_remaining",
  "version",
  "created_at",
  "finished_at",
] as const;

/** It is 100 when the last job has ended, and not when it is nearly so. */
const PROGRESS = `case
  when b.total = 0 then 0
  when b.completed + b.failed >= b.total then 100
  else least(99.99, round(b.progress_sum / b.total, 2)) end::float8`;

/**
 * The columns of batches `b`.
 * @param bytes a longer title, and larger metadata, is left out and named in `omitted`
 * @param prefix before each name, where there are others beside them
 */
export function batchColumns(bytes = SHORT_BYTES, prefix = ""): string {
  const fits = bytes === SHORT_BYTES ? isSmallJson : isJsonWithin;
  return [
    ...COLUMNS.map((name) => `b.${name} as ${prefix}${name}`),
    `${PROGRESS} as ${prefix}progress`,
    `case when octet_length(b.title) <= ${bytes} then b.title end as ${prefix}title`,
    `b.title is not null as ${prefix}has_title`,
    `case when ${fits("b.metadata", bytes)} then b.metadata end as ${prefix}metadata`,
    `b.metadata is not null as ${prefix}has_metadata`,
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
  readonly metadata: string | null;
  readonly has_title: boolean;
  readonly has_metadata: boolean;
};

export function toBatchText(row: BatchRow): BatchText {
  const { id, owner_id: ownerId, version, status } = row;
  const omitted = (["title", "metadata"] as const).filter(
    (name) => row[name] === null && row[`has_${name}`],
  );
  const plain = JSON.stringify({
    id,
    ownerId,
    title: row.title,
    total: row.total,
    completed: row.completed,
    failed: row.failed,
    progress: row.progress,
    status,
    estimatedSecondsRemaining: row.estimated_seconds_remaining,
    version,
    createdAt: toIso(row.created_at),
    finishedAt: toIsoOrNull(row.finished_at),
  } satisfies Omit<Batch, "metadata">);
  const json = `${plain.slice(0, -1)},"metadata":${row.metadata}${omission(omitted)}}`;
  return { id, ownerId, version, status, json };
}
