import type { CallbackReason, CallbackResult } from "../protocol/callback.ts";
import { isFinal, type Status } from "../protocol/status.ts";
import { createOwnerReader } from "./job-owners.ts";
import type { Lanes } from "./lanes.ts";
import { theOne } from "./query.ts";

export type Delivery = {
  readonly jobId: string;
  /** The body as it came, or as it can be kept: a JSON object as text. */
  readonly body: string;
  /** What it says of the job, but for the result: a JSON object as text. */
  readonly patch: string;
  /** Where in the body the result is. Undefined: it has none. */
  readonly resultPath: readonly string[] | undefined;
  readonly attempt: number;
  /** The provider's own number for it, the same when it is delivered again. */
  readonly webhookId: string | undefined;
  /** Names the secret that it was signed with; undefined where a token was enough. */
  readonly signer: string | undefined;
};

export type CallbackStore = {
  /** In one transaction; undefined when there is no such job. */
  apply(delivery: Delivery): Promise<CallbackResult | undefined>;
};

type Outcome = { applied: boolean; problem: string | null; status: Status; version: number };

const NO_SUCH_JOB = "JC002";

/**
 * What external providers write, through the same rules as every other writer, and in the turns of
 * him whose job it is: what he has locked keeps nobody else's deliveries waiting.
 */
export function createCallbackStore({
  reads,
  writes,
}: Pick<Lanes, "reads" | "writes">): CallbackStore {
  const findOwners = createOwnerReader(reads);
  return {
    async apply({ jobId, body, patch, resultPath, attempt, webhookId, signer }) {
      const owner = (await findOwners([jobId], `callbacks of ${jobId}`)).get(jobId);
      if (owner === undefined) return undefined;
      const outcome = theOne(
        await writes.for({ owner, job: jobId })<Outcome>(
          `select c.applied, c.problem, (c.job).status, (c.job).version
           from jobcast.apply_callback(
             $1,
             $2::jsonb || case when $4::text[] is null then '{}'
               else jsonb_build_object('result', $3::jsonb #> $4::text[]) end,
             $5, $6, $7
           ) c`,
          [jobId, patch, body, resultPath ?? null, attempt, webhookId ?? null, signer ?? null],
        ),
      );
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
