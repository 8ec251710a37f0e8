import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, openTestPool, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { createRandom } from "../support/random.ts";
import { copyRows } from "./copy.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

async function createJobs(count: number, type = "t"): Promise<string[]> {
  const rows = await database.query<{ id: string }>(
    `insert into jobcast.jobs (owner_id, type)
     select 'ada', $2 from generate_series(1, $1::int) returning id`,
    [count, type],
  );
  return rows.map(({ id }) => id).sort();
}

async function createJob(): Promise<string> {
  const [id = ""] = await createJobs(1);
  return id;
}

type Version = { version: number; status: string; progress: number; message: string | null };

function history(id: string): Promise<Version[]> {
  return database.query<Version>(
    "select version, status, progress, message from jobcast.status_history where job_id = $1 order by version",
    [id],
  );
}

async function versions(id: string): Promise<number[]> {
  return (await history(id)).map(({ version }) => version);
}

/** 1, 2, ..., n. */
const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1);

describe("progress", () => {
  it("ignores a report that was overtaken, as a whole", async () => {
    const id = await createJob();
    await database.query("select jobcast.report_progress($1, 60, 'b', 'second')", [id]);
    const [late] = await database.query(
      `select (j).version, (j).progress, (j).stage, (j).message
       from jobcast.report_progress($1, 30, 'a', 'first') j`,
      [id],
    );
    expect(late).toEqual({ version: 2, progress: 60, stage: "b", message: "second" });
    expect(await versions(id)).toEqual([1, 2]);
  });

  it("never goes back, in whatever order concurrent reports arrive", async () => {
    const id = await createJob();
    const reports = createRandom("late reports").shuffled(upTo(89));
    await Promise.all(
      reports.map((progress) =>
        database.query("select jobcast.report_progress($1, $2)", [id, progress]),
      ),
    );
    const seen = (await history(id)).map(({ progress }) => progress);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(89);
  });

  it("begins at nothing again with the next attempt", async () => {
    const id = await createJob();
    await database.query("select jobcast.report_progress($1, 60)", [id]);
    await database.query("select jobcast.fail_job($1)", [id]);
    await database.query("select jobcast.retry_job($1)", [id]);
    await database.query("select jobcast.report_progress($1, 10)", [id]);
    expect((await history(id)).map(({ progress }) => progress)).toEqual([0, 60, 60, 0, 10]);
  });

  it.each(["NaN", "100.01", "Infinity"])("refuses %s", async (progress) => {
    const id = await createJob();
    await expect(
      database.query("update jobcast.jobs set progress = $2 where id = $1", [id, progress]),
    ).rejects.toMatchObject({ code: "23514" });
  });
});

describe("versions", () => {
  it("are not made by an update that changes nothing, which reports no row", async () => {
    const id = await createJob();
    await database.query("update jobcast.jobs set message = 'm' where id = $1", [id]);
    for (const change of ["message = 'm'", "status = 'pending'", "progress = 0", "version = 99"]) {
      const rows = await database.query(
        `update jobcast.jobs set ${change} where id = $1 returning id`,
        [id],
      );
      expect(rows).toEqual([]);
    }
    expect(await versions(id)).toEqual([1, 2]);
  });

  it("are not made by a change that nobody streams, which is kept all the same", async () => {
    const id = await createJob();
    await database.query("update jobcast.jobs set params = '7' where id = $1", [id]);
    const rows = await database.query("select params, version from jobcast.jobs where id = $1", [
      id,
    ]);
    expect(rows).toEqual([{ params: 7, version: 1 }]);
    expect(await versions(id)).toEqual([1]);
  });

  it("have no hole and no double under 50 writers at once", async () => {
    const id = await createJob();
    const pool = openTestPool(database.url, { max: 50 });
    try {
      await Promise.all(
        upTo(50).map(async (writer) => {
          for (const n of upTo(40)) {
            await pool.query("update jobcast.jobs set message = $2 where id = $1", [
              id,
              `${writer}.${n}`,
            ]);
          }
        }),
      );
    } finally {
      await pool.end();
    }
    const rows = await history(id);
    expect(rows.map(({ version }) => version)).toEqual(upTo(2_001));
    expect(new Set(rows.map(({ message }) => message)).size).toBe(2_001);
  });

  it("are one for each update of a transaction, and none for what it took back", async () => {
    const id = await createJob();
    const session = await database.connect();
    await session.query("begin");
    await session.query("update jobcast.jobs set message = 'one' where id = $1", [id]);
    await session.query("savepoint s");
    await session.query("update jobcast.jobs set message = 'undone' where id = $1", [id]);
    await session.query("rollback to savepoint s");
    await session.query("update jobcast.jobs set message = 'two' where id = $1", [id]);
    expect(await versions(id)).toEqual([1]);
    await session.query("commit");
    expect((await history(id)).map(({ message }) => message)).toEqual([null, "one", "two"]);
  });

  it("are written by every way that rows have into a table", async () => {
    const session = await database.connect();
    const copied = await copyRows(
      session,
      "jobcast.jobs (owner_id, type)",
      "ada\tcopy\nada\tcopy\n",
    );
    expect(copied).toBe(2);
    const rows = await database.query<{ id: string }>(
      "select id from jobcast.jobs where type = 'copy' order by id",
    );
    const [first, second] = rows.map(({ id }) => id);
    const fresh = "0190f3c2-0000-7000-8000-00000000c0de";

    await database.query(
      `insert into jobcast.jobs (id, owner_id, type) values ($1, 'ada', 'copy'), ($2, 'ada', 'copy')
       on conflict (id) do update set message = 'upserted'`,
      [first, fresh],
    );
    await database.query(
      `merge into jobcast.jobs j using (values ($1::uuid), ($2::uuid)) v (id) on v.id = j.id
       when matched then update set message = 'merged'`,
      [second, fresh],
    );
    const messages = async (id?: string) =>
      (await history(id ?? "")).map(({ version, message }) => [version, message]);
    expect(await messages(first)).toEqual([
      [1, null],
      [2, "upserted"],
    ]);
    expect(await messages(second)).toEqual([
      [1, null],
      [2, "merged"],
    ]);
    expect(await messages(fresh)).toEqual([
      [1, null],
      [2, "merged"],
    ]);
  });
});

describe("what never changes", () => {
  it.each(["id = jobcast.uuid_v7()", "owner_id = 'bob'", "credits = 9"])(
    "refuses %s",
    async (change) => {
      const id = await createJob();
      await expect(
        database.query(`update jobcast.jobs set ${change} where id = $1`, [id]),
      ).rejects.toMatchObject({ code: "JC005" });
    },
  );

  it("keeps to itself what the rules decide, whatever a writer says", async () => {
    const id = await createJob();
    const columns = "version, created_at, updated_at, started_at, finished_at";
    const read = () => database.query(`select ${columns} from jobcast.jobs where id = $1`, [id]);
    const before = await read();
    await database.query(
      `update jobcast.jobs set version = 7, created_at = now(), updated_at = '2001-01-01',
         started_at = now(), finished_at = now() where id = $1`,
      [id],
    );
    expect(await read()).toEqual(before);
  });
});

describe("deleting", () => {
  it("takes a job that has ended, with its history, and none that has not", async () => {
    const id = await createJob();
    const remove = () => database.query("delete from jobcast.jobs where id = $1", [id]);
    await expect(remove()).rejects.toMatchObject({ code: "JC001" });
    await database.query("select jobcast.cancel_job($1)", [id]);
    await remove();
    expect(await history(id)).toEqual([]);
  });
});

describe("update_jobs", () => {
  it("locks in one order, so that (A, B) and (B, A) cannot deadlock", async () => {
    const [a = "", b = ""] = await createJobs(2);
    const [first, second] = [await database.connect(), await database.connect()];
    const update = (session: pg.Client, ids: string[], message: string) =>
      session.query("select problem from jobcast.update_jobs($1)", [
        JSON.stringify(ids.map((id) => ({ id, message }))),
      ]);

    await first.query("begin");
    await update(first, [a], "first");
    const waiting = update(second, [b, a], "second");
    await until(
      async () => {
        const rows = await database.query(
          "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        );
        return rows.length === 1;
      },
      10_000,
      "the second transaction to wait for the first",
    );
    // Had it locked B on its way to A, this would be a deadlock.
    await update(first, [b], "first");
    await first.query("commit");
    expect((await waiting).rows).toEqual([{ problem: null }, { problem: null }]);
    for (const id of [a, b]) {
      expect((await history(id)).map(({ message }) => message)).toEqual([null, "first", "second"]);
    }
  });

  it("makes as many versions as updates when it is told of one job several times", async () => {
    const id = await createJob();
    const patches = [
      { id, message: "one" },
      { id: id.toUpperCase(), message: "two" },
      { id, message: "three" },
    ];
    const rows = await database.query(
      "select item, problem, (job).version from jobcast.update_jobs($1) order by item",
      [JSON.stringify(patches)],
    );
    expect(rows).toEqual(upTo(3).map((item) => ({ item, problem: null, version: item + 1 })));
  });

  it("leaves the source of the transaction as it was", async () => {
    const id = await createJob();
    const session = await database.connect();
    await session.query("begin");
    await session.query("set local jobcast.source = 'importer'");
    await session.query("select jobcast.update_jobs($1, 'api')", [
      JSON.stringify([{ id, stage: "a" }]),
    ]);
    await session.query("update jobcast.jobs set stage = 'b' where id = $1", [id]);
    await session.query("commit");
    const rows = await database.query(
      "select source from jobcast.status_history where job_id = $1 order by version",
      [id],
    );
    expect(rows.map(({ source }) => source)).toEqual(["sql", "api", "importer"]);
  });
});
