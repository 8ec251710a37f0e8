import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { watchBackend } from "./backend-watch.ts";
import { DatabaseClient } from "./client.ts";
import type { Query } from "./query.ts";
import { findStranger } from "./schema-owner.ts";

/** The shipped migrations: `sql/` beside `src/` in the repository and beside `dist/` in the package. */
const MIGRATIONS = new URL("../../sql/", import.meta.url);

export type Migration = { readonly id: number; readonly name: string; readonly sql: string };

export type MigrateOptions = {
  /** Of the role that owns the schema, or may create it. */
  readonly connectionString: string;
  /** Default: those that are shipped. */
  readonly migrations?: readonly Migration[];
  /** Gives up at once, whatever the database is doing. */
  readonly signal?: AbortSignal;
  /** How long others may be in the way. Default: a minute. */
  readonly waitMs?: number;
  readonly log?: { warn(details: object, message: string): void };
};

/** How long an attempt waits for a lock: whoever comes after it waits behind it for as long. */
const LOCK_MS = 2_000;
const PAUSE_MS = 1_000;
const WAIT_MS = 60_000;

/** Why the database cannot be migrated, in a sentence for whoever starts the service. */
class MigrationError extends Error {
  override readonly name: string = "MigrationError";
}

/** The database was migrated by a newer jobcast than this one. */
export class DatabaseAheadError extends MigrationError {
  override readonly name = "DatabaseAheadError";

  constructor(ahead: number, known: number) {
    super(
      `The database is at migration ${ahead}, this jobcast knows ${known}: run a jobcast at least as new as the one that migrated it.`,
    );
  }
}

/** Somebody else has what the migration needs. */
class InTheWayError extends MigrationError {
  readonly holders: string;

  constructor(holders: string, options: ErrorOptions) {
    super(
      `The database cannot be migrated, because others have its tables locked: ${holders}.`,
      options,
    );
    this.holders = holders;
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
 * All pending migrations are one transaction under a lock of the table that lists them: of many
 * processes that start at once one migrates and the others find it done, a failure leaves nothing
 * half made, and it works through a transaction pooler too. An advisory lock would be anybody's to
 * take; this one is the owner's.
 *
 * @throws {MigrationError}
 */
export async function migrate(options: MigrateOptions): Promise<string[]> {
  const migrations = options.migrations ?? (await loadMigrations());
  const { signal, waitMs = WAIT_MS, log } = options;
  const end = performance.now() + waitMs;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await attempt(options, migrations);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof InTheWayError) || performance.now() > end) throw explain(error);
      log?.warn(
        { holders: error.holders },
        "somebody is in the way of the migration; trying again",
      );
    }
    await delay(PAUSE_MS * (0.5 + Math.random()), undefined, signal && { signal });
  }
}

async function attempt(
  { connectionString, signal }: MigrateOptions,
  migrations: readonly Migration[],
): Promise<string[]> {
  const name = "jobcast migration";
  const client = new DatabaseClient({ connectionString, name, work: "migration", signal });
  try {
    await client.connect();
    await client.prepare();
    // The lock is for who has something to do: a start that finds all done waits for nobody.
    const query: Query = (text, values) => client.run(text, values);
    await refuseStrangers(query);
    if ((await pendingOf(query, migrations)).length === 0) return [];
    return await migrateLocked(client, migrations, connectionString);
  } finally {
    client.destroy();
  }
}

async function migrateLocked(
  client: DatabaseClient,
  migrations: readonly Migration[],
  connectionString: string,
): Promise<string[]> {
  await client.begin();
  const watch = await watchBackend(client, connectionString);
  let inTheWay = RACES;
  try {
    await client.send(`set local lock_timeout = ${LOCK_MS}`);
    await client.send("create schema if not exists jobcast");
    await client.send(
      `create table if not exists jobcast.migrations (
         id integer primary key,
         name text not null,
         applied_at timestamptz not null default clock_timestamp()
       )`,
    );
    await client.send("lock table jobcast.migrations in exclusive mode");
    inTheWay = LOCKS;
    const query: Query = (text, values) => client.send(text, values);
    await refuseStrangers(query); // who may have come before the lock
    const pending = await pendingOf(query, migrations);
    for (const { id, name, sql } of pending) {
      await client.send("insert into jobcast.migrations (id, name) values ($1, $2)", [id, name]);
      await client.send(sql);
    }
    await client.send("commit");
    return pending.map(({ name }) => name);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || !inTheWay.has(error.code ?? "")) throw error;
    throw new InTheWayError(await watch.holders(), { cause: error });
  } finally {
    watch.stop();
  }
}

/** A lock that did not come in time. */
const LOCKS: ReadonlySet<string> = new Set(["55P03", "40P01"]);

/** "if not exists" does not keep two who find nothing from making the same thing. */
const RACES: ReadonlySet<string> = new Set([...LOCKS, "23505", "42P06", "42P07"]);

/** @throws {MigrationError} */
async function refuseStrangers(query: Query): Promise<void> {
  const stranger = await findStranger(query);
  if (!stranger) return;
  const { thing, owner } = stranger;
  throw new MigrationError(
    `${thing} belongs to the role ${owner}, who could run code of his as the role of DATABASE_URL. That one ` +
      "must own the schema jobcast and all that is in it, or be a member of the role that does.",
  );
}

/** @throws {DatabaseAheadError} */
async function pendingOf(
  query: Query,
  migrations: readonly Migration[],
): Promise<readonly Migration[]> {
  const [found] = await query<{ exists: boolean }>(
    "select to_regclass('jobcast.migrations') is not null as exists",
  );
  const applied = found?.exists
    ? await query<{ id: number }>("select id from jobcast.migrations")
    : [];
  const ids = new Set(applied.map(({ id }) => id));
  const [newest, ahead] = [migrations.map(({ id }) => id), [...ids]].map((all) =>
    Math.max(-1, ...all),
  ) as [number, number];
  if (ahead > newest) throw new DatabaseAheadError(ahead, newest);
  return migrations.filter(({ id }) => !ids.has(id));
}

function explain(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError) || error.code !== "42501") return error;
  return new MigrationError(
    `The role of DATABASE_URL may not migrate the database (${error.message}): it must own the schema ` +
      'jobcast, or be allowed to create it ("grant create on database ... to ..."). It need not be a superuser.',
    { cause: error },
  );
}
