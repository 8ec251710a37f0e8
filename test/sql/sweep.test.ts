import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  for (const owner of ["ada", "bob", "eve"]) {
    await database.query("select jobcast.grant_credits($1, 1000)", [owner]);
  }
});
afterAll(() => database.drop());

const OVERDUE = "now() - interval '1 s'";

async function createJob(owner: string, credits: number, batch?: string): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    `insert into jobcast.jobs (owner_id, type, credits, batch_id, status, timeout_at)
     values ($1, 't', $2, $3, 'processing', ${OVERDUE}) returning id`,
    [owner, credits, batch ?? null],
  );
  return job?.id ?? "";
}

async function sweep(): Promise<string[]> {
  const swept = await database.query<{ job_id: string }>(
    "select job_id from jobcast.sweep() where problem is null",
  );
  return swept.map(({ job_id }) => job_id).sort();
}

/** Somebody's transaction that does so, until it is ended. */
async function hold(statement: string) {
  const session = await database.connect();
  await session.query("begin");
  await session.query(statement);
  return () => session.query("rollback");
}

describe("what is overdue and free is ended", () => {
  it("although somebody holds its owner's account, which another one's end would change", async () => {
    const [paid, free, others] = [
      await createJob("ada", 5),
      await createJob("ada", 0),
      await createJob("bob", 5),
    ];
    const release = await hold(
      "insert into jobcast.jobs (owner_id, type, credits) values ('ada', 't', 1)",
    );
    expect(await sweep()).toEqual([free, others].sort());
    expect(await sweep()).toEqual([]);
    await release();
    expect(await sweep()).toEqual([paid]);
  });

  it.each([
    "select id from jobcast.expire_jobs()",
    "select job_id as id from jobcast.sweep() where problem is null",
  ])("although somebody holds another one itself: %s", async (statement) => {
    const [held, free] = [await createJob("eve", 0), await createJob("eve", 0)];
    const release = await hold(`update jobcast.jobs set progress = 50 where id = '${held}'`);
    const session = await database.connect();
    // Whoever waits for the one that is held says so before the test is given up.
    await session.query("set lock_timeout = '2s'");
    expect((await session.query(statement)).rows).toEqual([{ id: free }]);
    await release();
    expect((await session.query(statement)).rows).toEqual([{ id: held }]);
  });

  it("although somebody holds a whole batch", async () => {
    const [batch] = await database.query<{ id: string }>(
      `select id from jobcast.create_batch('ada', 'b', '[{"type": "t"}]')`,
    );
    const [first, second, other] = [
      await createJob("ada", 0, batch?.id),
      await createJob("ada", 0, batch?.id),
      await createJob("eve", 0),
    ];
    const release = await hold(
      `set constraints all immediate;
       update jobcast.jobs set progress = 50 where id = '${first}'`,
    );
    expect(await sweep()).toEqual([other]);
    expect(await sweep()).toEqual([]);
    await release();
    expect(await sweep()).toEqual([first, second].sort());
  });

  it("although its account is never free, but only busy", async () => {
    const paid = await createJob("bob", 5);
    const release = await hold(
      "insert into jobcast.jobs (owner_id, type, credits) values ('bob', 't', 1)",
    );
    const sweeping = sweep();
    // It stands behind the one that holds it, and is next.
    await expect
      .poll(() =>
        database.query(
          "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%jobcast.sweep%'",
        ),
      )
      .toHaveLength(1);
    await release();
    expect(await sweeping).toEqual([paid]);
  });

  it("although others cannot be, each of which says why", async () => {
    await database.query(`
      create function public.refuse() returns trigger language plpgsql as $$
      begin raise exception 'not this one'; end $$;
      create trigger refuse before update on jobcast.jobs for each row
        when (old.type = 'stuck' and new.status = 'timeout') execute function public.refuse()`);
    const stuck = await createJob("eve", 0);
    await database.query("alter table jobcast.jobs disable trigger refuse");
    await database.query("update jobcast.jobs set type = 'stuck' where id = $1", [stuck]);
    await database.query("alter table jobcast.jobs enable trigger refuse");
    const free = await createJob("eve", 0);
    const swept = await database.query("select job_id, problem from jobcast.sweep()");
    expect(swept).toEqual(
      expect.arrayContaining([
        { job_id: stuck, problem: "P0001: not this one" },
        { job_id: free, problem: null },
      ]),
    );
    expect(
      await database.query("select from jobcast.sweep(1000, array[$1::uuid])", [stuck]),
    ).toEqual([]);
  });
});
