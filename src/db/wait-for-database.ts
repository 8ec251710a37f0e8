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

/**
 * It is not there yet, or not ready: no answer, starting up, shutting down, full. 08P01 is what
 * PgBouncer says of everything, a server that it does not reach among them.
 */
const AWAY = /^(E[A-Z]+|57P0[1-3]|53300|08P01)$/;

/** How the driver says that something let us in, and nobody was behind it. */
const SILENT = /^(timeout expired|Query read timeout|Connection terminated)/;

/**
 * Waits until each database answers, or says why not: a start that comes before its database, as in
 * a compose file, need not fail. What it cannot reach in time the start will report.
 */
export async function waitForDatabase(
  urls: readonly string[],
  { seconds, signal, log }: WaitOptions,
): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  for (const connectionString of new Set(urls)) {
    let isTold = false;
    while (performance.now() < end) {
      const trouble = await whyAway(connectionString, signal);
      signal.throwIfAborted();
      if (trouble === undefined) break;
      if (!isTold) log.warn({ trouble, seconds }, "waiting for the database");
      isTold = true;
      await delay(PAUSE_MS, undefined, { signal });
    }
  }
}

/** Undefined also when it is there and refuses us: waiting would not help. */
async function whyAway(connectionString: string, signal: AbortSignal): Promise<string | undefined> {
  const name = "jobcast start";
  const client = new DatabaseClient({ connectionString, name, work: "service", signal });
  try {
    await client.connect();
    await client.prepare(); // a pooler may let us in without a server
    return undefined;
  } catch (error) {
    const trouble = troubleOf(error);
    const isSilent = error instanceof Error && SILENT.test(error.message);
    return isSilent || AWAY.test(trouble) ? trouble : undefined;
  } finally {
    client.destroy();
  }
}
