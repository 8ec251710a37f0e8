import type { EventText } from "../change/change.ts";
import type { JobText } from "../change/job-text.ts";
import type { Once } from "../once.ts";
import type { CreateJob, RetryJob } from "../protocol/job.ts";
import { readFirstGroup, withCare } from "./change-values.ts";
import { type ChangeRow, changeColumns, toChange } from "./changes.ts";
import { type JobFilter, type JobListing, type JobPage, listJobs } from "./job-list.ts";
import { type JobRow, jobColumns, NEWEST_CHANGE, toJobText, WHOLE_BYTES } from "./job-row.ts";
import { type UpdateOutcome, updateJobs } from "./job-updates.ts";
import type { Lanes } from "./lanes.ts";
import { type Query, theOne } from "./query.ts";
import { storedBytes } from "./value-size.ts";

/*
 * Everything that writes calls the functions that producers call in SQL, so HTTP has no rules of
 * its own; what they refuse comes out as PostgreSQL's error with its SQLSTATE. JSON goes there as
 * the text that it came in, out of which PostgreSQL takes its parts: no number is read on the way.
 */

/** Written as the source of every version that the API makes. */
const SOURCE = "api";

/** A request for a job, of which `body` has params and metadata: a JSON object as text. */
export type NewJob = Omit<CreateJob, "params" | "metadata" | "ownerId" | "streamToken"> & {
  readonly ownerId: string;
  readonly body: string;
  readonly once?: Once | undefined;
};

/** `patch` is an update as a JSON object as text. It is refused unless that attempt runs. */
export type JobPatch = { readonly patch: string; readonly attempt?: number | undefined };

export type Unfinished = { readonly count: number; readonly bytes: number };

/** What may be large in a job. */
const STORED = ["title", "params", "metadata", "stage", "message", "result", "error"].map(
  (name) => `j.${name}`,
);

/** `body` has its data: a JSON object as text. Refused unless that attempt runs. */
export type Emission = {
  readonly event: string;
  readonly body: string;
  readonly attempt?: number | undefined;
};

/** Only of that attempt, and once with a key. */
export type Retry = RetryJob & { readonly once?: Once | undefined };

/** `by` is who asks: he shares the connections with others. */
export type JobStore = {
  create(job: NewJob, by: string): Promise<JobText>;
  get(id: string, by: string): Promise<JobText | undefined>;
  list(filter: JobFilter, page: JobPage, by: string): Promise<JobListing>;
  /** Versions above `after`, ascending: at most `limit`, or as many as weigh a megabyte. */
  history(id: string, after: number, limit: number, by: string): Promise<readonly EventText[]>;
  update(id: string, patch: JobPatch, by: string): Promise<JobText>;
  /**
   * The updates of the JSON array `updates` in the object `body` that are at these positions, from
   * 1 on, in one transaction unless some of them cannot be carried out; an outcome for each position.
   * What somebody holds for longer is refused.
   */
  updateMany(
    body: string,
    positions: readonly number[],
    by: string,
  ): Promise<ReadonlyMap<number, UpdateOutcome>>;
  cancel(id: string, message: string | undefined, by: string): Promise<JobText>;
  retry(id: string, retry: Retry, by: string): Promise<JobText>;
  /** An event of the producer's own; the job as it leaves it. */
  emit(id: string, event: Emission, by: string): Promise<JobText>;
  /** What of an owner has not ended, up to `most` jobs, and the bytes that they take where they are stored. */
  unfinishedOf(ownerId: string, most: number, by: string): Promise<Unfinished>;
  /** Whether a request with this key was carried out: another one makes nothing new. */
  wasMade(request: KeyedRequest, by: string): Promise<boolean>;
  /** What has ended; nothing happens where there is no such job. */
  delete(id: string, by: string): Promise<void>;
};

/** A request with an Idempotency-Key. */
export type KeyedRequest = {
  readonly makes: keyof typeof KEYED;
  /** Whose key it is: an owner's, or a batch's. */
  readonly subject: string;
  readonly key: string;
};

export function createJobStore({ reads, writes }: Pick<Lanes, "reads" | "writes">): JobStore {
  return {
    create(job, by) {
      // Equal requests at once wait for the first here, and not each with a connection of its own.
      const key = job.once && `${job.ownerId} ${job.once.key}`;
      return createJob(writes.for({ owner: by, job: key }), job, SOURCE);
    },
    get: (id, by) => readJob(reads.for({ owner: by }), id),
    list: (filter, page, by) => listJobs(reads.for({ owner: by }), filter, page),
    history: (id, after, limit, by) => readHistory(reads.for({ owner: by }), id, after, limit),
    update: (id, patch, by) => updateJob(writes.for({ owner: by, job: id }), id, patch, SOURCE),
    updateMany: (body, positions, by) =>
      updateJobs(writes.for({ owner: by }), body, positions, SOURCE),
    cancel: (id, message, by) => cancelJob(writes.for({ owner: by, job: id }), id, message, SOURCE),
    retry: (id, retry, by) => retryJob(writes.for({ owner: by, job: id }), id, retry, SOURCE),
    emit: (id, event, by) => emitEvent(writes.for({ owner: by, job: id }), id, event, SOURCE),
    async unfinishedOf(ownerId, most, by) {
      const rows = await reads.for({ owner: by })<Unfinished>(
        `select count(*), coalesce(sum(u.bytes), 0)::bigint as bytes from (
           select ${storedBytes(STORED)} as bytes from jobcast.jobs j
           where j.owner_id = $1 and j.status in ('pending', 'queued', 'processing') limit $2
         ) u`,
        [ownerId, most],
      );
      return theOne(rows);
    },
    async wasMade({ makes, subject, key }, by) {
      const rows = await reads.for({ owner: by })(
        `select from ${KEYED[makes]} = $1 and idempotency_key = $2`,
        [subject, key],
      );
      return rows.length > 0;
    },
    delete: (id, by) => deleteJob(writes.for({ owner: by, job: id }), id),
  };
}

const KEYED = {
  job: "jobcast.jobs where owner_id",
  batch: "jobcast.batches where owner_id",
  "jobs of a batch": "jobcast.requests where subject_id",
} as const;

const WHOLE_JOB = jobColumns(WHOLE_BYTES);

const CREATE = `
  select ${WHOLE_JOB}
  from jobcast.create_job(
    owner_id => $1, type => $2, title => $3,
    params => nullif($4::jsonb -> 'params', 'null'), metadata => nullif($4::jsonb -> 'metadata', 'null'),
    batch_id => $5, timeout_seconds => $6, timeout_extends => $7, credits => $8,
    idempotency_key => $9, request_hash => $10, source => $11, id => $12
  ) j ${NEWEST_CHANGE}`;

export async function createJob(query: Query, job: NewJob, source: string): Promise<JobText> {
  const rows = await query<JobRow>(CREATE, [
    job.ownerId,
    job.type,
    job.title ?? null,
    job.body,
    job.batchId ?? null,
    job.timeoutSeconds ?? null,
    job.timeoutExtends ?? false,
    job.credits ?? 0,
    job.once?.key ?? null,
    job.once?.hash ?? null,
    source,
    job.id ?? null,
  ]);
  return toJobText(theOne(rows));
}

export async function readJob(query: Query, id: string): Promise<JobText | undefined> {
  const [row] = await query<JobRow>(
    `select ${WHOLE_JOB} from jobcast.jobs j ${NEWEST_CHANGE} where j.id = $1`,
    [id],
  );
  return row && toJobText(row);
}

async function readHistory(
  query: Query,
  id: string,
  after: number,
  limit: number,
): Promise<readonly EventText[]> {
  const rows = await withCare((isCareful) =>
    query<ChangeRow>(
      `select ${changeColumns(isCareful)}
       from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
       where h.job_id = $1 and h.version > $2
       order by h.version
       limit $3`,
      [id, after, limit],
    ),
  );
  return (await readFirstGroup(rows, query)).whole.map(toChange);
}

export async function updateJob(
  query: Query,
  id: string,
  { patch, attempt }: JobPatch,
  source: string,
): Promise<JobText> {
  const rows = await query<JobRow>(
    `select ${WHOLE_JOB} from jobcast.update_job($1, $2, $3, $4) j ${NEWEST_CHANGE}`,
    [id, patch, attempt ?? null, source],
  );
  return toJobText(theOne(rows));
}

export async function cancelJob(
  query: Query,
  id: string,
  message: string | undefined,
  source: string,
): Promise<JobText> {
  const rows = await query<JobRow>(
    `select ${WHOLE_JOB} from jobcast.cancel_job($1, $2, $3) j ${NEWEST_CHANGE}`,
    [id, message ?? null, source],
  );
  return toJobText(theOne(rows));
}

export async function retryJob(
  query: Query,
  id: string,
  { message, attempt, once }: Retry,
  source: string,
): Promise<JobText> {
  const rows = await query<JobRow>(
    `select ${WHOLE_JOB} from jobcast.retry_job($1, $2, $3, $4, $5, $6) j ${NEWEST_CHANGE}`,
    [id, message ?? null, source, attempt ?? null, once?.key ?? null, once?.hash ?? null],
  );
  return toJobText(theOne(rows));
}

export async function emitEvent(
  query: Query,
  id: string,
  { event, body, attempt }: Emission,
  source: string,
): Promise<JobText> {
  const rows = await query<JobRow>(
    `select ${WHOLE_JOB}
     from jobcast.emit($1, $2, nullif($3::jsonb -> 'data', 'null'), $4, $5) j ${NEWEST_CHANGE}`,
    [id, event, body, attempt ?? null, source],
  );
  return toJobText(theOne(rows));
}

export async function deleteJob(query: Query, id: string): Promise<void> {
  await query("delete from jobcast.jobs where id = $1", [id]);
}
