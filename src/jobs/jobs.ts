import { createJobStore, type NewJob } from "../db/jobs.ts";
import type { StatusEvent } from "../protocol/event.ts";
import type { StoredJob, UpdateJob } from "../protocol/job.ts";
import type { Json } from "../protocol/json.ts";
import { type Transaction, toDatabase } from "./transaction.ts";

/** What the history says of changes that are made here. */
const SOURCE = "app";

/** `attempt` makes the report count only while that attempt runs. */
type Report = {
  readonly stage?: string;
  readonly message?: string;
  readonly attempt?: number;
};

const storeOn = (transaction: Transaction) => createJobStore(toDatabase(transaction), SOURCE);

/**
 * Changes jobs inside a transaction of the application's own, Kysely's or node-postgres':
 * streams show it when, and only if, that transaction commits.
 *
 * A broken rule rejects with the database's error, whose `code` is stable (JC001 conflict of
 * states, JC002 no such job, JC003 another attempt, JC004 too few credits, JC006 idempotency key
 * reused) and aborts the transaction, as any error of a statement does.
 *
 * @example
 * await db.transaction().execute(async (trx) => {
 *   const job = await jobs.create(trx, { ownerId: "alice", type: "image", credits: 10 });
 *   await trx.insertInto("prompts").values({ job_id: job.id, text }).execute();
 * });
 */
export const jobs = {
  /** Creates a job and charges its credits. */
  create(transaction: Transaction, job: NewJob): Promise<StoredJob> {
    return storeOn(transaction).create(job);
  },

  /** The job as this transaction sees it; undefined when there is none. */
  get(transaction: Transaction, id: string): Promise<StoredJob | undefined> {
    return storeOn(transaction).get(id);
  },

  /** Any change that the rules allow; what is not named stays. */
  update(transaction: Transaction, id: string, update: UpdateJob): Promise<StoredJob> {
    return storeOn(transaction).update(id, update);
  },

  /** The work has begun. */
  start(transaction: Transaction, id: string, report: Report = {}): Promise<StoredJob> {
    return storeOn(transaction).update(id, { ...report, status: "processing" });
  },

  /** Percent done, 0-100; a number below the one that is known changes nothing. */
  progress(
    transaction: Transaction,
    id: string,
    progress: number,
    report: Report & { readonly counts?: NonNullable<StatusEvent["counts"]> } = {},
  ): Promise<StoredJob> {
    return storeOn(transaction).update(id, { ...report, progress });
  },

  complete(
    transaction: Transaction,
    id: string,
    result?: Json,
    report: Report = {},
  ): Promise<StoredJob> {
    return storeOn(transaction).update(id, {
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
    return storeOn(transaction).update(id, { ...report, status: "failed", error });
  },

  /** Ends the job as cancelled and refunds its credits. */
  cancel(transaction: Transaction, id: string, message?: string): Promise<StoredJob> {
    return storeOn(transaction).cancel(id, message);
  },

  /** A failed, cancelled or timed out job becomes pending again, and is charged again. */
  retry(transaction: Transaction, id: string, message?: string): Promise<StoredJob> {
    return storeOn(transaction).retry(id, message);
  },
};
