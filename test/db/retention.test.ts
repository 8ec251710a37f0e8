import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";

let database: TestDatabase;
let server: TestServer | undefined;
const streams: StreamClient[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(async () => {
  for (const stream of streams.splice(0)) await stream.close();
  await server?.stop();
  server = undefined;
  await database.drop();
});

/** A job that ended so many days ago, with three steps on its way. */
async function ended(status: string, days: number, batch: string | null = null): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "insert into jobcast.jobs (owner_id, type, batch_id) values ('ada', 't', $1) returning id",
    [batch],
  );
  const id = job?.id ?? "";
  for (const progress of [10, 20, 30]) {
    await database.query("update jobcast.jobs set progress = $2 where id = $1", [id, progress]);
  }
  await database.query("update jobcast.jobs set status = $2 where id = $1", [id, status]);
  await age(id, days);
  return id;
}

/** As if its end were so long ago. */
async function age(id: string, days: number): Promise<void> {
  const session = await database.connect();
  await session.query("set session_replication_role = replica");
  await session.query(
    `update jobcast.jobs set finished_at = finished_at - make_interval(days => $2),
       created_at = created_at - make_interval(days => $2) where id = $1`,
    [id, days],
  );
  await session.end();
}

async function prune(kind: string, days: number, most = 500) {
  const [step] = await database.query<{ removed: number; has_more: boolean }>(
    "select * from jobcast.prune($1, make_interval(days => $2), $3)",
    [kind, days, most],
  );
  return step;
}

const idsOf = async (sql: string) =>
  (await database.query<{ id: string }>(sql)).map(({ id }) => id).sort();

describe("what is old enough", () => {
  it("is removed: jobs by how they ended, and what belongs to them", async () => {
    const old = await ended("completed", 10);
    const kept = [
      await ended("completed", 2),
      await ended("failed", 10),
      (
        await database.query<{ id: string }>(
          "insert into jobcast.jobs (owner_id, type) values ('ada', 't') returning id",
        )
      )[0]?.id ?? "",
    ];
    expect(await prune("completed", 5)).toEqual({ removed: 1, has_more: false });
    expect(await idsOf("select id from jobcast.jobs")).toEqual(kept.sort());
    expect(
      await idsOf(`select job_id as id from jobcast.status_history where job_id = '${old}'`),
    ).toEqual([]);
    expect(await idsOf("select job_id as id from jobcast.deletions")).toEqual([old]);
  });

  it("takes its batch with it, once that is empty", async () => {
    const [batch] = await database.query<{ id: string }>(
      `select (jobcast.create_batch('ada', 'b', '[{"type":"t"}]')).id`,
    );
    const id = batch?.id ?? "";
    const other = await ended("completed", 10, id);
    await database.query(
      "update jobcast.jobs set status = 'completed' where batch_id = $1 and id <> $2",
      [id, other],
    );
    await prune("completed", 5);
    expect(await idsOf("select id from jobcast.batches")).toEqual([id]);
    for (const job of await idsOf("select id from jobcast.jobs")) await age(job, 10);
    await prune("completed", 5);
    expect(await idsOf("select id from jobcast.batches")).toEqual([]);
  });

  it("goes in steps of a size, the oldest first", async () => {
    const jobs = [await ended("failed", 30), await ended("failed", 20), await ended("failed", 10)];
    expect(await prune("failed", 5, 2)).toEqual({ removed: 2, has_more: true });
    expect(await idsOf("select id from jobcast.jobs")).toEqual([jobs[2]]);
    expect(await prune("failed", 5, 2)).toEqual({ removed: 1, has_more: false });
  });

  it("is left to whoever is at it already, and what is locked to its turn", async () => {
    const id = await ended("completed", 10);
    const other = await database.connect();
    await other.query("begin; select from jobcast.retention where kind = 'completed' for update");
    expect(await prune("completed", 5)).toEqual({ removed: 0, has_more: false });
    await other.query("rollback; begin");
    await other.query("select from jobcast.jobs where id = $1 for update", [id]);
    expect(await prune("completed", 5)).toEqual({ removed: 0, has_more: false });
    await other.query("rollback");
    expect(await prune("completed", 5)).toEqual({ removed: 1, has_more: false });
  });

  it("of steps leaves how each attempt came into each status, and the newest version", async () => {
    const id = await ended("failed", 0);
    await database.query("select jobcast.retry_job($1)", [id]);
    for (const progress of [50, 60]) {
      await database.query("update jobcast.jobs set progress = $2 where id = $1", [id, progress]);
    }
    await database.query("update jobcast.jobs set status = 'completed' where id = $1", [id]);
    await age(id, 10);
    const open = await ended("completed", 2);
    expect(await prune("steps of completed", 5)).toEqual({ removed: 3, has_more: false });
    const rows = await database.query(
      "select version, attempt, status from jobcast.status_history where job_id = $1 order by version",
      [id],
    );
    expect(rows.map((row) => Object.values(row).join(" "))).toEqual([
      "1 1 pending",
      "2 1 processing",
      "5 1 failed",
      "6 2 pending",
      "7 2 processing",
      "9 2 completed",
    ]);
    // It is not looked at again, and what grows old later is.
    expect(await prune("steps of completed", 5)).toEqual({ removed: 0, has_more: false });
    await age(open, 5);
    expect(await prune("steps of completed", 5)).toEqual({ removed: 2, has_more: false });
  });

  it("of deliveries, deletions and keys is forgotten, and a key is no news of its job", async () => {
    const [job] = await database.query<{ id: string; updated_at: Date; version: number }>(
      "insert into jobcast.jobs (owner_id, type, idempotency_key) values ('ada', 't', 'once') returning *",
    );
    await database.query(
      `insert into jobcast.webhook_deliveries (job_id, webhook_id, received_at)
       values ($1, 'old', now() - interval '9 days'), ($1, 'new', now())`,
      [job?.id],
    );
    await database.query(
      `insert into jobcast.deletions (job_id, version, status, owner_id, occurred_at)
       values (gen_random_uuid(), 2, 'failed', 'ada', now() - interval '9 days')`,
    );
    expect(await prune("deliveries", 5)).toMatchObject({ removed: 1 });
    expect(await prune("deletions", 5)).toMatchObject({ removed: 1 });
    expect(await prune("keys", 5)).toMatchObject({ removed: 0 });
    await age(job?.id ?? "", 10);
    expect(await prune("keys", 5)).toMatchObject({ removed: 1 });
    const [same] = await database.query("select * from jobcast.jobs where id = $1", [job?.id]);
    expect(same).toMatchObject({
      updated_at: job?.updated_at,
      version: job?.version,
      idempotency_key: null,
    });
  });

  it("is nothing that somebody else may remove", async () => {
    await expect(prune("jobs", 5)).rejects.toMatchObject({ code: "22023" });
    const [row] = await database.query<{ may: boolean }>(
      "select has_function_privilege('public', 'jobcast.prune(text, interval, integer)', 'execute') as may",
    );
    expect(row?.may).toBe(false);
  });
});

describe("the service", () => {
  it("removes what it was told to, tells who watches, and counts", async () => {
    const [kept, old] = [await ended("failed", 300), await ended("completed", 40)];
    server = await startTestServer({
      databaseUrl: database.url,
      retention: { completedDays: 30, stepsDays: 100 },
    });
    await until(
      async () => !(await idsOf("select id from jobcast.jobs")).includes(old),
      10_000,
      "the old one to go",
    );
    const steps = `select version::text as id from jobcast.status_history where job_id = '${kept}'`;
    await until(async () => (await idsOf(steps)).length === 3, 10_000, "its steps to go");
    const isCounted = async () => {
      const { body } = await (server as TestServer).call("GET", "/v1/stats");
      return body.retention.sweptAgoMs !== null && body.retention;
    };
    const retention = await until(isCounted, 10_000, "a whole look");
    expect(retention.removed).toMatchObject({ completed: 1, "steps of failed": 2, deletions: 0 });
    const answer = await fetch(`${server.url}/metrics`);
    const text = await answer.text();
    expect(text).toContain('jobcast_retention_removed_total{kind="completed"} 1');
    expect(text).toMatch(/jobcast_retention_sweep_age_seconds \d/);
    // A viewer that was in the middle of what was removed starts over.
    const stream = await openStream({
      url: server.url,
      path: `/v1/jobs/${kept}/events`,
      token: server.token({ sub: "ada" }),
      lastEventId: "2",
    });
    streams.push(stream);
    expect((await stream.next()).type).toBe("reset");
  });

  it("removes nothing unless it is told to", async () => {
    const id = await ended("completed", 4_000);
    server = await startTestServer({ databaseUrl: database.url });
    const hasSwept = async () => {
      const { body } = await (server as TestServer).call("GET", "/v1/stats");
      return body.retention.sweptAgoMs !== null;
    };
    await until(hasSwept, 10_000, "a whole look");
    expect(await idsOf("select id from jobcast.jobs")).toEqual([id]);
  });
});
