import type { JobText } from "../change/job-text.ts";
import {
  cancelJob,
  createJob,
  deleteJob,
  emitEvent,
  readJob,
  retryJob,
  updateJob,
} from "../db/jobs.ts";
import { once } from "../once.ts";
import type { StatusEvent } from "../protocol/event.ts";
import type { CreateJob, StoredJob, UpdateJob } from "../protocol/job.ts";
import type { Json } from "../protocol/json.ts";
import { isFinal } from "../protocol/status.ts";
import { toStorable } from "../protocol/storable.ts";
import { type Transaction, toQuery } from "./transaction.ts";

/** What the history says of changes that are made here. */
const SOURCE = "app";

/** `attempt` makes the report count only while that attempt runs. */
type Report = {
  readonly stage?: string;
  readonly message?: string;
  readonly attempt?: number;
};

/** A request for a job. `ownerId` is whose it is; the same idempotency key gives back the same job. */
export type NewJob = Omit<CreateJob, "streamToken"> & {
  readonly ownerId: string;
  readonly idempotencyKey?: string | undefined;
};

/** A job as the application sees it: what HTTP would tell, as JavaScript reads it. */
function toStoredJob({ json }: JobText): StoredJob {
  return JSON.parse(json);
}

async function change(
  transaction: Transaction,
  id: string,
  { attempt, ...patch }: UpdateJob,
): Promise<StoredJob> {
  const text = toJson(patch);
  // The end of a job must not be lost for a character that cannot be kept.
  const isEnd = patch.status !== undefined && isFinal(patch.status);
  const update = { patch: isEnd ? toStorable(text) : text, attempt };
  return toStoredJob(await updateJob(toQuery(transaction), id, update, SOURCE));
}

/** @throws {TypeError} for numbers that JSON would quietly turn into null */
function toJson(value: object): string {
  return JSON.stringify(value, (key, member: unknown) => {
    if (typeof member !== "number" || Number.isFinite(member)) return member;
    throw new TypeError(`"${key}" is ${member}, which is no JSON`);
  });
}

/**
 * Changes jobs inside a transaction of the application's own, Kysely's or node-postgres':
 * streams show it when, and only if, that transaction commits.
 *
 * A broken rule rejects with a JobcastError and its code (`job_conflict`, `not_found`,
 * `attempt_mismatch`, `insufficient_credits`, `idempotency_key_reused` ...; docs/errors.md), whose
 * `cause` is the database's error. The transaction is then aborted, as after any error in it.
 *
 * @example
 * await db.transaction().execute(async (trx) => {
 *   const job = await jobs.create(trx, { ownerId: "alice", type: "image", credits: 10 });
 *   await trx.insertInto("prompts").values({ job_id: job.id, text }).execute();
 * });
 */
export const jobs = {
  /** Creates a job and charges its credits. */
  async create(transaction: Transaction, job: NewJob): Promise<StoredJob> {
    const { idempotencyKey: key, params, metadata, ...request } = job;
    const created = await createJob(
      toQuery(transaction),
      {
        ...request,
        body: toJson({ params, metadata }),
        once: key === undefined ? undefined : once(key, { ...request, params, metadata }),
      },
      SOURCE,
    );
    return toStoredJob(created);
  },

  /** The job as this transaction sees it; undefined when there is none. */
  async get(transaction: Transaction, id: string): Promise<StoredJob | undefined> {
    const job = await readJob(toQuery(transaction), id);
    return job && toStoredJob(job);
  },

  /** Any change that the rules allow; what is not named stays. */
  update(transaction: Transaction, id: string, update: UpdateJob): Promise<StoredJob> {
    return change(transaction, id, update);
  },

  /** The work has begun. */
  start(transaction: Transaction, id: string, report: Report = {}): Promise<StoredJob> {
    return change(transaction, id, { ...report, status: "processing" });
  },

  /** Percent done, 0-100; a number below the one that is known changes nothing. */
  progress(
    transaction: Transaction,
    id: string,
    progress: number,
    report: Report & { readonly counts?: NonNullable<StatusEvent["counts"]> } = {},
  ): Promise<StoredJob> {
    return change(transaction, id, { ...report, progress });
  },

  complete(
    transaction: Transaction,
    id: string,
    result?: Json,
    report: Report = {},
  ): Promise<StoredJob> {
    return change(transaction, id, {
      ...report,
      status: "completed",
      ...(result !== undefined && { result }),
    });
  },

  /** Ends the job as failed and refunds its credits. */
  fail(
    transaction: Transaction,
    id: string,
    error: NonNullable<StatusEvent["error"]>,
    report: Report = {},
  ): Promise<StoredJob> {
    return change(transaction, id, { ...report, status: "failed", error });
  },

  /** Ends the job as cancelled and refunds its credits. */
  async cancel(transaction: Transaction, id: string, message?: string): Promise<StoredJob> {
    return toStoredJob(await cancelJob(toQuery(transaction), id, message, SOURCE));
  },

  /** A failed, cancelled or timed out job becomes pending again, and is charged again. */
  async retry(transaction: Transaction, id: string, message?: string): Promise<StoredJob> {
    return toStoredJob(await retryJob(toQuery(transaction), id, { message }, SOURCE));
  },

  /**
   * Tells an event of one's own, such as `log` or `preview`, in its place among the versions of the
   * job: at most 1,000 a job, of 64 KiB each.
   */
  async emit(
    transaction: Transaction,
    id: string,
    event: string,
    data: Json = null,
    { attempt }: Pick<Report, "attempt"> = {},
  ): Promise<StoredJob> {
    const emission = { event, body: toJson({ data }), attempt };
    return toStoredJob(await emitEvent(toQuery(transaction), id, emission, SOURCE));
  },

  /** Deletes a job that has ended. */
  delete(transaction: Transaction, id: string): Promise<void> {
    return deleteJob(toQuery(transaction), id);
  },
};
