import { join } from "node:path";
import pg from "pg";

export const SERVICE_DATABASE = "jobcast";

/** Connects, which proves that the server answers to our password, and makes our database. */
export async function ensureDatabase(url: string, dataDir: string): Promise<void> {
  const maintenance = new URL(url);
  maintenance.pathname = "/postgres";
  const client = new pg.Client({
    connectionString: maintenance.href,
    connectionTimeoutMillis: 5_000,
    query_timeout: 30_000,
  });
  // What it reports after a failure that `connect` or `query` has thrown already.
  client.on("error", () => undefined);
  try {
    await client.connect();
    const found = await client.query("select from pg_database where datname = $1", [
      SERVICE_DATABASE,
    ]);
    if (found.rowCount === 0) await client.query(`create database ${SERVICE_DATABASE}`);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `The PostgreSQL in ${dataDir} started and cannot be used: ${why}. If its password was ` +
        `changed, delete ${join(dataDir, "postgres-password")} to have a new one set.`,
      { cause },
    );
  } finally {
    await client.end();
  }
}
