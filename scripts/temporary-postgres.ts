/**
 * Runs something against an empty PostgreSQL that leaves nothing behind.
 *
 * Usage: await withTemporaryPostgres(async (url) => { ... })
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../src/embedded/embedded-postgres.ts";

/** What is lost in a crash of this database would be thrown away a moment later anyhow. */
const SETTINGS = { fsync: "off", full_page_writes: "off", synchronous_commit: "off" };
const quiet = { info: () => undefined, warn: (_: object, text: string) => console.error(text) };

/**
 * Starts the embedded PostgreSQL in a temporary folder, passes its URL, and stops and removes it
 * however `use` ends. Ctrl-C and SIGTERM clean up too: a PostgreSQL survives the script otherwise.
 */
export async function withTemporaryPostgres<T>(use: (url: string) => Promise<T>): Promise<T> {
  let interrupt = (_signal: string): void => undefined;
  const interrupted = new Promise<never>((_, reject) => {
    interrupt = (signal) => reject(new Error(`stopped by ${signal}`));
  });
  interrupted.catch(() => undefined); // it may come while PostgreSQL starts and nobody races yet
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const dataDir = await mkdtemp(join(tmpdir(), "jobcast-postgres-"));
  try {
    const postgres = await startEmbeddedPostgres({ dataDir, log: quiet, settings: SETTINGS });
    try {
      return await Promise.race([interrupted, use(postgres.url)]);
    } finally {
      await postgres.stop();
    }
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    await rm(dataDir, { recursive: true, force: true });
  }
}
