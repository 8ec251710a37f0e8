import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from "../../src/embedded/embedded-postgres.ts";
import { testConnection } from "../support/connection.ts";
import type { Sql } from "./watch.ts";

const quiet = { info: () => undefined, warn: () => undefined };

/** A PostgreSQL of the test's own, which may be stopped, killed and started again. */
export type EmbeddedDatabase = Sql & {
  readonly url: string;
  /** The same for the superuser. */
  readonly adminUrl: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Ends it as a crash does: what was not flushed is lost. */
  crash(): Promise<void>;
  remove(): Promise<void>;
};

export async function createEmbeddedDatabase(
  settings: Record<string, string> = {},
): Promise<EmbeddedDatabase> {
  const dataDir = await mkdtemp(join(tmpdir(), "jobcast-feed-"));
  let postgres: EmbeddedPostgres;
  const start = async () => {
    postgres = await startEmbeddedPostgres({
      dataDir,
      log: quiet,
      settings: { fsync: "off", ...settings },
    });
  };
  await start();

  return {
    get url() {
      return postgres.url;
    },
    get adminUrl() {
      return postgres.superuserUrl;
    },
    /** A connection for each statement, because the server comes and goes. */
    async query<Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []) {
      const client = new pg.Client(testConnection(postgres.superuserUrl));
      await client.connect();
      try {
        return (await client.query<Row>(sql, params)).rows;
      } finally {
        await client.end();
      }
    },
    start,
    stop: () => postgres.stop(),
    async crash() {
      const pidFile = await readFile(join(dataDir, "postgres", "postmaster.pid"), "utf8");
      process.kill(Number.parseInt(pidFile, 10), "SIGQUIT"); // "immediate shutdown": no checkpoint
      await postgres.stop();
    },
    async remove() {
      await postgres.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
