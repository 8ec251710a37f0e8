import { readdir, readFile } from "node:fs/promises";
import type { Pool } from "pg";
import { untimed } from "./pool.ts";

/** The shipped migrations: `sql/` beside `src/` in the repository and beside `dist/` in the package. */
const MIGRATIONS = new URL("../../sql/", import.meta.url);

/** "jobcast" shifted by one, so that it can never be the listener's lock. */
const MIGRATION_LOCK = "7668165202943145";

export type Migration = { readonly id: number; readonly name: string; readonly sql: string };

/** The database was migrated by a newer jobcast than this one. */
export class DatabaseAheadError extends Error {
  constructor(ahead: number, known: number) {
    super(
      `The database is at migration ${ahead}, this jobcast knows ${known}: run a jobcast at least as new as the one that migrated it.`,
    );
    this.name = "DatabaseAheadError";
  }
}

/** Reads the numbered files of `sql/` in their order; `schema.sql`, the generated picture, is not one. */
export async function loadMigrations(directory: URL = MIGRATIONS): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{6}_.*\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name) => ({
      id: Number.parseInt(name, 10),
      name,
      sql: await readFile(new URL(name, directory), "utf8"),
    })),
  );
}

/**
 * Brings the database to the newest schema and gives back the names of what it ran.
 *
 * All pending migrations are one transaction under a transaction-level advisory lock: of many
 * processes that start at once one migrates and the others find it done, a failure leaves
 * nothing half made, and it works through a transaction pooler too.
 */
export async function migrate(pool: Pool, migrations?: readonly Migration[]): Promise<string[]> {
  const known = migrations ?? (await loadMigrations());
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query("begin");
    await client.query("set local statement_timeout = 0; set local lock_timeout = 0");
    await client.query(untimed(`select pg_advisory_xact_lock(${MIGRATION_LOCK})`));
    await client.query("create schema if not exists jobcast");
    await client.query(
      `create table if not exists jobcast.migrations (
         id integer primary key,
         name text not null,
         applied_at timestamptz not null default clock_timestamp()
       )`,
    );
    const { rows } = await client.query<{ id: number }>("select id from jobcast.migrations");
    const applied = new Set(rows.map((row) => row.id));
    const newest = Math.max(-1, ...known.map(({ id }) => id));
    const ahead = Math.max(-1, ...applied);
    if (ahead > newest) throw new DatabaseAheadError(ahead, newest);

    const pending = known.filter(({ id }) => !applied.has(id));
    for (const { id, name, sql } of pending) {
      await client.query("insert into jobcast.migrations (id, name) values ($1, $2)", [id, name]);
      await client.query(untimed(sql));
    }
    await client.query("commit");
    return pending.map(({ name }) => name);
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    client.release(failure); // closes a connection that failed, which rolls back what it did
  }
}
