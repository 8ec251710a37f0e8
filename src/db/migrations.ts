import { readdir, readFile } from "node:fs/promises";
import type { Query } from "./query.ts";

/** The shipped migrations: `sql/` beside `src/` in the repository and beside `dist/` in the package. */
const MIGRATIONS = new URL("../../sql/", import.meta.url);

export type Migration = { readonly id: number; readonly name: string; readonly sql: string };

/** Why the database cannot be used or migrated, in a sentence for whoever starts the service. */
export class MigrationError extends Error {
  override readonly name: string = "MigrationError";
}

/** The database was migrated by a newer jobcast, to something that this one cannot run on. */
export class DatabaseAheadError extends MigrationError {
  override readonly name = "DatabaseAheadError";

  constructor(ahead: number, known: number) {
    super(
      `The database is at migration ${ahead}, this jobcast knows ${known}: run a jobcast at least as new as the one that migrated it.`,
    );
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
 * Whether what ran before it runs on: a first line `-- additive: ...` says so. A jobcast that does
 * not know the migration then starts nevertheless, so that a deploy can be rolled back.
 */
export function isAdditive({ sql }: Migration): boolean {
  return /^-- additive\b/.test(sql);
}

export type Migrated = {
  /** What the database lacks, in its order. */
  readonly pending: readonly Migration[];
  /** The newest that it has of a newer jobcast; all of them are additive. */
  readonly ahead: number | undefined;
};

/** @throws {DatabaseAheadError} */
export async function compare(query: Query, migrations: readonly Migration[]): Promise<Migrated> {
  const applied = await appliedIds(query);
  const newest = Math.max(-1, ...migrations.map(({ id }) => id));
  const beyond = applied.filter((id) => id > newest);
  if (beyond.length > 0 && (await hasBreaking(query, beyond))) {
    throw new DatabaseAheadError(Math.max(...beyond), newest);
  }
  return {
    pending: migrations.filter(({ id }) => !applied.includes(id)),
    ahead: beyond.length > 0 ? Math.max(...beyond) : undefined,
  };
}

async function appliedIds(query: Query): Promise<readonly number[]> {
  const [found] = await query<{ exists: boolean }>(
    "select to_regclass('jobcast.migrations') is not null as exists",
  );
  if (!found?.exists) return [];
  return (await query<{ id: number }>("select id from jobcast.migrations")).map(({ id }) => id);
}

/** Of a row as JSON, since a list that is older than the column has none. */
async function hasBreaking(query: Query, ids: readonly number[]): Promise<boolean> {
  const breaking = await query(
    `select from jobcast.migrations m
     where m.id = any ($1::integer[]) and to_jsonb(m) -> 'is_additive' is distinct from 'true'`,
    [ids],
  );
  return breaking.length > 0;
}
