import type { Change, News } from "../change/change.ts";
import { formatEventId } from "../change/event-id.ts";
import { deletedJson } from "../protocol/event.ts";
import type { Status } from "../protocol/status.ts";
import { toIso } from "./moment.ts";
import { areStoredPlain, isSmallJson, storedBytes } from "./value-size.ts";
import { FROM_HISTORY, tagOf } from "./versions.ts";
import { beganAfter, notVisibleIn, wasOpenIn } from "./visibility.ts";

/**
 * Rows of status_history as readers see them. They are bounded in bytes before they are read: a row
 * comes with its values when these are small, and otherwise says how large they are, so that a page
 * of any number of rows fits into memory; `change-values.ts` reads the rest.
 */

/** Up to this many bytes the values of a row come with it. */
export const INLINE_BYTES = 8 * 1_024;

/** The members of an event that may be of any size. */
export const VALUES = ["stage", "message", "result", "error", "event_data"] as const;
export type Value = (typeof VALUES)[number];

const JSON_VALUES: ReadonlySet<Value> = new Set(["result", "error", "event_data"] as const);

export function isJsonValue(name: Value): boolean {
  return JSON_VALUES.has(name);
}

/** Of a row whose size nobody counted, because it was written before sizes were: what is told with it. */
const PLAIN_BYTES = 2 * 1_024;
const COLUMNS = VALUES.map((name) => `h.${name}`);
const STORED_BYTES = storedBytes(COLUMNS);
const COUNTED_BYTES = `coalesce(h.bytes, case
  when ${STORED_BYTES} <= ${PLAIN_BYTES} and ${areStoredPlain(COLUMNS)} then ${STORED_BYTES}
  else greatest(${STORED_BYTES}, ${INLINE_BYTES + 1}) end)`;

/** Three numbers as a text of this size at most; one of jsonb may have 131,072 digits in eight bytes. */
const COUNTS_BYTES = 1_024;

/** Whether nobody should have to hold the counts of a row. */
function areTooLong(column: string): string {
  return `coalesce(pg_catalog.octet_length(${column}::text) > ${COUNTS_BYTES}, false)`;
}

/** The counts of a row, unless they are. */
export function countsOf(column: string): string {
  return `case when not ${areTooLong(column)} then ${column} end`;
}

/** Up to this many bytes the title and the metadata of a job are told with each of its versions. */
const OF_JOB_BYTES = 1_024;
const TITLE = `case when pg_catalog.octet_length(j.title) <= ${OF_JOB_BYTES} then j.title end`;
const METADATA = `case when ${isSmallJson("j.metadata", OF_JOB_BYTES)} then j.metadata end`;

/** What is needed of a job for its changes. */
const JOB_COLUMNS = "owner_id, batch_id, type, title, metadata";

/**
 * The columns of a change, from `status_history h` and its `jobs j`.
 * @param isCareful leaves every value for later: one of them could not be read with the others
 * @param kind SQL; what only tells how jobs stand leaves out that a version was an event
 */
export function changeColumns(isCareful = false, kind = KIND): string {
  const bytes = isCareful
    ? `greatest(coalesce(h.bytes, ${STORED_BYTES}), ${INLINE_BYTES + 1})`
    : COUNTED_BYTES;
  const values = VALUES.map(
    (name) => `case when ${bytes} <= ${INLINE_BYTES} then h.${name} end as ${name}`,
  );
  return `h.job_id, h.version, h.attempt, h.status, h.progress,
    ${countsOf("h.counts")} as counts, ${areTooLong("h.counts")} as are_counts_omitted,
    h.estimated_seconds_remaining, h.source, h.xid, h.occurred_at,
    ${tagOf("h.occurred_at")} as tag, j.owner_id, j.batch_id,
    j.type, j.title is not null as has_title, j.metadata is not null as has_metadata,
    ${isCareful ? "null::text" : TITLE} as title, ${isCareful ? "null::jsonb" : METADATA} as metadata,
    ${bytes} as bytes, h.bytes is not null as is_counted, ${values.join(", ")}, ${kind} as kind`;
}

export const STATE_KIND = "'status'";
const KIND = `coalesce(h.event_name, ${STATE_KIND})`;

/** The same columns of `jobcast.deletions d`. */
export const DELETION_COLUMNS = `d.job_id, d.version, 0 as attempt, d.status, 0::float8 as progress,
  null::jsonb as counts, false as are_counts_omitted, null::integer as estimated_seconds_remaining, '' as source, d.xid,
  d.occurred_at, ${tagOf("d.occurred_at")} as tag, d.owner_id, d.batch_id,
  '' as type, false as has_title, false as has_metadata, null::text as title, null::jsonb as metadata,
  0 as bytes, true as is_counted,
  ${VALUES.map((name) => `null::${isJsonValue(name) ? "jsonb" : "text"} as ${name}`)},
  'deleted' as kind`;

/**
 * Everything that the snapshot in parameter `$n` did not see, of all jobs, each job's versions
 * ascending. Whatever the statistics say (after an import in one transaction they say that a
 * transaction writes everything), the rows are found by the index on xid: each condition by itself,
 * in a query that no order and no limit tempts to walk another index. OFFSET keeps the planner from
 * a join for which it would read all jobs.
 */
export function newChanges(parameter: string, isCareful: boolean): string {
  return `
    with fresh as materialized (
      ${FROM_HISTORY} where ${beganAfter(parameter, "h")}
        and h.xid < pg_snapshot_xmax(pg_current_snapshot())
      union all
      ${FROM_HISTORY} where ${wasOpenIn(parameter, "h")}
    )
    select ${changeColumns(isCareful)}
    from fresh h
    cross join lateral (select ${JOB_COLUMNS} from jobcast.jobs where id = h.job_id offset 0) j
    union all
    select ${DELETION_COLUMNS} from jobcast.deletions d where ${notVisibleIn(parameter, "d")}
    order by job_id, version`;
}

/** JSON in it is PostgreSQL's text of it, and so are moments. */
export type ChangeRow = {
  readonly job_id: string;
  readonly version: number;
  readonly attempt: number;
  readonly status: Status;
  readonly progress: number;
  readonly stage: string | null;
  readonly message: string | null;
  readonly counts: string | null;
  readonly are_counts_omitted: boolean;
  readonly result: string | null;
  readonly error: string | null;
  readonly event_data: string | null;
  readonly kind: Change["kind"];
  readonly estimated_seconds_remaining: number | null;
  readonly source: string;
  readonly xid: number;
  readonly occurred_at: string;
  readonly tag: string;
  readonly owner_id: string;
  readonly batch_id: string | null;
  readonly type: string;
  /** These two are null, too, where they are left out. */
  readonly title: string | null;
  readonly metadata: string | null;
  readonly has_title: boolean;
  readonly has_metadata: boolean;
  /** Of its values as text; a lower bound unless they are counted, or here. */
  readonly bytes: number;
  readonly is_counted: boolean;
  /** What it has and is not here: nobody could read it, or nobody should. */
  readonly omitted?: readonly Value[];
};

/** A row of a left join whose right side, the change, may be missing. */
export type MaybeChangeRow<Extra> = Extra & (ChangeRow | { job_id: null });

export function hasChange<Extra>(row: MaybeChangeRow<Extra>): row is Extra & ChangeRow {
  return row.job_id !== null;
}

/** Whether the values came with the row. */
export function isWhole({ bytes }: ChangeRow): boolean {
  return bytes <= INLINE_BYTES;
}

/** @param row with its values */
export function toChange(row: ChangeRow): Change {
  if (row.kind === "deleted") return { ...toNews(row), json: deletedJson(row.job_id, row.version) };
  const omitted = [
    ...(row.are_counts_omitted ? ["counts"] : []),
    ...(row.omitted ?? []),
    ...(row.has_title && row.title === null ? ["title"] : []),
    ...(row.has_metadata && row.metadata === null ? ["metadata"] : []),
  ];
  const members = row.kind === "status" ? versionMembers(row) : customMembers(row);
  const told = omitted.filter((name) => isOf(name, row.kind));
  const json = `{"jobId":"${row.job_id}",${members}${omission(told)}}`;
  return { ...toNews(row), json };
}

/** What is known of a change without its values. */
export function toNews(row: ChangeRow): News {
  return {
    kind: row.kind,
    jobId: row.job_id,
    version: row.version,
    id: formatEventId(row.version, row.tag),
    status: row.status,
    ownerId: row.owner_id,
    batchId: row.batch_id,
    type: row.type,
    xid: row.xid,
    json: undefined,
  };
}

/** Names of members, of what an event of this kind has at all. */
function isOf(name: string, kind: string): boolean {
  if (name === "title" || name === "metadata") return true;
  return (name === "event_data") === (kind !== "status");
}

/** Of an event of the producer's own: it tells nothing of the state. */
function customMembers(row: ChangeRow): string {
  return (
    `"version":${row.version},"attempt":${row.attempt},"event":${quote(row.kind)}` +
    `,"data":${row.event_data},"batchId":${row.batch_id === null ? null : `"${row.batch_id}"`}` +
    `,"source":${quote(row.source)},"occurredAt":"${toIso(row.occurred_at)}"` +
    `,"type":${quote(row.type)},"title":${quote(row.title)},"metadata":${row.metadata}`
  );
}

type VersionRow = Omit<
  ChangeRow,
  | "job_id"
  | "owner_id"
  | "kind"
  | "event_data"
  | "xid"
  | "tag"
  | "bytes"
  | "is_counted"
  | "are_counts_omitted"
  | "has_title"
  | "has_metadata"
  | "omitted"
>;

/** What an event and a job have in common, as the members of a JSON object. */
export function versionMembers(row: VersionRow): string {
  const { version, attempt, counts, result, error, batch_id } = row;
  return (
    `"version":${version},"attempt":${attempt}` +
    `,"status":${quote(row.status)},"progress":${percent(row.progress)}` +
    `,"stage":${quote(row.stage)},"message":${quote(row.message)}` +
    `,"counts":${counts},"result":${result},"error":${error}` +
    `,"batchId":${batch_id === null ? null : `"${batch_id}"`}` +
    `,"estimatedSecondsRemaining":${row.estimated_seconds_remaining}` +
    `,"source":${quote(row.source)},"occurredAt":"${toIso(row.occurred_at)}"` +
    `,"type":${quote(row.type)},"title":${quote(row.title)},"metadata":${row.metadata}`
  );
}

/** The member that names what is left out, if anything is. */
export function omission(names: readonly string[] = []): string {
  const members = names.map((name) => (name === "event_data" ? "data" : name));
  return members.length === 0 ? "" : `,"omitted":${JSON.stringify(members)}`;
}

export function quote(text: string | null): string {
  return text === null ? "null" : JSON.stringify(text);
}

/** A history that was written around the rules may hold what no JSON can. */
function percent(progress: number): number {
  return Number.isFinite(progress) ? progress : progress > 0 ? 100 : 0;
}
