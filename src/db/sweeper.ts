import { setTimeout as delay } from "node:timers/promises";
import type { Lane } from "./lane.ts";
import { theOne } from "./query.ts";

/** How late an overdue job is ended, at most, when all is well. */
const SWEEP_MS = 1_000;

/** Jobs of one statement: a short transaction, also after a long outage. */
const MOST = 1_000;

export type Sweeper = { start(): void; stop(): Promise<void> };

/**
 * Ends overdue jobs as `timeout`. Any number of processes may sweep: each skips the rows that
 * another one has locked.
 */
export function createSweeper(
  lane: Lane,
  log: { warn(details: object, message: string): void },
): Sweeper {
  const stopping = new AbortController();
  const query = lane.for({});
  let running: Promise<void> | undefined;

  async function sweep(): Promise<void> {
    for (let ended = MOST; ended === MOST && !stopping.signal.aborted; ) {
      const rows = await query<{ ended: number }>(
        "select count(*) as ended from jobcast.expire_jobs($1)",
        [MOST],
      );
      ended = theOne(rows).ended;
    }
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
