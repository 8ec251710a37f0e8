import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newChanges } from "../../src/db/changes.ts";
import { settingsFor } from "../../src/db/session-settings.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

/** Imported in one transaction: of a transaction the statistics then say that it writes everything. */
const IMPORTED = 30_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.query(
    "insert into jobcast.jobs (owner_id, type) select 'o' || i % 50, 't' from generate_series(1, $1) i",
    [IMPORTED],
  );
  await database.query("analyze");
});
afterAll(() => database?.drop());

/** The blocks that a read of the feed looks at. */
async function blocksOf(since: string): Promise<number> {
  const session = await database.connect();
  await session.query(settingsFor("feed", "session"));
  const query = `${newChanges(`'${since}'`, false)} limit 1001`;
  const { rows } = await session.query(`explain (analyze, buffers, format json) ${query}`);
  await session.end();
  const [{ Plan: plan }] = rows[0]["QUERY PLAN"];
  return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
}

async function currentSnapshot(): Promise<string> {
  const [row] = await database.query<{ snapshot: string }>(
    "select pg_current_snapshot()::text as snapshot",
  );
  return row?.snapshot ?? "";
}

describe("a read of the feed, whatever the statistics say", () => {
  it("looks at nothing but what is new", async () => {
    const since = await currentSnapshot();
    expect(await blocksOf(since)).toBeLessThan(50);
    await database.query("update jobcast.jobs set progress = 1 where owner_id = 'o7'"); // 600
    const fresh = await blocksOf(since);
    expect(fresh).toBeLessThan(600 * 12);
    expect(await blocksOf(await currentSnapshot())).toBeLessThan(50);
  });

  it("nor with transactions in flight", async () => {
    const inFlight: number[] = [];
    for (let count = 0; count < 20; count += 1) {
      const [row] = await database.query<{ xid: number }>("select pg_current_xact_id() as xid");
      inFlight.push(row?.xid ?? 0);
    }
    const [, xmax] = (await currentSnapshot()).split(":");
    expect(await blocksOf(`${inFlight[0]}:${xmax}:${inFlight.join(",")}`)).toBeLessThan(20 * 10);
  });
});
