import { setTimeout as delay } from "node:timers/promises";
import { DatabaseClient } from "./client.ts";
import { troubleOf } from "./trouble.ts";

export type WaitOptions = {
  /** How long at most, for all of them together; 0 for not at all. */
  readonly seconds: number;
  readonly signal: AbortSignal;
  readonly log: { warn(details: object, message: string): void };
};

const PAUSE_MS = 500;

/** It is not there yet, or not ready: no answer, starting up, shutting down, full. */
const AWAY = /^(E[A-Z]+|57P0[1-3]|53300)$/;

/**
 * Waits until each database lets us in, or says why not: a start that comes before its database, as
 * in a compose file, need not fail. What it cannot reach in time the start will report.
 */
export async function waitForDatabase(
  urls: readonly string[],
  { seconds, signal, log }: WaitOptions,
): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  for (const connectionString of new Set(urls)) {
    let isTold = false;
    while (performance.now() < end) {
      const trouble = await troubleWith(connectionString, signal);
      signal.throwIfAborted();
      if (trouble === undefined || !AWAY.test(trouble)) break;
      if (!isTold) log.warn({ trouble, seconds }, "waiting for the database");
      isTold = true;
      await delay(PAUSE_MS, undefined, { signal });
    }
  }
}

async function troubleWith(
  connectionString: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const name = "jobcast start";
  const client = new DatabaseClient({ connectionString, name, work: "service", signal });
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    return troubleOf(error);
  } finally {
    client.destroy();
  }
}
