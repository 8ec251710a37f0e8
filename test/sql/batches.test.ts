import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createRandom, type Random } from "../support/random.ts";
import { outcome, watchDuring } from "./storm.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

async function createBatch(jobs: number): Promise<{ id: string; jobs: string[] }> {
  const [batch] = await database.query<{ id: string }>(
    "select id from jobcast.create_batch('ada', 'b', $1)",
    [JSON.stringify(Array.from({ length: jobs }, () => ({ type: "t" })))],
  );
  const id = batch?.id ?? "";
  return { id, jobs: await jobsOf(id) };
}

async function jobsOf(batchId: string): Promise<string[]> {
  const rows = await database.query<{ id: string }>(
    "select id from jobcast.jobs where batch_id = $1 order by created_at",
    [batchId],
  );
  return rows.map(({ id }) => id);
}

async function read(id: string) {
  const [batch] = await database.query(
    `select total, completed, failed, progress, status, version, finished_at is not null as ended
     from jobcast.batches where id = $1`,
    [id],
  );
  return batch;
}

/** Rows that must never be: counts that are not those of the jobs, and notes that outlive a commit. */
const WRONG = `
  select 'counts' as what, b.id
  from jobcast.batches b
  where (
    b.total::bigint, b.completed::bigint, b.failed::bigint, b.cancelled::bigint, b.started::bigint,
    b.progress_sum
  ) is distinct from (
    select row (
      count(*),
      count(*) filter (where j.status = 'completed'),
      count(*) filter (where j.status in ('failed', 'cancelled', 'timeout')),
      count(*) filter (where j.status = 'cancelled'),
      count(*) filter (where j.status not in ('pending', 'queued')),
      coalesce(sum(case when jobcast.is_final(j.status) then 100 else j.progress::numeric end), 0)
    )
    from jobcast.jobs j where j.batch_id = b.id
  )
  union all
  select 'note', c.batch_id from jobcast.batch_changes c`;

describe("the counts of a batch", () => {
  const END = (status: string) => (id: string) =>
    `update jobcast.jobs set status = '${status}' where id = '${id}' and not jobcast.is_final(status);`;
  /** None of them is refused, so that most transactions come to their end. */
  const STATEMENTS: readonly ((id: string, random: Random) => string)[] = [
    (id, random) =>
      `update jobcast.jobs set progress = ${random.below(1_000) / 10} where id = '${id}';`,
    // Seldom, because nothing follows it.
    (id, random) => END(random.next() < 0.1 ? "completed" : "failed")(id),
    END("timeout"),
    (id) => `update jobcast.jobs set status = 'pending', attempt = attempt + 1
             where id = '${id}' and status in ('failed', 'cancelled', 'timeout');`,
    (id) => `insert into jobcast.jobs (owner_id, type, batch_id)
             select 'ada', 't', batch_id from jobcast.jobs where id = '${id}';`,
  ];

  /** Statements about some of its own jobs; now and then a part of them, or all, is taken back. */
  function transaction(own: readonly string[], random: Random): string {
    const chosen = own.filter(() => random.next() < 0.4);
    const statements = chosen.map((id) => {
      const statement = random.oneOf(STATEMENTS)(id, random);
      return random.next() < 0.25 ? `savepoint s; ${statement} rollback to s;` : statement;
    });
    return `begin; ${statements.join(" ")} ${random.next() < 0.15 ? "rollback" : "commit"};`;
  }

  it("are those of its jobs at every moment of a storm, whatever is taken back", async () => {
    const random = createRandom("a storm of batches");
    const batches = await Promise.all([1, 2, 3].map(() => createBatch(12)));
    const all = batches.flatMap(({ jobs }) => jobs);
    const refusals: string[] = [];

    /** Has every sixth job to itself, so that no two transactions want the same rows. */
    async function write(writer: number): Promise<void> {
      const session: pg.Client = await database.connect();
      const own = all.filter((_, index) => index % 6 === writer).sort();
      for (let round = 0; round < 400; round++) {
        // Sorted as cancel_batch locks them; the batches come in any order.
        const sql =
          random.next() < 0.02
            ? `select jobcast.cancel_batch('${random.oneOf(batches).id}')`
            : transaction(own, random);
        const ended = await outcome(session, sql);
        if (ended !== "done") refusals.push(ended);
      }
    }

    const storm = Promise.all([0, 1, 2, 3, 4, 5].map(write));
    const { found, looks } = await watchDuring(database, WRONG, storm);
    expect(found).toEqual([]);
    expect(looks).toBeGreaterThan(10);
    // No deadlock, above all.
    expect(refusals).toEqual([]);
    const versions = await Promise.all(
      batches.map(async ({ id }) => (await read(id))?.["version"]),
    );
    expect(Math.min(...versions)).toBeGreaterThan(300);
  }, 120_000);

  it("change at the commit: no statement waits for another's, in whatever order they come", async () => {
    const [x, y] = [await createBatch(2), await createBatch(2)];
    const sessions = [await database.connect(), await database.connect()] as const;
    for (const session of sessions) {
      await session.query("set lock_timeout = '5s'; begin");
    }
    const report = (session: pg.Client, id = "") =>
      session.query("select jobcast.report_progress($1, 50)", [id]);
    const [first, second] = sessions;
    await report(first, x.jobs[0]);
    await report(second, y.jobs[0]);
    await report(first, y.jobs[1]);
    await report(second, x.jobs[1]);
    expect(await read(x.id)).toMatchObject({ progress: 0 });
    await Promise.all(sessions.map((session) => session.query("commit")));
    for (const { id } of [x, y]) expect(await read(id)).toMatchObject({ progress: 50, version: 4 });
  });

  it("make one version for each transaction, and none for one that changes nothing", async () => {
    const { id, jobs } = await createBatch(3);
    const session = await database.connect();
    await session.query("begin");
    for (const job of jobs) await session.query("select jobcast.complete_job($1)", [job]);
    await session.query("commit");
    expect(await read(id)).toMatchObject({ completed: 3, version: 3 });
    await database.query("select jobcast.complete_job($1)", [jobs[0]]);
    await database.query("update jobcast.jobs set params = '{}' where id = $1", [jobs[0]]);
    expect(await read(id)).toMatchObject({ version: 3 });
  });

  it("come from every way that jobs have into a batch", async () => {
    const { id } = await createBatch(1);
    await database.query("select jobcast.create_job('ada', 't', batch_id => $1)", [id]);
    await database.query(
      `insert into jobcast.jobs (owner_id, type, batch_id, status)
       select 'ada', 't', $1, s from unnest(array['completed', 'failed', 'pending']) s`,
      [id],
    );
    expect(await read(id)).toMatchObject({ total: 5, completed: 1, failed: 1, progress: 40 });
    await expect(
      database.query("select jobcast.create_job('eve', 't', batch_id => $1)", [id]),
    ).rejects.toMatchObject({ code: "23503" });
  });

  it("are there for whoever made the batch before it commits, and lock no other batch", async () => {
    const other = await createBatch(2);
    const session = await database.connect();
    await session.query("begin");
    await session.query("select jobcast.complete_job($1)", [other.jobs[0]]);
    const { rows } = await session.query(
      `select total, version from jobcast.create_batch('ada', 'b', '[{"type":"t"},{"type":"t"}]')`,
    );
    expect(rows).toEqual([{ total: 2, version: 2 }]);
    const neighbour = await database.connect();
    await neighbour.query("set lock_timeout = '5s'");
    await neighbour.query("select jobcast.complete_job($1)", [other.jobs[1]]);
    expect(await read(other.id)).toMatchObject({ completed: 1 });
    await session.query("commit");
    expect(await read(other.id)).toMatchObject({ completed: 2, status: "completed" });
  });
});

describe("the status of a batch", () => {
  it.each([
    [["pending", "pending"], "pending"],
    [["queued", "pending"], "pending"],
    [["processing", "pending"], "processing"],
    [["completed", "pending"], "processing"],
    [["failed", "queued"], "processing"],
    [["completed", "completed"], "completed"],
    [["completed", "failed"], "completed"],
    [["timeout", "failed"], "failed"],
    [["cancelled", "failed"], "failed"],
    [["cancelled", "cancelled"], "cancelled"],
  ])("of %j is %s", async (statuses, status) => {
    const { id, jobs } = await createBatch(2);
    for (const [index, each] of statuses.entries()) {
      await database.query("update jobcast.jobs set status = $2 where id = $1", [
        jobs[index],
        each,
      ]);
    }
    const isFinal = ["completed", "failed", "cancelled"].includes(status);
    expect(await read(id)).toMatchObject({ status, ended: isFinal });
  });

  it("opens again with a retry", async () => {
    const { id, jobs } = await createBatch(1);
    await database.query("select jobcast.cancel_batch($1)", [id]);
    expect(await read(id)).toMatchObject({ status: "cancelled", progress: 100, ended: true });
    await database.query("select jobcast.retry_job($1)", [jobs[0]]);
    expect(await read(id)).toMatchObject({
      status: "pending",
      progress: 0,
      failed: 0,
      ended: false,
    });
  });
});

describe("cancel_batch", () => {
  it("gives back what it cancelled, which is what was unfinished", async () => {
    const { id, jobs } = await createBatch(3);
    await database.query("select jobcast.complete_job($1)", [jobs[0]]);
    const cancelled = await database.query<{ id: string; status: string }>(
      "select id, status from jobcast.cancel_batch($1, 'enough') order by created_at",
      [id],
    );
    expect(cancelled).toEqual(jobs.slice(1).map((job) => ({ id: job, status: "cancelled" })));
    expect(await database.query("select jobcast.cancel_batch($1)", [id])).toEqual([]);
  });

  it("does not undo the ends of workers that finish meanwhile", async () => {
    const { id, jobs } = await createBatch(20);
    const worker = await database.connect();
    const ends: string[] = [];
    async function completeAll(): Promise<void> {
      for (const job of jobs)
        ends.push(await outcome(worker, `select jobcast.complete_job('${job}')`));
    }
    await Promise.all([completeAll(), database.query("select jobcast.cancel_batch($1)", [id])]);
    const completed = ends.filter((end) => end === "done").length;
    expect(await read(id)).toMatchObject({ completed, failed: 20 - completed, ended: true });
  });
});

describe("create_batch", () => {
  it("keeps the order of its jobs, whatever the clock and the ids say", async () => {
    const types = Array.from({ length: 500 }, (_, index) => ({ type: `type-${index}` }));
    const [batch] = await database.query<{ id: string }>(
      "select id from jobcast.create_batch('ada', 'b', $1)",
      [JSON.stringify(types)],
    );
    const rows = await database.query(
      "select type from jobcast.jobs where batch_id = $1 order by created_at",
      [batch?.id],
    );
    expect(rows).toEqual(types);
  });
});
