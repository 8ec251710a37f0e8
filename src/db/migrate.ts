import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { watchBackend } from "./backend-watch.ts";
import { DatabaseClient } from "./client.ts";
import { locksOf, sendVacuumAway, takeLocks } from "./migration-locks.ts";
import {
  compare,
  isAdditive,
  loadMigrations,
  type Migration,
  MigrationError,
} from "./migrations.ts";
import { type Query, theOne } from "./query.ts";
import { findStranger } from "./schema-owner.ts";

export { DatabaseAheadError, MigrationError } from "./migrations.ts";

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

/**
 * How long a try waits for the lock of a table: whoever comes after it, be it to read, waits behind
 * it for as long. Each waits longer than the one before, and none until PostgreSQL looks for a
 * deadlock (deadlock_timeout, a second by default), of which a writer might be the victim. Unit: milliseconds.
 */
const FIRST_LOCK_MS = 250;
const LONGEST_LOCK_MS = 900;

/** The same for the list of migrations, behind which nobody waits but who would migrate too. */
const LIST_LOCK_MS = 5_000;

const PAUSE_MS = 1_000;
const WAIT_MS = 60_000;

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

/**
 * Brings the database to the newest schema and gives back the names of what it ran.
 *
 * Each migration is a transaction under a lock of the table that lists them: of many processes that
 * start at once one migrates and the others find it done, a failure leaves nothing half made, no
 * table is locked for longer than its own migration takes, and it works through a transaction pooler
 * too. An advisory lock would be anybody's to take; this one is the owner's.
 *
 * @throws {MigrationError} DatabaseAheadError, for example
 */
export async function migrate(options: MigrateOptions): Promise<string[]> {
  const { signal, waitMs = WAIT_MS, log } = options;
  const migrations = options.migrations ?? (await loadMigrations());
  const done: string[] = [];
  let end = performance.now() + waitMs;
  let lockMs = FIRST_LOCK_MS;
  const onDone = (name: string) => {
    done.push(name);
    end = performance.now() + waitMs;
    lockMs = FIRST_LOCK_MS;
  };
  for (;;) {
    signal?.throwIfAborted();
    try {
      await migrateAll({ ...options, lockMs }, migrations, onDone);
      return done;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof InTheWayError) || performance.now() > end) throw explain(error);
      log?.warn(
        { holders: error.holders },
        "somebody is in the way of the migration; trying again",
      );
    }
    lockMs = Math.min(LONGEST_LOCK_MS, lockMs * 1.5);
    await delay(PAUSE_MS * (0.5 + Math.random()), undefined, signal && { signal });
  }
}

/**
 * For who migrates elsewhere: finds that nothing is left to do.
 * @throws {MigrationError} naming what the database lacks
 */
export async function assertMigrated(options: MigrateOptions): Promise<void> {
  const migrations = options.migrations ?? (await loadMigrations());
  const [first] = await connected(options, (query) => pendingOf(query, migrations, options)).catch(
    (error: unknown) => {
      throw explain(error);
    },
  );
  if (!first) return;
  throw new MigrationError(
    `The database has not had migration ${first.name}, and MIGRATE is off: run "jobcast migrate" first.`,
  );
}

type Try = MigrateOptions & { readonly lockMs: number };

async function migrateAll(
  options: Try,
  migrations: readonly Migration[],
  onDone: (name: string) => void,
): Promise<void> {
  await connected(options, async (query, client) => {
    // The lock is for who has something to do: a start that finds all done waits for nobody.
    for (;;) {
      const [first] = await pendingOf(query, migrations, options);
      if (!first) return;
      if (options.lockMs > FIRST_LOCK_MS) await sendVacuumAway(locksOf(first.sql), client);
      const name = await migrateNext(client, migrations, options);
      if (name !== undefined) onDone(name);
    }
  });
}

/** The first that is pending; undefined when another process has done the last meanwhile. */
async function migrateNext(
  client: DatabaseClient,
  migrations: readonly Migration[],
  options: Try,
): Promise<string | undefined> {
  const query: Query = (text, values) => client.send(text, values);
  let inTheWay = RACES;
  await client.begin();
  const watch = await watchBackend(client, options.connectionString);
  try {
    await lockList(query);
    inTheWay = LOCKS;
    const [next] = await pendingOf(query, migrations, options); // others may have come before the lock
    if (next) await run(next, query, options.lockMs);
    await client.send("commit");
    return next?.name;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || !inTheWay.has(error.code ?? "")) throw error;
    throw new InTheWayError(await watch.holders(), { cause: error });
  } finally {
    watch.stop();
  }
}

/** Makes it, too: a role that owns the schema need not be one that may create schemas. */
async function lockList(query: Query): Promise<void> {
  await query(`set local lock_timeout = ${LIST_LOCK_MS}`);
  const { exists } = theOne(
    await query<{ exists: boolean }>("select to_regnamespace('jobcast') is not null as exists"),
  );
  if (!exists) await query("create schema jobcast");
  await query(
    `create table if not exists jobcast.migrations (
       id integer primary key,
       name text not null,
       applied_at timestamptz not null default clock_timestamp()
     )`,
  );
  await query("lock table jobcast.migrations in exclusive mode");
}

async function run(migration: Migration, query: Query, lockMs: number): Promise<void> {
  const { id, name, sql } = migration;
  await query(
    `select set_config('lock_timeout', least($1::integer, setting::integer * 9 / 10)::text, true)
     from pg_settings where name = 'deadlock_timeout'`,
    [Math.round(lockMs)],
  );
  await takeLocks(locksOf(sql), query);
  await query("insert into jobcast.migrations (id, name) values ($1, $2)", [id, name]);
  await query(sql);
  if (isAdditive(migration)) {
    await query("update jobcast.migrations set is_additive = true where id = $1", [id]);
  }
}

/** What there is to do, where somebody may. */
async function pendingOf(
  query: Query,
  migrations: readonly Migration[],
  { log }: MigrateOptions,
): Promise<readonly Migration[]> {
  await refuseStrangers(query);
  const { pending, ahead } = await compare(query, migrations);
  if (ahead !== undefined) {
    log?.warn({ ahead }, "a newer jobcast has migrated the database; all that it did is additive");
  }
  return pending;
}

async function connected<T>(
  { connectionString, signal }: MigrateOptions,
  work: (query: Query, client: DatabaseClient) => Promise<T>,
): Promise<T> {
  const name = "jobcast migration";
  const client = new DatabaseClient({ connectionString, name, work: "migration", signal });
  try {
    await client.connect();
    await client.prepare();
    return await work((text, values) => client.run(text, values), client);
  } finally {
    client.destroy();
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

function explain(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  if (error.code === "25006" || /during recovery$/.test(error.message)) {
    return new MigrationError(
      "The database is a standby, which takes no writes: the URL must lead to the primary, also after a failover.",
      { cause: error },
    );
  }
  if (error.code !== "42501") return error;
  return new MigrationError(
    `The role of DATABASE_URL may not migrate the database (${error.message}): it must own the schema ` +
      'jobcast, or be allowed to create it ("grant create on database ... to ..."). It need not be a superuser.',
    { cause: error },
  );
}
