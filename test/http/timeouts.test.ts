import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

let database: TestDatabase;
const servers: TestServer[] = [];

async function start(): Promise<TestServer> {
  const server = await startTestServer({ databaseUrl: database.url });
  servers.push(server);
  return server;
}

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  await database.drop();
});

/** Lets the deadline pass without waiting for it. */
const expire = (id: string) =>
  database.query("update jobcast.jobs set timeout_at = clock_timestamp() where id = $1", [id]);

const deadlineOf = async (id: string) =>
  (
    await database.query<{ timeout_at: Date | null }>(
      "select timeout_at from jobcast.jobs where id = $1",
      [id],
    )
  )[0]?.timeout_at;

describe("an overdue job", () => {
  it("ends as timeout within moments, on the stream, in the history and with a refund", async () => {
    const server = await start();
    await database.query("select jobcast.grant_credits('alice', 10)");
    const { body: job } = await server.call("POST", "/v1/jobs", {
      type: "image",
      credits: 10,
      timeoutSeconds: 1,
    });
    expect(job.timeoutAt).not.toBeNull();
    const stream = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(),
    });
    const end = await stream.next(({ data }) => data.includes('"timeout"'));
    expect(JSON.parse(end.data)).toMatchObject({
      status: "timeout",
      source: "sweeper",
      error: { code: "timeout" },
    });
    await stream.ended;
    expect((await server.call("GET", "/v1/credits")).body.balance).toBe(10);
    expect((await server.call("GET", job.links.self)).body.credits).toEqual({
      charged: 10,
      refunded: 10,
    });
  });

  it("is ended once, by one of several processes that sweep", async () => {
    await Promise.all([start(), start(), start()]);
    await database.query(
      `insert into jobcast.jobs (owner_id, type, timeout_at)
       select 'alice', 'image', clock_timestamp() from generate_series(1, 2500)`,
    );
    const isOver = async () => {
      const [row] = await database.query<{ left: number }>(
        "select count(*) as left from jobcast.jobs where status = 'pending'",
      );
      return row?.left === 0;
    };
    await until(isOver, 20_000, "the end of 2,500 overdue jobs");
    expect(
      await database.query(
        "select status, version, count(*) from jobcast.status_history group by 1, 2 order by 2",
      ),
    ).toEqual([
      { status: "pending", version: 1, count: 2500 },
      { status: "timeout", version: 2, count: 2500 },
    ]);
  });

  it("may be retried, with a new deadline", async () => {
    const server = await start();
    const { body: job } = await server.call("POST", "/v1/jobs", {
      type: "image",
      timeoutSeconds: 600,
    });
    const stream = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(),
    });
    await expire(job.id);
    await stream.ended;
    const { body } = await server.call("POST", `${job.links.self}/retry`);
    expect(body).toMatchObject({ status: "pending", attempt: 2 });
    expect(new Date(body.timeoutAt).getTime()).toBeGreaterThan(Date.now() + 500_000);
  });
});

describe("the deadline of a job", () => {
  it("is its type's when it says none of its own", async () => {
    const server = await start();
    await database.query(
      "insert into jobcast.job_types (type, timeout_seconds) values ('video', 3600)",
    );
    const seconds = async (body: object) => {
      const { body: job } = await server.call("POST", "/v1/jobs", body);
      return (
        job.timeoutAt && Math.round((Date.parse(job.timeoutAt) - Date.parse(job.createdAt)) / 1000)
      );
    };
    expect(await seconds({ type: "video" })).toBe(3600);
    expect(await seconds({ type: "video", timeoutSeconds: 60 })).toBe(60);
    expect(await seconds({ type: "image" })).toBeNull();
  });

  it("is pushed by any update of a job that asks for it, and by none of one that does not", async () => {
    const server = await start();
    const create = async (timeoutExtends: boolean) =>
      (
        await server.call("POST", "/v1/jobs", {
          type: "image",
          timeoutSeconds: 600,
          timeoutExtends,
        })
      ).body.id as string;
    const [beating, silent] = [await create(true), await create(false)];
    for (const id of [beating, silent]) {
      const before = await deadlineOf(id);
      // A heartbeat that reports nothing new is no version.
      const { status, body } = await server.call("PATCH", `/v1/jobs/${id}`, {});
      expect([status, body.version]).toEqual([200, 1]);
      const after = await deadlineOf(id);
      if (id === beating) expect(after?.getTime()).toBeGreaterThan(before?.getTime() ?? 0);
      else expect(after).toEqual(before);
    }
    await server.call("PATCH", `/v1/jobs/${beating}`, { status: "completed" });
    const end = await deadlineOf(beating);
    await server.call("PATCH", `/v1/jobs/${beating}`, { status: "completed" });
    expect(await deadlineOf(beating)).toEqual(end);
  });
});

describe("estimates", () => {
  it("follow from progress and elapsed time, and are null where they would be guesses", async () => {
    const server = await start();
    const { body: job } = await server.call("POST", "/v1/jobs", { type: "image" });
    const patch = async (progress: number) =>
      (await server.call("PATCH", `/v1/jobs/${job.id}`, { progress })).body
        .estimatedSecondsRemaining;
    expect(await patch(1)).toBeNull(); // it has just begun
    // As if it had begun a hundred seconds ago, which no writer can say.
    await database.query("alter table jobcast.jobs disable trigger _100_on_update");
    await database.query(
      "update jobcast.jobs set started_at = clock_timestamp() - interval '100 seconds'",
    );
    await database.query("alter table jobcast.jobs enable trigger _100_on_update");
    expect(await patch(25)).toBe(300);
    expect(await patch(80)).toBe(25);
    expect(await patch(100)).toBeNull();
  });
});
