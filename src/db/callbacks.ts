import { sql } from "kysely";
import type { CallbackPatch, CallbackReason, CallbackResult } from "../protocol/callback.ts";
import { isFinal, type Status } from "../protocol/status.ts";
import type { Database } from "./database.ts";

export type Delivery = {
  readonly jobId: string;
  readonly patch: CallbackPatch;
  /** The attempt that it is about. Undefined: whichever is running. */
  readonly attempt: number | undefined;
  /** The provider's own number for it, the same when it is delivered again. */
  readonly webhookId: string | undefined;
};

export type CallbackStore = {
  /** In one transaction; undefined when there is no such job. */
  apply(delivery: Delivery): Promise<CallbackResult | undefined>;
};

type Outcome = { applied: boolean; problem: string | null; status: Status; version: number };

const NO_SUCH_JOB = "JC002";

/** What external providers write, through the same rules as every other writer. */
export function createCallbackStore(db: Database): CallbackStore {
  return {
    async apply({ jobId, patch, attempt, webhookId }) {
      const { rows } = await sql<Outcome>`
        select c.applied, c.problem, (c.job).status, (c.job).version
        from jobcast.apply_callback(
          ${jobId}, ${JSON.stringify(patch)}, ${attempt ?? null}, ${webhookId ?? null}
        ) c`.execute(db);
      const [outcome] = rows;
      if (!outcome) throw new TypeError("a function that returns an outcome returned none");
      if (outcome.problem === NO_SUCH_JOB) return undefined;
      const { applied, status, version } = outcome;
      return { jobId, status, version, applied, ...(!applied && { reason: reasonOf(outcome) }) };
    },
  };
}

function reasonOf({ problem, status }: Outcome): CallbackReason {
  switch (problem) {
    case null:
      return "unchanged";
    case "duplicate":
      return "duplicate";
    case "JC001":
      return isFinal(status) ? "job_ended" : "overtaken";
    case "JC003":
      return "other_attempt";
    default:
      throw new TypeError(`a callback was refused by ${problem}`);
  }
}
