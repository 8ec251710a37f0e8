import type { BatchText } from "../change/batch-text.ts";
import type { JobText } from "../change/job-text.ts";
import type { Once } from "../once.ts";
import type { CreateBatch } from "../protocol/batch.ts";
import type { Status } from "../protocol/status.ts";
import { type BatchRow, batchColumns, toBatchText } from "./batch-row.ts";
import type { JobPosition } from "./job-list.ts";
import {
  BULK_BYTES,
  type JobRow,
  jobColumns,
  LISTED_BYTES,
  NEWEST_CHANGE,
  toJobText,
  WHOLE_BYTES,
} from "./job-row.ts";
import type { Lanes } from "./lanes.ts";
import { type Query, theOne } from "./query.ts";

/** A request for a batch, of which `body` has the jobs, in its member `jobs`: a JSON object as text. */
export type NewBatch = Pick<CreateBatch, "title"> & {
  readonly ownerId: string;
  readonly body: string;
  readonly jobCount: number;
  readonly once?: Once | undefined;
};

/** A request for more jobs, of which `body` has them, in its member `jobs`: a JSON object as text. */
export type MoreJobs = Pick<NewBatch, "body" | "jobCount" | "once">;

export type BatchRetry = {
  readonly message?: string | undefined;
  readonly once?: Once | undefined;
};

/** A batch that was made, and its jobs in the order in which they were named. */
export type BatchWithJobs = { readonly batch: BatchText; readonly jobs: readonly JobText[] };

/** Which batches; of everybody without an owner. */
export type BatchFilter = {
  readonly ownerId?: string | undefined;
  readonly statuses?: readonly Status[] | undefined;
};

export type BatchPage = { readonly limit: number; readonly after?: JobPosition | undefined };

export type BatchListing = {
  readonly batches: readonly BatchText[];
  /** The position of the last batch when there are more after it. */
  readonly next: JobPosition | undefined;
};

/** `by` is who asks: he shares the connections with others. */
export type BatchStore = {
  create(batch: NewBatch, by: string): Promise<BatchWithJobs>;
  get(id: string, by: string): Promise<BatchText | undefined>;
  /** The newest first. */
  list(filter: BatchFilter, page: BatchPage, by: string): Promise<BatchListing>;
  /** In the order in which they were named. @throws the error of JC002 when there is no such batch */
  addJobs(id: string, jobs: MoreJobs, by: string): Promise<readonly JobText[]>;
  /** The next attempt of what failed or timed out; undefined when there is no such batch. */
  retry(id: string, retry: BatchRetry, by: string): Promise<BatchText | undefined>;
  /** What has ended, and its jobs with it. */
  delete(id: string, by: string): Promise<void>;
  /** Cancels what is unfinished; undefined when there is no such batch. */
  cancel(id: string, message: string | undefined, by: string): Promise<BatchText | undefined>;
};

/** Written as the source of every version that the API makes. */
const SOURCE = "api";

/** A batch by itself is told with any title that one can have. */
const WHOLE_BATCH = batchColumns(WHOLE_BYTES);

/** A batch that was made, and one of its jobs. The columns of the batch have a prefix. */
type MadeRow = { readonly [Name in keyof BatchRow as `made_${Name}`]: BatchRow[Name] } & (
  | JobRow
  | { readonly id: null }
);

export function createBatchStore({ reads, writes }: Pick<Lanes, "reads" | "writes">): BatchStore {
  const get = (id: string, by: string) => readBatch(reads.for({ owner: by }), id);
  return {
    create(batch, by) {
      const key = batch.once && `${batch.ownerId} ${batch.once.key}`;
      return createBatch(writes.for({ owner: by, job: key }), batch);
    },
    get,
    list: (filter, page, by) => listBatches(reads.for({ owner: by }), filter, page),
    addJobs: (id, jobs, by) => addJobs(writes.for({ owner: by, job: id }), id, jobs),
    async retry(id, { message, once }, by) {
      await writes.for({ owner: by, job: id })("select jobcast.retry_batch($1, $2, $3, $4, $5)", [
        id,
        message ?? null,
        SOURCE,
        once?.key ?? null,
        once?.hash ?? null,
      ]);
      return get(id, by);
    },
    async delete(id, by) {
      const query = writes.for({ owner: by, job: id });
      // Some at a time: a statement that takes long is cut.
      const deleteSome = async () =>
        theOne(
          await query<{ has_more: boolean }>("select jobcast.delete_batch($1) as has_more", [id]),
        );
      while ((await deleteSome()).has_more);
    },
    async cancel(id, message, by) {
      await writes.for({ owner: by, job: id })(
        "select count(*) from jobcast.cancel_batch($1, $2, $3)",
        [id, message ?? null, SOURCE],
      );
      // The counts follow when that statement commits, so no function can return them.
      return get(id, by);
    },
  };
}

/** Each row has the batch, and one of its jobs; a batch that was made before may have none left. */
async function createBatch(query: Query, batch: NewBatch): Promise<BatchWithJobs> {
  const rows = await query<MadeRow>(
    `with b as materialized (
       select * from jobcast.create_batch(
         $1, $2, $3::jsonb -> 'jobs', $4, $5, $6, nullif($3::jsonb -> 'metadata', 'null')
       )
     )
     select ${batchColumns(WHOLE_BYTES, "made_")}, jobs.*
     from b left join lateral (
       select ${manyJobColumns(batch.jobCount)}
       from jobcast.first_jobs(b.id, $7) j ${NEWEST_CHANGE}
     ) jobs on true`,
    [
      batch.ownerId,
      batch.title ?? null,
      batch.body,
      batch.once?.key ?? null,
      batch.once?.hash ?? null,
      SOURCE,
      batch.jobCount,
    ],
  );
  const jobs = rows.flatMap((row) => (row.id === null ? [] : [toJobText(row)]));
  return { batch: toBatchText(batchOf(theOne(rows))), jobs };
}

/** Of a request that names many jobs each is told in less. */
function manyJobColumns(count: number): string {
  return jobColumns(count > 100 ? BULK_BYTES : LISTED_BYTES);
}

async function addJobs(query: Query, id: string, jobs: MoreJobs): Promise<readonly JobText[]> {
  const rows = await query<JobRow>(
    `select ${manyJobColumns(jobs.jobCount)}
     from jobcast.add_jobs($1, $2::jsonb -> 'jobs', $3, $4, $5) with ordinality a (id, position)
     cross join lateral jobcast.job_now(a.id) j ${NEWEST_CHANGE}
     order by a.position`,
    [id, jobs.body, jobs.once?.key ?? null, jobs.once?.hash ?? null, SOURCE],
  );
  return rows.map(toJobText);
}

function batchOf(row: MadeRow): BatchRow {
  const columns = Object.entries(row).filter(([name]) => name.startsWith("made_"));
  return Object.fromEntries(columns.map(([name, value]) => [name.slice(5), value])) as BatchRow;
}

async function readBatch(query: Query, id: string): Promise<BatchText | undefined> {
  const [row] = await query<BatchRow>(
    `select ${WHOLE_BATCH} from jobcast.batches b where b.id = $1`,
    [id],
  );
  return row && toBatchText(row);
}

async function listBatches(
  query: Query,
  { ownerId, statuses }: BatchFilter,
  { limit, after }: BatchPage,
): Promise<BatchListing> {
  // One more than the page, to know whether there is a next one.
  const rows = await query<BatchRow>(
    `select ${batchColumns()}
     from jobcast.batches b
     where ($1::text is null or b.owner_id = $1)
       and ($2::timestamptz is null or (b.created_at, b.id) < ($2, $3::uuid))
       and ($4::text[] is null or b.status = any ($4))
     order by b.created_at desc, b.id desc
     limit ${limit + 1}`,
    [ownerId ?? null, after?.createdAt ?? null, after?.id ?? null, statuses ?? null],
  );
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return {
    batches: shown.map(toBatchText),
    next: last && { createdAt: last.created_at, id: last.id },
  };
}
