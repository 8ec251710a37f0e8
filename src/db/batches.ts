import { sql } from "kysely";
import type { Batch, CreateBatch } from "../protocol/batch.ts";
import type { StoredJob } from "../protocol/job.ts";
import { BATCH_COLUMNS, type BatchRow, toBatch } from "./batch-reader.ts";
import type { Database } from "./database.ts";
import type { JobPosition } from "./job-list.ts";
import { type JobRow, jobsWithNewestChange, NEWEST_CHANGE, toStoredJob } from "./job-row.ts";
import { requestHash } from "./request-hash.ts";

export type NewBatch = CreateBatch & {
  readonly ownerId: string;
  /** Said again with the same key and the same batch, it gives back the first one. */
  readonly idempotencyKey?: string | undefined;
};

/** A batch that was made, and its jobs in the order in which they were named. */
export type BatchWithJobs = { readonly batch: Batch; readonly jobs: readonly StoredJob[] };

export type BatchPage = { readonly limit: number; readonly after?: JobPosition | undefined };

export type BatchListing = {
  readonly batches: readonly Batch[];
  /** The position of the last batch when there are more after it. */
  readonly next: JobPosition | undefined;
};

export type BatchStore = {
  create(batch: NewBatch): Promise<BatchWithJobs>;
  get(id: string): Promise<Batch | undefined>;
  /** The newest first; of everybody without an owner. */
  list(ownerId: string | undefined, page: BatchPage): Promise<BatchListing>;
  /** Cancels what is unfinished; undefined when there is no such batch. */
  cancel(id: string, message?: string): Promise<Batch | undefined>;
};

/** Written as the source of every version that the API makes. */
const SOURCE = "api";

const COLUMNS = sql.raw(BATCH_COLUMNS);

export function createBatchStore(db: Database): BatchStore {
  const get = (id: string) => readBatch(db, id);
  return {
    create: (batch) => createBatch(db, batch),
    get,
    list: (ownerId, page) => listBatches(db, ownerId, page),
    async cancel(id, message) {
      await sql`
        select count(*) from jobcast.cancel_batch(${id}, ${message ?? null}, ${SOURCE})`.execute(
        db,
      );
      // The counts follow when that statement commits.
      return get(id);
    },
  };
}

async function createBatch(db: Database, batch: NewBatch): Promise<BatchWithJobs> {
  const { idempotencyKey = null, ...request } = batch;
  const jobs = request.jobs.map(({ timeoutSeconds, timeoutExtends, ...job }) => ({
    ...job,
    timeout_seconds: timeoutSeconds,
    timeout_extends: timeoutExtends,
  }));
  const { rows } = await sql<BatchRow>`
    select ${COLUMNS} from jobcast.create_batch(
      ${request.ownerId}, ${request.title ?? null}, ${JSON.stringify(jobs)}, ${idempotencyKey},
      ${idempotencyKey === null ? null : requestHash(request)}, ${SOURCE}
    ) b`.execute(db);
  const [row] = rows;
  if (!row) throw new TypeError("a function that returns a batch returned none");
  return { batch: toBatch(row), jobs: await readFirstJobs(db, row.id, jobs.length) };
}

/** Those that the batch was made with: what was added to it later was created later. */
async function readFirstJobs(db: Database, batchId: string, count: number): Promise<StoredJob[]> {
  const rows = await jobsWithNewestChange(db)
    .selectAll("j")
    .select(NEWEST_CHANGE)
    .where("j.batch_id", "=", batchId)
    .orderBy("j.created_at")
    .orderBy("j.id")
    .limit(count)
    .execute();
  return rows.map((row) => toStoredJob(row as JobRow));
}

async function readBatch(db: Database, id: string): Promise<Batch | undefined> {
  const { rows } = await sql<BatchRow>`
    select ${COLUMNS} from jobcast.batches b where b.id = ${id}`.execute(db);
  return rows[0] && toBatch(rows[0]);
}

async function listBatches(
  db: Database,
  ownerId: string | undefined,
  { limit, after }: BatchPage,
): Promise<BatchListing> {
  const ofOwner = ownerId === undefined ? sql`` : sql`and b.owner_id = ${ownerId}`;
  const behind = after
    ? sql`and (b.created_at, b.id) < (${after.createdAt}::timestamptz, ${after.id}::uuid)`
    : sql``;
  // One more than the page, to know whether there is a next one.
  const { rows } = await sql<BatchRow & { position: string }>`
    select ${COLUMNS},
      to_char(b.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as position
    from jobcast.batches b
    where true ${ofOwner} ${behind}
    order by b.created_at desc, b.id desc
    limit ${limit + 1}`.execute(db);
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return {
    batches: shown.map(toBatch),
    next: last && { createdAt: last.position, id: last.id },
  };
}
