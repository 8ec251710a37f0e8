import type { Once } from "../once.ts";
import type { Batch, CreateBatch } from "../protocol/batch.ts";
import type { JobText } from "../protocol/job.ts";
import { type BatchRow, batchColumns, toBatch } from "./batch-row.ts";
import type { JobPosition } from "./job-list.ts";
import {
  BULK_BYTES,
  type JobRow,
  jobColumns,
  LISTED_BYTES,
  PRESENT_CHANGE,
  toJobText,
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

/** A batch that was made, and its jobs in the order in which they were named. */
export type BatchWithJobs = { readonly batch: Batch; readonly jobs: readonly JobText[] };

export type BatchPage = { readonly limit: number; readonly after?: JobPosition | undefined };

export type BatchListing = {
  readonly batches: readonly Batch[];
  /** The position of the last batch when there are more after it. */
  readonly next: JobPosition | undefined;
};

/** `by` is who asks: he shares the connections with others. */
export type BatchStore = {
  create(batch: NewBatch, by: string): Promise<BatchWithJobs>;
  get(id: string, by: string): Promise<Batch | undefined>;
  /** The newest first; of everybody without an owner. */
  list(ownerId: string | undefined, page: BatchPage, by: string): Promise<BatchListing>;
  /** Cancels what is unfinished; undefined when there is no such batch. */
  cancel(id: string, message: string | undefined, by: string): Promise<Batch | undefined>;
};

/** Written as the source of every version that the API makes. */
const SOURCE = "api";

/** A batch by itself is told with any title that one can have. */
const WHOLE_BATCH = batchColumns(1_048_576);

export function createBatchStore({ reads, writes }: Pick<Lanes, "reads" | "writes">): BatchStore {
  const get = (id: string, by: string) => readBatch(reads.for({ owner: by }), id);
  return {
    async create(batch, by) {
      const key = batch.once && `${batch.ownerId} ${batch.once.key}`;
      const made = await createBatch(writes.for({ owner: by, job: key }), batch);
      const jobs = await readFirstJobs(reads.for({ owner: by }), made.id, batch.jobCount);
      return { batch: made, jobs };
    },
    get,
    list: (ownerId, page, by) => listBatches(reads.for({ owner: by }), ownerId, page),
    async cancel(id, message, by) {
      await writes.for({ owner: by, job: id })(
        "select count(*) from jobcast.cancel_batch($1, $2, $3)",
        [id, message ?? null, SOURCE],
      );
      // The counts follow when that statement commits.
      return get(id, by);
    },
  };
}

async function createBatch(query: Query, batch: NewBatch): Promise<Batch> {
  const rows = await query<BatchRow>(
    `select ${WHOLE_BATCH} from jobcast.create_batch($1, $2, $3::jsonb -> 'jobs', $4, $5, $6) b`,
    [
      batch.ownerId,
      batch.title ?? null,
      batch.body,
      batch.once?.key ?? null,
      batch.once?.hash ?? null,
      SOURCE,
    ],
  );
  return toBatch(theOne(rows));
}

/** Those that the batch was made with: what was added to it later was created later. */
async function readFirstJobs(query: Query, batchId: string, count: number): Promise<JobText[]> {
  const rows = await query<JobRow>(
    `select ${jobColumns(count > 100 ? BULK_BYTES : LISTED_BYTES)}
     from jobcast.jobs j ${PRESENT_CHANGE}
     where j.batch_id = $1
     order by j.created_at, j.id
     limit $2`,
    [batchId, count],
  );
  return rows.map(toJobText);
}

async function readBatch(query: Query, id: string): Promise<Batch | undefined> {
  const [row] = await query<BatchRow>(
    `select ${WHOLE_BATCH} from jobcast.batches b where b.id = $1`,
    [id],
  );
  return row && toBatch(row);
}

async function listBatches(
  query: Query,
  ownerId: string | undefined,
  { limit, after }: BatchPage,
): Promise<BatchListing> {
  // One more than the page, to know whether there is a next one.
  const rows = await query<BatchRow>(
    `select ${batchColumns()}
     from jobcast.batches b
     where ($1::text is null or b.owner_id = $1)
       and ($2::timestamptz is null or (b.created_at, b.id) < ($2, $3::uuid))
     order by b.created_at desc, b.id desc
     limit ${limit + 1}`,
    [ownerId ?? null, after?.createdAt ?? null, after?.id ?? null],
  );
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return {
    batches: shown.map(toBatch),
    next: last && { createdAt: last.created_at, id: last.id },
  };
}
