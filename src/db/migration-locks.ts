import pg from "pg";
import type { DatabaseClient } from "./client.ts";
import type { Query } from "./query.ts";

/** Weaker ones first. https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES */
const MODES = ["share", "share row exclusive", "access exclusive"] as const;

type Mode = (typeof MODES)[number];

/** What takes which lock of a table that it names, at the beginning of a line. */
const STATEMENTS: readonly (readonly [RegExp, Mode])[] = [
  [/^create (?:unique )?index\b[^;]*?\bon jobcast\.(\w+)/gim, "share"],
  [/^create (?:constraint )?trigger\b[^;]*?\bon jobcast\.(\w+)/gim, "share row exclusive"],
  [/\breferences jobcast\.(\w+)/gi, "share row exclusive"],
  [/^drop trigger\b[^;]*?\bon jobcast\.(\w+)/gim, "access exclusive"],
  [/^(?:alter|drop) table (?:if exists )?(?:only )?jobcast\.(\w+)/gim, "access exclusive"],
];

/**
 * The order in which a writer comes to the tables: by way of triggers, from the job on. Whoever took
 * them in another one would wait for a writer who waits for him.
 */
const ORDER: readonly string[] = [
  "jobs",
  "status_history",
  "batches",
  "batch_changes",
  "credit_accounts",
  "credit_transactions",
];

/** An autovacuum makes way for who has waited for a second (deadlock_timeout). */
const VACUUM_MS = 3_000;

/** A lock of one of our tables, as strong as the strongest that its migration will need. */
export type TableLock = { readonly table: string; readonly mode: Mode };

/** What a migration will lock, in the order in which it should. */
export function locksOf(sql: string): readonly TableLock[] {
  const modes = new Map<string, Mode>();
  for (const [pattern, mode] of STATEMENTS) {
    for (const [, table = ""] of sql.matchAll(pattern)) {
      const known = modes.get(table);
      if (!known || MODES.indexOf(known) < MODES.indexOf(mode)) modes.set(table, mode);
    }
  }
  const place = (table: string) => (ORDER.includes(table) ? ORDER.indexOf(table) : ORDER.length);
  return [...modes]
    .map(([table, mode]) => ({ table, mode }))
    .sort((a, b) => place(a.table) - place(b.table));
}

/** Those of tables that there are; in the transaction of the migration. */
export async function takeLocks(locks: readonly TableLock[], query: Query): Promise<void> {
  for (const { table, mode } of await present(locks, query)) {
    await query(`lock table jobcast.${table} in ${mode} mode`);
  }
}

/**
 * Makes an autovacuum leave, which may take minutes and for which nobody else has to wait. The lock
 * is of the kind that stops no reader and no writer, and each is let go of at once.
 */
export async function sendVacuumAway(
  locks: readonly TableLock[],
  client: DatabaseClient,
): Promise<void> {
  const query: Query = (text, values) => client.send(text, values);
  for (const { table } of await present(locks, query)) {
    await client.begin();
    await query(`set local lock_timeout = ${VACUUM_MS}`);
    // Who does not leave is met again by the migration, which says who it is.
    await query(`lock table jobcast.${table} in share update exclusive mode`).catch(ignoreTimeout);
    await query("rollback");
  }
}

function ignoreTimeout(error: unknown): void {
  if (!(error instanceof pg.DatabaseError) || error.code !== "55P03") throw error;
}

async function present(locks: readonly TableLock[], query: Query): Promise<readonly TableLock[]> {
  const found = await query<{ name: string }>(
    "select relname as name from pg_class where relnamespace = to_regnamespace('jobcast')",
  );
  const names = new Set(found.map(({ name }) => name));
  return locks.filter(({ table }) => names.has(table));
}
