import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { testConnection } from "./connection.ts";
import { cloneDatabase, databaseUrl, ownerUrl, withAdmin } from "./database-server.ts";

export type TestDatabase = {
  /** Where a service finds it, as its owner, who is no superuser. */
  readonly url: string;
  /** Where an administrator finds it. */
  readonly adminUrl: string;
  readonly name: string;
  /** Runs one statement as an administrator, who may do everything; int8 as numbers. */
  query<Row extends pg.QueryResultRow>(sql: string, params?: unknown[]): Promise<Row[]>;
  /** A session of its own, for transactions that stay open; `drop` closes it. */
  connect(): Promise<pg.Client>;
  /** Closes everything and drops the database, whoever is connected; safe to call twice. */
  drop(): Promise<void>;
};

/**
 * A pool that outlives its database: a test may well end its connections, idle ones or those that
 * say goodbye, with the server or one by one.
 */
export function openTestPool(url: string, config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ ...testConnection(url), ...config });
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/**
 * Clones the migrated template of this run (about 0.1 s) into a database that only this test, or
 * this file, knows. Its caller drops it.
 */
export async function createTestDatabase(): Promise<TestDatabase> {
  const { serverUrl, template, ownerPassword } = inject("database");
  const name = `${template}_${randomBytes(4).toString("hex")}`;
  await withAdmin(serverUrl, (admin) => cloneDatabase(admin, template, name, template));

  const adminUrl = databaseUrl(serverUrl, name);
  const url = ownerUrl(adminUrl, { name: template, password: ownerPassword });
  const config = testConnection(adminUrl);
  const pool = openTestPool(adminUrl, { max: 3 });
  const sessions: pg.Client[] = [];
  let dropping: Promise<unknown> | undefined;

  return {
    url,
    adminUrl,
    name,
    query: async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []) =>
      (await pool.query<Row>(sql, params)).rows,
    async connect() {
      const session = new pg.Client(config);
      session.on("error", () => undefined);
      sessions.push(session);
      await session.connect();
      return session;
    },
    async drop() {
      dropping ??= Promise.all([pool.end(), ...sessions.map((session) => session.end())]).then(() =>
        withAdmin(serverUrl, (admin) => admin.query(`drop database ${name} with (force)`)),
      );
      await dropping;
    },
  };
}
