import type pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { withoutNewSessions } from "../feed/listener.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { deliver } from "./provider.ts";

let database: TestDatabase;
let server: TestServer;
let worker: pg.Client;
let id: string;
let callback: string;

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  const { body } = await server.call("POST", "/v1/jobs", { type: "render" });
  ({ id } = body);
  callback = body.links.callback;
  // As docs/sql.md says: the job is changed in the transaction that does the work.
  worker = await database.connect();
  await worker.query("begin");
  await worker.query("select jobcast.report_progress($1, 10)", [id]);
});
afterEach(async () => {
  await server.stop();
  await database.drop();
});

const owner = { sub: "alice", scope: "" };

async function backends(): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `select count(*) from pg_stat_activity where datname = current_database()
     and application_name like 'jobcast%' and application_name <> 'jobcast tests'`,
  );
  return row?.count ?? 0;
}

async function waitingForLocks(): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `select count(*) from pg_stat_activity where datname = current_database()
     and application_name like 'jobcast %writes' and wait_event_type = 'Lock'`,
  );
  return row?.count ?? 0;
}

const readyz = async () => (await fetch(`${server.url}/readyz`)).status;

describe("a job that a worker's open transaction holds", () => {
  it("cannot be cancelled by its owner, however often, and takes nothing else away", async () => {
    const ROUNDS = 4;
    let served = 0;
    const cancelling = (async () => {
      const answers = [];
      while (served < ROUNDS) {
        const cancels = Array.from({ length: 30 }, () =>
          server.call("POST", `/v1/jobs/${id}/cancel`, undefined, owner),
        );
        answers.push(...(await Promise.all(cancels)));
      }
      return answers;
    })();
    while (served < ROUNDS) {
      const bob = { sub: "bob", scope: "jobs:create" };
      const answers = await Promise.all([
        server.call("GET", "/v1/jobs", undefined, bob),
        server.call("GET", `/v1/jobs/${id}`, undefined, owner),
        server.call("POST", "/v1/jobs", { type: "x" }, bob),
        server.call("GET", `/v1/jobs/${id}/events?wait=0`, undefined, owner),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 201, 200]);
      expect(await readyz()).toBe(200);
      expect(await backends()).toBeLessThanOrEqual(12 + 2 + 2);
      served += 1;
    }
    for (const { status, headers, body } of await cancelling) {
      expect([status, body.code]).toEqual([409, "locked"]);
      expect(headers.get("retry-after")).toMatch(/^[123]$/);
    }
    await worker.query("commit");
    // Nothing that was answered as refused is done later.
    await until(async () => (await waiting()) === 0, 5_000, "nobody to wait any more");
    const { body } = await server.call("GET", `/v1/jobs/${id}`);
    expect(body).toMatchObject({ status: "processing", progress: 10, version: 2 });
    expect((await server.call("POST", `/v1/jobs/${id}/cancel`, undefined, owner)).status).toBe(200);
  }, 60_000);

  it("is told from the others in the update of many", async () => {
    const other = (await server.call("POST", "/v1/jobs", { type: "render" })).body.id;
    const updates = [id, other].map((each) => ({ id: each, progress: 50 }));
    const { status, body } = await server.call("PATCH", "/v1/jobs", { updates });
    expect(status).toBe(200);
    expect(body.results[0]).toMatchObject({
      id,
      ok: false,
      problem: { code: "locked", status: 409 },
    });
    expect(body.results[1]).toMatchObject({ id: other, ok: true, job: { progress: 50 } });
  });

  it("or whose owner's account it holds, is told from those whose is free", async () => {
    const make = async (ownerId: string, credits: number) => {
      await server.call("POST", "/v1/credits/grants", { ownerId, amount: 100 });
      const { body } = await server.call("POST", "/v1/jobs", { type: "x", ownerId, credits });
      return body.id;
    };
    const [held, free, unpaid] = [await make("ann", 5), await make("bob", 5), await make("ann", 0)];
    await worker.query("select jobcast.create_job('ann', 'x', credits => 1)");
    const updates = [held, free, unpaid].map((each) => ({ id: each, status: "failed" }));
    const { status, body } = await server.call("PATCH", "/v1/jobs", { updates });
    expect(status).toBe(200);
    expect(body.results).toMatchObject([
      { id: held, ok: false, problem: { code: "locked" } },
      { id: free, ok: true, job: { status: "failed" } },
      { id: unpaid, ok: true, job: { status: "failed" } },
    ]);
  });

  it("makes nobody say that the others were not updated, whatever comes after them", async () => {
    const other = (await server.call("POST", "/v1/jobs", { type: "render" })).body.id;
    const updates = [id, other].map((each) => ({ id: each, progress: 50 }));
    const answer = server.call("PATCH", "/v1/jobs", { updates });
    const isDone = async () =>
      (await database.query("select from jobcast.jobs where id = $1 and version = 2", [other]))
        .length > 0;
    await until(isDone, 5_000, "the other to be updated");
    await withoutNewSessions(database, async () => {
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobcast writes' and datname = current_database()",
      );
      const { status, body } = await answer;
      expect(status).toBe(200);
      expect(body.results[0]).toMatchObject({
        id,
        ok: false,
        problem: { code: "database_unavailable" },
      });
      expect(body.results[1]).toMatchObject({ id: other, ok: true, job: { progress: 50 } });
    });
  });

  it("keeps no deliveries for other owners' jobs waiting", async () => {
    const make = async (ownerId: string) => {
      const { body } = await server.call("POST", "/v1/jobs", { type: "render", ownerId });
      return body;
    };
    const held = await Promise.all(Array.from({ length: 24 }, () => make("ann")));
    for (const job of held) {
      await worker.query("select jobcast.report_progress($1, 10)", [job.id]);
    }
    const free = await make("bob");
    const delivered: string[] = [];
    const waiting = held.map(async ({ links }) => {
      const { status } = await deliver(server, links.callback, { status: "completed" });
      delivered.push(`ann ${status}`);
    });
    await until(
      async () => (await waitingForLocks()) > 0,
      5_000,
      "one of ann's deliveries to wait for its job",
    );
    const { status } = await deliver(server, free.links.callback, { status: "completed" });
    expect(status).toBe(200);
    expect(delivered.length).toBeLessThan(held.length);
    await Promise.all(waiting);
    expect(new Set(delivered)).toEqual(new Set(["ann 503"]));
  });

  it("keeps no place from others, however many owners wait for theirs", async () => {
    const owners = Array.from({ length: 24 }, (_, index) => ({ sub: `owner ${index}`, scope: "" }));
    const held = await Promise.all(
      owners.map(async ({ sub }) => {
        const { body } = await server.call("POST", "/v1/jobs", { type: "render", ownerId: sub });
        return body.id;
      }),
    );
    for (const each of held) await worker.query("select jobcast.report_progress($1, 10)", [each]);
    let refused = 0;
    const cancels = owners.map(async (who, index) => {
      const path = `/v1/jobs/${held[index]}/cancel`;
      const { status } = await server.call("POST", path, undefined, who);
      refused += 1;
      return status;
    });
    await until(async () => (await waiting()) > 0, 5_000, "somebody to wait for his job");
    const { status } = await server.call("POST", "/v1/jobs", { type: "x" }, { sub: "zoe" });
    expect(status).toBe(201);
    expect(refused).toBeLessThan(held.length / 2);
    expect(new Set(await Promise.all(cancels))).toEqual(new Set([409]));
  }, 30_000);

  it("makes its provider deliver again, who would give up after a 409", async () => {
    const { status, headers, body } = await deliver(server, callback, { status: "completed" });
    expect([status, body.code]).toEqual([503, "overloaded"]);
    expect(headers.get("retry-after")).toMatch(/^\d$/);
    await worker.query("rollback");
    const again = await deliver(server, callback, { status: "completed" });
    expect(again.body).toMatchObject({ applied: true, status: "completed", version: 2 });
  });

  it.each([
    ["a custom event", "POST", "/events", { event: "preview", data: 1 }],
    ["a new title", "PATCH", "", { title: "Other" }],
    ["its deletion", "DELETE", "", undefined],
    ["its retry", "POST", "/retry", undefined],
  ])("refuses %s, and does it when the lock is gone", async (_, method, path, body) => {
    const isFinal = method === "DELETE" || path === "/retry";
    await worker.query("rollback");
    if (isFinal) await server.call("PATCH", `/v1/jobs/${id}`, { status: "failed" });
    await worker.query("begin");
    await worker.query("select from jobcast.jobs where id = $1 for update", [id]);
    const change = () => server.call(method, `/v1/jobs/${id}${path}`, body);
    const refused = await change();
    expect([refused.status, refused.body.code]).toEqual([409, "locked"]);
    expect(await readyz()).toBe(200);
    await worker.query("rollback");
    expect((await server.call("GET", `/v1/jobs/${id}`)).body.version).toBe(isFinal ? 2 : 1);
    expect((await change()).status).toBeLessThan(300);
  });

  it.each([
    ["retry", "POST", "/retry", undefined],
    ["deletion", "DELETE", "", undefined],
  ])("does not keep the %s of its batch for ever", async (_, method, path, body) => {
    const batch = await server.call("POST", "/v1/batches", { jobs: [{ type: "x" }] });
    const [job] = batch.body.jobs;
    await server.call("PATCH", `/v1/jobs/${job.id}`, { status: "failed" });
    await worker.query("select from jobcast.jobs where id = $1 for update", [job.id]);
    const change = () => server.call(method, `/v1/batches/${batch.body.id}${path}`, body);
    const refused = await change();
    expect([refused.status, refused.body.code]).toEqual([409, "locked"]);
    await worker.query("rollback");
    expect((await change()).status).toBeLessThan(300);
  });

  it("adds to its batch without waiting for it", async () => {
    const batch = await server.call("POST", "/v1/batches", { jobs: [{ type: "x" }] });
    await worker.query("select jobcast.report_progress($1, 10)", [batch.body.jobs[0].id]);
    const path = `/v1/batches/${batch.body.id}/jobs`;
    expect((await server.call("POST", path, { jobs: [{ type: "y" }] })).status).toBe(201);
  });

  it.each([
    ["POST", "/v1/credits/adjustments", { amount: -1, reason: "refund" }],
    ["PATCH", "/v1/credits", { overdraft: 5 }],
  ])(
    "whose owner's account it holds: %s %s is refused, and done later",
    async (method, path, by) => {
      await server.call("POST", "/v1/credits/grants", { ownerId: "ann", amount: 100 });
      await worker.query("select jobcast.create_job('ann', 'x', credits => 1)");
      const change = () => server.call(method, path, { ownerId: "ann", ...by });
      const refused = await change();
      expect([refused.status, refused.body.code]).toEqual([409, "locked"]);
      await worker.query("rollback");
      expect((await change()).status).toBeLessThan(300);
    },
  );

  it("does not keep the cancellation of its batch for ever", async () => {
    const batch = await server.call("POST", "/v1/batches", {
      jobs: [{ type: "x" }, { type: "y" }],
    });
    const [job] = batch.body.jobs;
    await worker.query("select jobcast.report_progress($1, 10)", [job.id]);
    const path = `/v1/batches/${batch.body.id}/cancel`;
    const refused = await server.call("POST", path);
    expect([refused.status, refused.body.code]).toEqual([409, "locked"]);
    await worker.query("rollback");
    expect((await server.call("POST", path)).body.status).toBe("cancelled");
  });
});

async function waiting(): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `select count(*) from pg_stat_activity where datname = current_database()
     and application_name like 'jobcast%' and wait_event_type = 'Lock'`,
  );
  return row?.count ?? 0;
}
