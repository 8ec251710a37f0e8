import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

async function createJob(): Promise<string> {
  const rows = await database.query<{ id: string }>(
    "insert into jobcast.jobs (owner_id, type) values ('ada', 't') returning id",
  );
  return rows[0]?.id ?? "";
}

describe("the bell", () => {
  let listener: Client;
  let rings: string[];
  beforeAll(async () => {
    listener = await database.connect();
    listener.on("notification", ({ payload }) => rings.push(payload ?? ""));
    await listener.query("listen jobcast");
  });

  /** How often the statements rang: notifications come in the order of the commits. */
  async function ringsOf(...statements: [sql: string, params?: unknown[]][]): Promise<number> {
    rings = [];
    const writer = await database.connect();
    for (const [sql, params] of statements) await writer.query(sql, params);
    await writer.query("notify jobcast, 'the end'");
    await until(() => rings.includes("the end"), 10_000, "the last notification");
    return rings.length - 1;
  }

  /** As a listener that waits for the bell. */
  async function whileAsleep(run: () => Promise<void>): Promise<void> {
    const sleeper = await database.connect();
    await sleeper.query("select pg_advisory_lock_shared(jobcast.bell_lock())");
    try {
      await run();
    } finally {
      await sleeper.query("select pg_advisory_unlock_all()");
    }
  }

  it("rings for a change while somebody is asleep, and not while nobody is", async () => {
    const id = await createJob();
    const change = (message: string): [string, unknown[]] => [
      "update jobcast.jobs set message = $2 where id = $1",
      [id, message],
    ];
    expect(await ringsOf(change("nobody sleeps"))).toBe(0);
    await whileAsleep(async () => expect(await ringsOf(change("somebody sleeps"))).toBe(1));
    expect(await ringsOf(change("nobody sleeps again"))).toBe(0);
  });

  it("does not ring for statements that write no version", async () => {
    const id = await createJob();
    await whileAsleep(async () => {
      const rung = await ringsOf(
        ["update jobcast.jobs set message = 'x' where false"],
        ["update jobcast.jobs set progress = 0 where id = $1", [id]],
        ["update jobcast.jobs set params = '7' where id = $1", [id]],
        ["insert into jobcast.jobs (owner_id, type) select 'ada', 't' where false"],
        ["select jobcast.update_jobs('[]')"],
        ["begin"],
        ["update jobcast.jobs set message = 'undone' where id = $1", [id]],
        ["rollback"],
      );
      expect(rung).toBe(0);
    });
  });

  it("rings once for a thousand changes of one statement", async () => {
    await database.query(
      "insert into jobcast.jobs (owner_id, type) select 'ada', 'bulk' from generate_series(1, 1000)",
    );
    await whileAsleep(async () => {
      const update: [string] = ["update jobcast.jobs set progress = 10 where type = 'bulk'"];
      expect(await ringsOf(update)).toBe(1);
    });
    const [written] = await database.query(
      `select count(*), count(distinct h.xid) as transactions
       from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
       where j.type = 'bulk' and h.version = 2`,
    );
    expect(written).toEqual({ count: 1_000, transactions: 1 });
  });

  it("leaves no lock behind with the writers", async () => {
    const id = await createJob();
    const writer = await database.connect();
    await writer.query("update jobcast.jobs set message = 'x' where id = $1", [id]);
    const rows = await database.query(
      "select from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    );
    expect(rows).toEqual([]);
  });
});
