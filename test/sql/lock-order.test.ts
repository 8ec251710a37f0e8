import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** Ids in ascending order, which is the order in which sets of jobs are locked. */
const [A, B, C, D] = ["a", "b", "c", "d"].map((digit) => `${digit.repeat(8)}-0000-7000-8000-0000`);

/** Waits until the session waits for a lock. */
async function untilBlocked(session: pg.Client): Promise<void> {
  const pid = (session as pg.Client & { processID: number }).processID;
  const isBlocked = async () => {
    const rows = await database.query("select unnest(pg_blocking_pids($1))", [pid]);
    return rows.length > 0;
  };
  await until(isBlocked, 10_000, "a session to wait for another");
}

describe("a set of jobs is locked in the order of the ids, and nothing is locked after it", () => {
  async function createBatch(suffix: string, ids: (string | undefined)[]): Promise<string> {
    const [batch] = await database.query<{ id: string }>(
      "insert into jobcast.batches (owner_id) values ('ada') returning id",
    );
    for (const id of ids) {
      await database.query(
        "insert into jobcast.jobs (id, owner_id, type, batch_id) values ($1, 'ada', 't', $2)",
        [`${id}${suffix}`, batch?.id],
      );
    }
    return batch?.id ?? "";
  }

  it("also when a job becomes unfinished while cancel_batch waits for another one", async () => {
    const suffix = "00000001";
    const batch = await createBatch(suffix, [A, B, C, D]);
    const [a, b, c, d] = [A, B, C, D].map((id) => `${id}${suffix}`);
    await database.query("select jobcast.fail_job($1)", [b]);
    const [holder, canceller, writer] = [
      await database.connect(),
      await database.connect(),
      await database.connect(),
    ];
    await holder.query("begin");
    await holder.query("select jobcast.report_progress($1, 10)", [d]);
    const cancelling = canceller.query("select id from jobcast.cancel_batch($1)", [batch]);
    await untilBlocked(canceller);
    await writer.query("select jobcast.retry_job($1)", [b]);
    await writer.query("begin");
    await writer.query("select jobcast.report_progress($1, 10)", [b]);
    const writing = writer.query("update jobcast.jobs set progress = 20 where id = $1", [c]);
    await untilBlocked(writer);
    await holder.query("commit");
    // Had it gone for b now, which the writer holds, neither could go on.
    const { rows } = await cancelling;
    expect(rows.map(({ id }) => id).sort()).toEqual([a, c, d]);
    expect((await writing).rowCount).toBe(0);
    await writer.query("commit");
    const [row] = await database.query("select status, progress from jobcast.jobs where id = $1", [
      b,
    ]);
    expect(row).toEqual({ status: "processing", progress: 10 });
  });

  it("also when a job is made while update_jobs waits for another one", async () => {
    const suffix = "00000002";
    await createBatch(suffix, [A, C]);
    const [a, b, c] = [A, B, C].map((id) => `${id}${suffix}`);
    const [holder, updater, writer] = [
      await database.connect(),
      await database.connect(),
      await database.connect(),
    ];
    await holder.query("begin");
    await holder.query("select jobcast.report_progress($1, 10)", [c]);
    const updating = updater.query("select item, problem from jobcast.update_jobs($1)", [
      JSON.stringify([a, b, c].map((id) => ({ id, message: "updated" }))),
    ]);
    await untilBlocked(updater);
    await writer.query("insert into jobcast.jobs (id, owner_id, type) values ($1, 'ada', 't')", [
      b,
    ]);
    await writer.query("begin");
    await writer.query("select jobcast.report_progress($1, 10)", [b]);
    const writing = writer.query("update jobcast.jobs set progress = 20 where id = $1", [a]);
    await untilBlocked(writer);
    await holder.query("commit");
    expect((await updating).rows).toEqual([
      { item: 1, problem: null },
      { item: 2, problem: "JC002" },
      { item: 3, problem: null },
    ]);
    expect((await writing).rowCount).toBe(1);
    await writer.query("commit");
  });
});

describe("update_jobs that skips what is locked", () => {
  it("updates the others at once, and says which job somebody holds", async () => {
    const ids = await Promise.all(
      [1, 2, 3].map(async () => {
        const [job] = await database.query<{ id: string }>(
          "select id from jobcast.create_job('ada', 't')",
        );
        return job?.id ?? "";
      }),
    );
    const holder = await database.connect();
    await holder.query("begin");
    await holder.query("select jobcast.report_progress($1, 10)", [ids[1]]);
    const patches = [...ids, ...ids].map((id, index) => ({ id, progress: 20 + index }));
    const rows = await database.query(
      `select item, problem, (job).version from jobcast.update_jobs($1, skip_locked => true) order by item`,
      [JSON.stringify(patches)],
    );
    await holder.query("rollback");
    expect(rows).toEqual([
      { item: 1, problem: null, version: 2 },
      { item: 2, problem: "JC007", version: 1 },
      { item: 3, problem: null, version: 2 },
      { item: 4, problem: null, version: 3 },
      { item: 5, problem: "JC007", version: 1 },
      { item: 6, problem: null, version: 3 },
    ]);
  });
});
