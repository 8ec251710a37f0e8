import { sql } from "kysely";
import type { StoredJob } from "../protocol/job.ts";
import type { Status } from "../protocol/status.ts";
import type { Database } from "./database.ts";
import { type JobRow, jobsWithNewestChange, NEWEST_CHANGE, toStoredJob } from "./job-row.ts";

/** A job's place in the list. The moment keeps its microseconds, which a Date would lose. */
export type JobPosition = { readonly createdAt: string; readonly id: string };

/** Which jobs; a moment is whatever PostgreSQL reads as timestamptz. */
export type JobFilter = {
  readonly ownerId?: string | undefined;
  readonly statuses?: readonly Status[] | undefined;
  readonly type?: string | undefined;
  readonly batchId?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
};

/** Which of them: after a position, or from an offset on, which counts them all as well. */
export type JobPage = {
  readonly limit: number;
  readonly offset?: number | undefined;
  readonly after?: JobPosition | undefined;
};

export type JobListing = {
  readonly jobs: readonly StoredJob[];
  readonly total?: number;
  /** The position of the last job when there are more after it. */
  readonly next: JobPosition | undefined;
};

/** The newest first. One job more than the page is read, to know whether there is a next one. */
export async function listJobs(
  db: Database,
  filter: JobFilter,
  page: JobPage,
): Promise<JobListing> {
  let query = matching(db, filter)
    .selectAll("j")
    .select(NEWEST_CHANGE)
    .select(
      sql<string>`to_char(j.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`.as(
        "position",
      ),
    )
    .orderBy("j.created_at", "desc")
    .orderBy("j.id", "desc")
    .limit(page.limit + 1);
  if (page.offset !== undefined) query = query.offset(page.offset);
  if (page.after) {
    const { createdAt, id } = page.after;
    // Kysely would compare the tuple's members with the types of its own columns, here text.
    query = query.where(
      sql<boolean>`(j.created_at, j.id) < (${createdAt}::timestamptz, ${id}::uuid)`,
    );
  }

  const [rows, total] = await Promise.all([
    query.execute() as Promise<(JobRow & { position: string })[]>,
    page.offset === undefined ? undefined : countJobs(db, filter),
  ]);
  const shown = rows.slice(0, page.limit);
  const last = rows.length > shown.length ? shown.at(-1) : undefined;
  return {
    jobs: shown.map(toStoredJob),
    ...(total !== undefined && { total }),
    next: last && { createdAt: last.position, id: last.id },
  };
}

async function countJobs(db: Database, filter: JobFilter): Promise<number> {
  const { total } = await matching(db, filter)
    .select(({ fn }) => fn.countAll<number>().as("total"))
    .executeTakeFirstOrThrow();
  return total;
}

function matching(db: Database, filter: JobFilter) {
  let query = jobsWithNewestChange(db);
  const { ownerId, statuses, type, batchId, from, to } = filter;
  if (ownerId !== undefined) query = query.where("j.owner_id", "=", ownerId);
  if (statuses) query = query.where("j.status", "in", statuses);
  if (type !== undefined) query = query.where("j.type", "=", type);
  if (batchId !== undefined) query = query.where("j.batch_id", "=", batchId);
  if (from !== undefined)
    query = query.where("j.created_at", ">=", sql<Date>`${from}::timestamptz`);
  if (to !== undefined) query = query.where("j.created_at", "<", sql<Date>`${to}::timestamptz`);
  return query;
}
