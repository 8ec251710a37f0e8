import { sql } from "kysely";
import type { StatusEvent } from "../protocol/event.ts";
import type { CreateJob, StoredJob, UpdateJob } from "../protocol/job.ts";
import { type ChangeRow, toChange } from "./changes.ts";
import type { Database } from "./database.ts";
import { type JobFilter, type JobListing, type JobPage, listJobs } from "./job-list.ts";
import {
  addNewestChange,
  type JobColumns,
  type JobRow,
  jobsWithNewestChange,
  NEWEST_CHANGE,
  toStoredJob,
} from "./job-row.ts";
import { requestHash } from "./request-hash.ts";

/*
 * Everything that writes calls the functions that producers call in SQL, so HTTP has no rules of
 * its own; what they refuse comes out as PostgreSQL's error with its SQLSTATE.
 */

/** Written as the source of every version that the API makes. */
const SOURCE = "api";

export type NewJob = CreateJob & {
  readonly ownerId: string;
  /** Of this owner: the same key gives back the same job, if the request is the same too. */
  readonly idempotencyKey?: string | undefined;
};

/** What became of one update of many: the job afterwards, and the SQLSTATE of its refusal. */
export type UpdateOutcome = { readonly job?: StoredJob; readonly refusal?: string };

export type JobStore = {
  create(job: NewJob): Promise<StoredJob>;
  get(id: string): Promise<StoredJob | undefined>;
  list(filter: JobFilter, page: JobPage): Promise<JobListing>;
  /** Versions above `after`, ascending. */
  history(id: string, after: number, limit: number): Promise<StatusEvent[]>;
  update(id: string, update: UpdateJob): Promise<StoredJob>;
  /** In one transaction, which the refusal of some does not undo; an outcome for each, in order. */
  updateMany(updates: readonly (UpdateJob & { readonly id: string })[]): Promise<UpdateOutcome[]>;
  cancel(id: string, message?: string): Promise<StoredJob>;
  retry(id: string, message?: string): Promise<StoredJob>;
};

/** @param source what the history says of changes that are made through this store */
export function createJobStore(db: Database, source = SOURCE): JobStore {
  return {
    create: (job) => createJob(db, job, source),
    get: (id) => readJob(db, id),
    list: (filter, page) => listJobs(db, filter, page),
    history: (id, after, limit) => readHistory(db, id, after, limit),
    update: (id, update) => updateJob(db, id, update, source),
    updateMany: (updates) => updateJobs(db, updates, source),
    async cancel(id, message) {
      const { rows } = await sql<JobColumns>`
        select * from jobcast.cancel_job(${id}, ${message ?? null}, ${source})`.execute(db);
      return theOne(await addNewestChange(db, rows));
    },
    async retry(id, message) {
      const { rows } = await sql<JobColumns>`
        select * from jobcast.retry_job(${id}, ${message ?? null}, ${source})`.execute(db);
      return theOne(await addNewestChange(db, rows));
    },
  };
}

async function createJob(db: Database, job: NewJob, source: string): Promise<StoredJob> {
  const { idempotencyKey = null, ...request } = job;
  const { rows } = await sql<JobColumns>`
    select * from jobcast.create_job(
      owner_id => ${job.ownerId}, type => ${job.type}, title => ${job.title ?? null},
      params => ${toJsonb(job.params)}, metadata => ${toJsonb(job.metadata)},
      batch_id => ${job.batchId ?? null}, timeout_seconds => ${job.timeoutSeconds ?? null},
      timeout_extends => ${job.timeoutExtends ?? false}, credits => ${job.credits ?? 0},
      idempotency_key => ${idempotencyKey},
      request_hash => ${idempotencyKey === null ? null : requestHash(request)},
      source => ${source}
    )`.execute(db);
  return theOne(await addNewestChange(db, rows));
}

async function readJob(db: Database, id: string): Promise<StoredJob | undefined> {
  const row = await jobsWithNewestChange(db)
    .selectAll("j")
    .select(NEWEST_CHANGE)
    .where("j.id", "=", id)
    .executeTakeFirst();
  return row && toStoredJob(row as JobRow);
}

async function readHistory(
  db: Database,
  id: string,
  after: number,
  limit: number,
): Promise<StatusEvent[]> {
  const rows = await db
    .selectFrom("jobcast.status_history as h")
    .innerJoin("jobcast.jobs as j", "j.id", "h.job_id")
    .selectAll("h")
    .select(["j.owner_id", "j.batch_id"])
    .where("h.job_id", "=", id)
    .where("h.version", ">", after)
    .orderBy("h.version")
    .limit(limit)
    .execute();
  return rows.map((row) => toChange(row as ChangeRow).event);
}

async function updateJob(
  db: Database,
  id: string,
  { attempt, ...patch }: UpdateJob,
  source: string,
): Promise<StoredJob> {
  const { rows } = await sql<JobColumns>`
    select * from jobcast.update_job(${id}, ${toJsonb(patch)}, ${attempt ?? null}, ${source})`.execute(
    db,
  );
  return theOne(await addNewestChange(db, rows));
}

async function updateJobs(
  db: Database,
  updates: readonly (UpdateJob & { readonly id: string })[],
  source: string,
): Promise<UpdateOutcome[]> {
  type Outcome = JobColumns & { item: number; problem: string | null };
  const { rows } = await sql<Outcome>`
    select u.item, u.problem, (u.job).*
    from jobcast.update_jobs(${JSON.stringify(updates)}, ${source}) u
    order by u.item`.execute(db);
  const found = rows.filter(({ id }) => id !== null);
  const jobs = new Map((await addNewestChange(db, found)).map((row) => [row.item, row]));
  return rows.map(({ item, problem }) => {
    const row = jobs.get(item);
    return { ...(row && { job: toStoredJob(row) }), ...(problem !== null && { refusal: problem }) };
  });
}

function theOne(rows: readonly JobRow[]): StoredJob {
  const [row] = rows;
  if (!row) throw new TypeError("a function that returns a job returned none");
  return toStoredJob(row);
}

/** Through JSON.stringify, because node-postgres would send an array as PostgreSQL's own kind. */
function toJsonb(value: unknown): string | null {
  return value === undefined || value === null ? null : JSON.stringify(value);
}
