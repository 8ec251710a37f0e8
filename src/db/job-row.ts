import type { JobText } from "../change/job-text.ts";
import { isFinal, type Status } from "../protocol/status.ts";
import { countsOf, omission, quote, versionMembers } from "./changes.ts";
import { momentText, toIso, toIsoOrNull } from "./moment.ts";
import { isJsonWithin, isSmallJson } from "./value-size.ts";

/**
 * A job as text, written by SQL in a way that no setting of the session and no parser of the driver
 * changes: it is also read in transactions of applications, which have their own.
 */

/** How much of a job is told at once. Values above it are null and named in `omitted`. */
export const WHOLE_BYTES = 4 * 1_024 * 1_024;

/** Of one among up to a hundred, and among up to a thousand. */
export const LISTED_BYTES = 8 * 1_024;
export const BULK_BYTES = 1_024;

const TEXTS = ["title", "stage", "message"] as const;
const VALUES = ["params", "result", "error", "metadata"] as const;

type Always = "id" | "owner_id" | "type" | "attempt" | "version" | "credits" | "progress";
type Moment = "created_at" | "updated_at" | "occurred_at";
type Sometimes =
  | (typeof TEXTS)[number]
  | (typeof VALUES)[number]
  | `has_${"counts" | (typeof TEXTS)[number] | (typeof VALUES)[number]}`
  | "batch_id"
  | "counts"
  | "source"
  | "estimated_seconds_remaining"
  | "started_at"
  | "finished_at"
  | "timeout_at"
  | "cost"
  | "ledger";

/** A value is null where the job's is, or where it is left out; its `has_` tells which. */
export type JobRow = Readonly<
  Record<Always | Moment, string> & Record<Sometimes, string | null> & { status: Status }
>;

function has(name: string): string {
  return `(j.${name} is not null)::text as has_${name}`;
}

function value(name: string, bytes: number): string {
  const fits = bytes === WHOLE_BYTES ? isJsonWithin : isSmallJson;
  return `case when ${fits(`j.${name}`, bytes)} then j.${name}::text end as ${name}`;
}

/**
 * The columns of jobs `j` and, from `n`, of what is known of their present version.
 * @param bytes above which a value is left out
 * @param omit values that are left out whatever their size
 */
export function jobColumns(bytes: number, omit: readonly string[] = []): string {
  const plain = ["owner_id", "type", "status"].map((name) => `j.${name}`);
  const numbers = ["id", "batch_id", "attempt", "version", "credits", "cost"].map(
    (name) => `j.${name}::text`,
  );
  const moments = ["created_at", "updated_at", "started_at", "finished_at", "timeout_at"].map(
    (name) => `${momentText(`j.${name}`)} as ${name}`,
  );
  const texts = TEXTS.map(
    (name) =>
      `case when pg_catalog.octet_length(j.${name}) <= ${bytes} then j.${name} end as ${name}`,
  );
  return [
    ...plain,
    ...numbers,
    `(${countsOf("j.counts")})::text as counts`,
    // How many digits a float is written with is a setting; its eight bytes are not.
    "pg_catalog.encode(pg_catalog.float8send(j.progress), 'hex') as progress",
    ...moments,
    ...texts,
    ...VALUES.map((name) => (omit.includes(name) ? `null as ${name}` : value(name, bytes))),
    ...["counts", ...TEXTS, ...VALUES].map(has),
    "case when j.credits > 0 or j.cost > 0 then jobcast.credits_of(j.id) end::text as ledger",
    "n.source",
    "n.estimated_seconds_remaining::text",
    `${momentText("coalesce(n.occurred_at, j.updated_at)")} as occurred_at`,
  ].join(", ");
}

/** What makes `n` of jobs that are read. */
export const PRESENT_CHANGE = `
  left join jobcast.status_history n on n.job_id = j.id and n.version = j.version`;

/** The same of jobs that this very statement wrote, or that a worker reads without leave for more. */
export const NEWEST_CHANGE = `
  cross join lateral jobcast.newest_change(
    j.id, j.version, j.status, j.progress, j.started_at, j.updated_at
  ) n`;

export function toJobText(row: JobRow): JobText {
  const { id, owner_id: ownerId, batch_id: batchId, status } = row;
  const [attempt, version] = [Number(row.attempt), Number(row.version)];
  const omitted = (["counts", ...TEXTS, ...VALUES] as const).filter(
    (name) => row[name] === null && row[`has_${name}`] === "true",
  );
  const owner = `"id":"${id}","ownerId":${quote(ownerId)}`;
  const json = `{${owner},${ofVersion(row)},${ofJob(row)}${omission(omitted)}}`;
  return { id, ownerId, batchId, attempt, version, status, json };
}

function ofVersion(row: JobRow): string {
  const { estimated_seconds_remaining: estimate } = row;
  return versionMembers({
    ...row,
    attempt: Number(row.attempt),
    version: Number(row.version),
    progress: Buffer.from(row.progress, "hex").readDoubleBE(),
    source: row.source ?? "sql",
    estimated_seconds_remaining: estimate === null ? null : Number(estimate),
  });
}

function ofJob(row: JobRow): string {
  return (
    `"params":${row.params},"credits":${row.ledger ?? creditsOf(row)},"cost":${row.cost}` +
    `,"createdAt":"${toIso(row.created_at)}","updatedAt":"${toIso(row.updated_at)}"` +
    `,"startedAt":${quote(toIsoOrNull(row.started_at))}` +
    `,"finishedAt":${quote(toIsoOrNull(row.finished_at))}` +
    // A deadline of infinity is as good as none.
    `,"timeoutAt":${row.timeout_at === "infinity" ? null : quote(toIsoOrNull(row.timeout_at))}`
  );
}

/**
 * For who may not read the ledger. Each attempt is charged when it begins and refunded when it ends otherwise than completed, and a
 * retry needs such an end: so all attempts but the newest were refunded.
 */
function creditsOf(row: JobRow): string {
  const [credits, attempt] = [Number(row.credits), Number(row.attempt)];
  const isRefunded = isFinal(row.status) && row.status !== "completed";
  const refunded = credits * (isRefunded ? attempt : attempt - 1);
  return JSON.stringify({ charged: credits * attempt, refunded });
}
