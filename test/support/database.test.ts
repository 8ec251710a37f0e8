import pg from "pg";
import { afterEach, describe, expect, inject, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { cloneDatabase, databaseUrl, withAdmin } from "./database-server.ts";
import { until } from "./deadline.ts";

const databases: TestDatabase[] = [];

afterEach(async () => {
  await Promise.all(databases.splice(0).map((database) => database.drop()));
});

async function create(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  databases.push(database);
  return database;
}

async function exists(name: string): Promise<boolean> {
  const { serverUrl } = inject("database");
  const sql = "select from pg_database where datname = $1";
  return withAdmin(serverUrl, async (admin) => (await admin.query(sql, [name])).rowCount === 1);
}

describe("createTestDatabase", () => {
  it("gives a migrated database", async () => {
    const database = await create();
    const rows = await database.query<{ name: string }>("select name from jobcast.migrations");
    expect(rows.length).toBeGreaterThan(0);
    expect(await database.query("select from jobcast.jobs")).toEqual([]);
  });

  it("gives everyone a database of their own, many at a time", async () => {
    const all = await Promise.all(Array.from({ length: 6 }, create));
    expect(new Set(all.map(({ url }) => url)).size).toBe(6);
    await all[0]?.query("create table public.mine ()");
    expect(await all[1]?.query("select to_regclass('public.mine') as found")).toEqual([
      { found: null },
    ]);
  });

  it("keeps the template closed to everybody", async () => {
    const { serverUrl, template } = inject("database");
    const client = new pg.Client(databaseUrl(serverUrl, template));
    await expect(client.connect()).rejects.toThrow("not currently accepting connections");
  });
});

describe("cloneDatabase", () => {
  it("tries again while somebody uses the template", async () => {
    const { serverUrl } = inject("database");
    const template = (await create()).name;
    const copy = `${template}_copy`;
    const intruder = new pg.Client(databaseUrl(serverUrl, template));
    await intruder.connect();
    await withAdmin(serverUrl, async (admin) => {
      const outcomes: string[] = [];
      // PostgreSQL itself waits five seconds before an attempt fails; then the intruder leaves.
      const query = async (sql: string) => {
        const attempt = admin.query(sql);
        await attempt.then(
          () => outcomes.push("cloned"),
          (error: pg.DatabaseError) => outcomes.push(error.message),
        );
        await intruder.end();
        return attempt;
      };
      await cloneDatabase({ query } as Pick<pg.Client, "query">, template, copy);
      await admin.query(`drop database ${copy}`);
      expect(outcomes).toEqual([expect.stringContaining("accessed by other users"), "cloned"]);
    });
  });

  it("fails at once when there is no such template", async () => {
    const { serverUrl } = inject("database");
    const cloning = withAdmin(serverUrl, (admin) => cloneDatabase(admin, "no_such", "copy"));
    await expect(cloning).rejects.toThrow('template database "no_such" does not exist');
  });
});

describe("query", () => {
  it("takes parameters and gives int8 as numbers", async () => {
    const { query } = await create();
    expect(await query("select $1::int8 * 2 as n", [21])).toEqual([{ n: 42 }]);
  });

  it("goes on after its connections were terminated", async () => {
    const { query } = await create();
    const others = "pid <> pg_backend_pid() and datname = current_database()";
    await Promise.all([query("select pg_sleep(0.05)"), query("select pg_sleep(0.05)")]);
    await query(`select pg_terminate_backend(pid, 5000) from pg_stat_activity where ${others}`);
    await until(
      () => query("select 1 as one").catch(() => undefined),
      5_000,
      "an answer on a new connection",
    );
  });
});

describe("drop", () => {
  it("drops it although sessions are open in it, and twice does no harm", async () => {
    const database = await create();
    await (await database.connect()).query("begin");
    const service = new pg.Client(database.url);
    service.on("error", () => undefined);
    await service.connect();
    await database.drop();
    await database.drop();
    expect(await exists(database.name)).toBe(false);
    await service.end();
  });
});
