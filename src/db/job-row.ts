import { sql } from "kysely";
import type { Job, StoredJob } from "../protocol/job.ts";
import { isFinal } from "../protocol/status.ts";
import { type ChangeRow, toChange } from "./changes.ts";
import type { Database } from "./database.ts";

/** What a job's present version has beside the job itself; null when its history was removed. */
export type NewestChange = {
  source: string | null;
  estimated_seconds_remaining: number | null;
  occurred_at: Date | null;
};

/** A row of jobcast.jobs as node-postgres reads it. */
export type JobColumns = Omit<ChangeRow, "job_id" | "xid" | keyof NewestChange> & {
  id: string;
  type: string;
  title: string | null;
  params: Job["params"];
  metadata: Job["metadata"];
  credits: number;
  created_at: Date;
  updated_at: Date;
  started_at: Date | null;
  finished_at: Date | null;
  /** A number for 'infinity', which a producer may write and which is as good as none. */
  timeout_at: Date | number | null;
};

export type JobRow = JobColumns & NewestChange;

/** Jobs `j`, each with the history `h` of its present version. */
export function jobsWithNewestChange(db: Database) {
  return db
    .selectFrom("jobcast.jobs as j")
    .leftJoin("jobcast.status_history as h", (join) =>
      join.onRef("h.job_id", "=", "j.id").onRef("h.version", "=", "j.version"),
    );
}

/** What makes a JobRow of `jobsWithNewestChange`, beside all of `j`. */
export const NEWEST_CHANGE = [
  "h.source",
  "h.estimated_seconds_remaining",
  "h.occurred_at",
] as const;

const NO_CHANGE: NewestChange = {
  source: null,
  estimated_seconds_remaining: null,
  occurred_at: null,
};

/**
 * The same for jobs that a function just gave back: the statement that called it began before it
 * wrote their history, and cannot see it. A version never changes, so this needs no transaction.
 */
export async function addNewestChange<Row extends JobColumns>(
  db: Database,
  jobs: readonly Row[],
): Promise<(Row & NewestChange)[]> {
  const ids = jobs.map(({ id }) => id);
  const versions = jobs.map(({ version }) => version);
  const { rows } = await sql<NewestChange>`
    select h.source, h.estimated_seconds_remaining, h.occurred_at
    from unnest(${ids}::uuid[], ${versions}::bigint[]) with ordinality k (id, version, position)
    left join jobcast.status_history h on h.job_id = k.id and h.version = k.version
    order by k.position`.execute(db);
  return jobs.map((job, index) => ({ ...job, ...(rows[index] ?? NO_CHANGE) }));
}

export function toStoredJob(row: JobRow): StoredJob {
  const { event } = toChange({
    ...row,
    job_id: row.id,
    source: row.source ?? "sql",
    occurred_at: row.occurred_at ?? row.updated_at,
    xid: "0",
  });
  return {
    ...event,
    id: row.id,
    ownerId: row.owner_id,
    type: row.type,
    title: row.title,
    params: row.params,
    metadata: row.metadata,
    credits: creditsOf(row),
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
    startedAt: row.started_at?.toISOString() ?? null,
    finishedAt: row.finished_at?.toISOString() ?? null,
    timeoutAt: row.timeout_at instanceof Date ? row.timeout_at.toISOString() : null,
  };
}

/**
 * Each attempt is charged when it begins and refunded when it ends otherwise than completed, and a
 * retry needs such an end: so all attempts but the newest were refunded.
 */
function creditsOf({ credits, attempt, status }: JobRow): Job["credits"] {
  const isRefunded = isFinal(status) && status !== "completed";
  return { charged: credits * attempt, refunded: credits * (isRefunded ? attempt : attempt - 1) };
}
