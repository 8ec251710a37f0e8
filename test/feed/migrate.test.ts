import { afterEach, beforeEach, expect, it } from "vitest";
import {
  DatabaseAheadError,
  loadMigrations,
  type MigrateOptions,
  type Migration,
  migrate,
} from "../../src/db/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";

let db: TestDatabase;

beforeEach(async () => {
  db = await createTestDatabase();
});

afterEach(() => db.drop());

const run = (migrations?: readonly Migration[], options: Partial<MigrateOptions> = {}) =>
  migrate({ connectionString: db.url, ...(migrations && { migrations }), ...options });

async function withNext(sql: string): Promise<Migration[]> {
  return [...(await loadMigrations()), { id: 900_000, name: "900000_next.sql", sql }];
}

const applied = () => db.query("select name from jobcast.migrations where id = 900000");

it("takes the time that it takes", async () => {
  expect(await run(await withNext("select pg_sleep(0.5)"))).toEqual(["900000_next.sql"]);
  expect(await applied()).toHaveLength(1);
});

it("waits for another process that takes its time, and finds the work done", async () => {
  const migrations = await withNext("select pg_sleep(0.5)");
  const both = await Promise.all([run(migrations), run(migrations)]);
  expect(both.flat()).toEqual(["900000_next.sql"]);
});

it("is not ended by the timeouts of its role", async () => {
  await db.query(`alter database ${db.name} set statement_timeout = '100ms'`);
  await db.query(`alter database ${db.name} set lock_timeout = '100ms'`);
  const migrations = await withNext("select pg_sleep(0.3)");
  const both = await Promise.all([run(migrations), run(migrations)]);
  expect(both.flat()).toEqual(["900000_next.sql"]);
});

it("leaves nothing of a migration that fails, its session included", async () => {
  const broken = await withNext("create table jobcast.half (); select 1 / 0");
  await expect(run(broken)).rejects.toThrow("division by zero");

  expect(await applied()).toEqual([]);
  expect(await db.query("select to_regclass('jobcast.half') as half")).toEqual([{ half: null }]);
  const open =
    "select from pg_stat_activity where datname = $1 and application_name like 'jobcast mig%'";
  await until(async () => (await db.query(open, [db.name])).length === 0, 5_000, "its end");
});

it("refuses a database that a newer one has migrated", async () => {
  await run(await withNext("select 1"));
  await expect(run()).rejects.toThrow(DatabaseAheadError);
});
