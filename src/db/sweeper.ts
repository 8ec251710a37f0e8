import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { Lane } from "./lane.ts";

/** How late an overdue job is ended, at most, when all is well. */
const SWEEP_MS = 1_000;

/** Jobs of one statement: a short transaction, also after a long outage. */
const MOST = 1_000;

/** How long a job is left alone that could not be ended, and how many of them are remembered. */
const SPARED_MS = 60_000;
const MAX_SPARED = 10_000;

export type Sweeper = { start(): void; stop(): Promise<void> };

type SweeperLog = { warn(details: object, message: string): void };

/** An overdue job that was ended, or, with a problem, could not be. */
type Swept = { readonly job_id: string; readonly problem: string | null };

/**
 * Ends overdue jobs as `timeout`. Any number of processes may sweep: each skips the rows that
 * another one has locked. What cannot be ended keeps nothing else from its end.
 */
export function createSweeper(lane: Lane, log: SweeperLog): Sweeper {
  const stopping = new AbortController();
  const query = lane.for({});
  /** By job, when it may be tried again. */
  const spared = new Map<string, number>();
  let most = MOST;
  let running: Promise<void> | undefined;

  /** Leaves them alone for a while; how many that are. */
  function spare(failed: readonly Swept[]): number {
    const [first] = failed;
    if (!first) return 0;
    const details = { job: first.job_id, problem: first.problem, count: failed.length };
    log.warn(details, "overdue jobs cannot be ended; trying again in a minute");
    const some = failed.slice(0, MAX_SPARED - spared.size);
    for (const { job_id } of some) spared.set(job_id, performance.now() + SPARED_MS);
    return some.length;
  }

  async function sweep(): Promise<void> {
    for (const [id, until] of spared) if (until < performance.now()) spared.delete(id);
    for (let isMoving = true; isMoving && !stopping.signal.aborted; ) {
      const swept = await sweepOnce();
      const failed = swept.filter(({ problem }) => problem !== null);
      isMoving = spare(failed) > 0 || swept.length > failed.length;
    }
  }

  /** One that takes too long, or cannot be committed, undoes what was done with it. */
  async function sweepOnce(): Promise<readonly Swept[]> {
    const values = [most, [...spared.keys()]];
    try {
      const swept = await query<Swept>("select job_id, problem from jobcast.sweep($1, $2)", values);
      most = Math.min(MOST, most * 2);
      return swept;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      if (most === 1) return await nextOverdue(error);
      most = Math.ceil(most / 10);
      return sweepOnce();
    }
  }

  async function nextOverdue(error: pg.DatabaseError): Promise<readonly Swept[]> {
    return query<Swept>(
      `select j.id as job_id, $2 as problem from jobcast.jobs j
       where j.timeout_at <= statement_timestamp() and j.status in ('pending', 'queued', 'processing')
         and j.id <> all ($1)
       order by j.timeout_at limit 1
       for update skip locked`,
      [[...spared.keys()], error.message],
    );
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await sweep();
      } catch (err) {
        log.warn({ err }, "overdue jobs could not be ended; trying again");
      }
      // Jittered, so that many processes do not look at the same moment.
      const wait = SWEEP_MS * (0.75 + Math.random() / 2);
      await delay(wait, undefined, { signal: stopping.signal }).catch(() => undefined); // stopping
    }
  }

  return {
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
