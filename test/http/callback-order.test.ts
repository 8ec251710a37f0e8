import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { deliver } from "./provider.ts";

let database: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  await database.query("select jobcast.grant_credits('alice', 1000)");
});
afterAll(async () => {
  await server.stop();
  await database.drop();
});

async function createJob(credits = 0): Promise<{ id: string; callback: string }> {
  const { body } = await server.call("POST", "/v1/jobs", { type: "image", credits });
  return { id: body.id, callback: body.links.callback };
}

async function balance(): Promise<number> {
  return (await server.call("GET", "/v1/credits")).body.balance;
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, index) =>
    permutations(items.toSpliced(index, 1)).map((rest) => [item, ...rest]),
  );
}

describe("deliveries that change nothing", () => {
  it("say so with a 200: a duplicate, a lower report, a status that was passed", async () => {
    const { id, callback } = await createJob();
    const report = { status: "processing", progress: 60, message: "sixty" };
    expect((await deliver(server, callback, report)).body).toMatchObject({ applied: true });
    for (const [late, reason] of [
      [report, "unchanged"],
      [{ progress: 59, message: "fifty-nine" }, "unchanged"],
      [{ status: "queued" }, "overtaken"],
      [{ status: "pending", progress: 70 }, "overtaken"],
    ] as const) {
      const { status, body } = await deliver(server, callback, late);
      expect([status, body]).toEqual([
        200,
        { jobId: id, status: "processing", version: 2, applied: false, reason },
      ]);
    }
  });

  it("say so after the end: it cannot become another, and said again it is the same", async () => {
    const { id, callback } = await createJob();
    await deliver(server, callback, { status: "completed", result: 1 });
    for (const [late, reason] of [
      [{ status: "completed", result: 2 }, "unchanged"],
      [{ status: "failed", error: "late" }, "job_ended"],
      [{ status: "processing", progress: 99 }, "job_ended"],
      [{ message: "still here" }, "job_ended"],
    ] as const) {
      expect((await deliver(server, callback, late)).body).toMatchObject({
        status: "completed",
        version: 2,
        applied: false,
        reason,
      });
    }
    const { body } = await server.call("GET", `/v1/jobs/${id}`);
    expect(body).toMatchObject({ version: 2, result: 1, error: null, message: null });
  });

  it("say so when the owner cancelled, and of an attempt that is over", async () => {
    const { id, callback } = await createJob();
    await server.call("POST", `/v1/jobs/${id}/cancel`);
    expect((await deliver(server, callback, { status: "success" })).body).toMatchObject({
      status: "cancelled",
      reason: "job_ended",
    });
    const retried = await server.call("POST", `/v1/jobs/${id}/retry`);
    expect((await deliver(server, callback, { status: "success" })).body).toEqual({
      jobId: id,
      status: "pending",
      version: 3,
      applied: false,
      reason: "other_attempt",
    });
    const next = await deliver(server, retried.body.links.callback, { status: "success" });
    expect(next.body).toMatchObject({ status: "completed", applied: true });
  });
});

describe("the order of deliveries", () => {
  const beginning = [
    { status: "queued", message: "waiting" },
    { status: "processing", progress: 30, stage: "noise", message: "thirty" },
    { status: "processing", progress: 70, stage: "detail", message: "seventy" },
  ];
  it.each([
    ["completed", { status: "success", message: "done", stage: "end", images: ["a.png"] }],
    ["failed", { status: "error", message: "no", stage: "end", error: "no memory" }],
  ])("makes no difference to a life that ends as %s", async (ending, end) => {
    const states = await Promise.all(
      permutations([...beginning, end]).map(async (events) => {
        const { id, callback } = await createJob();
        for (const event of [...events, ...events]) {
          expect((await deliver(server, callback, event)).status).toBe(200);
        }
        const { status, stage, message, result, error } = (
          await server.call("GET", `/v1/jobs/${id}`)
        ).body;
        return JSON.stringify({ status, stage, message, result, error });
      }),
    );
    expect(states).toHaveLength(24);
    expect(new Set(states).size).toBe(1);
    expect(JSON.parse(states[0] ?? "")).toMatchObject({ status: ending, stage: "end" });
  });

  it("makes no difference to the refund, which is one", async () => {
    const before = await balance();
    const { callback } = await createJob(40);
    expect(await balance()).toBe(before - 40);
    const failure = { status: "FAILED", error: { message: "no" } };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => deliver(server, callback, failure)),
    );
    expect(answers.filter(({ body }) => body.applied)).toHaveLength(1);
    expect(answers.filter(({ body }) => body.reason === "unchanged")).toHaveLength(19);
    expect(await balance()).toBe(before);
  });

  it("is the order of progress among reports that come at once", async () => {
    const { id, callback } = await createJob();
    const reports = Array.from({ length: 40 }, (_, index) => ({
      progress: ((index * 17) % 40) + 1,
    }));
    await Promise.all(reports.map((report) => deliver(server, callback, report)));
    const { body } = await server.call("GET", `/v1/jobs/${id}/history`);
    const progress = body.items.map((item: { progress: number }) => item.progress);
    expect(progress).toEqual(progress.toSorted((a: number, b: number) => a - b));
    expect(progress.at(-1)).toBe(40);
  });
});

describe("a delivery that fails because of us", () => {
  /** Lets every update of a job fail as it does when the server runs out of memory. */
  async function breakUpdates(): Promise<void> {
    await database.query(
      `create or replace function public.break_updates() returns trigger language plpgsql
       as $$ begin raise exception 'out of memory' using errcode = '53200'; end $$;
       create trigger broken before update on jobcast.jobs
         for each row execute function public.break_updates()`,
    );
  }

  it("is a 5xx, claims nothing, and is applied when it comes again", async () => {
    const { id, callback } = await createJob();
    const headers = { "webhook-id": "msg_broken" };
    await breakUpdates();
    const refused = await deliver(server, callback, { status: "success" }, headers);
    expect([refused.status, refused.body.code]).toEqual([503, "database_unavailable"]);
    expect(refused.headers.get("retry-after")).toMatch(/^\d+$/);
    await database.query("drop trigger broken on jobcast.jobs");
    const again = await deliver(server, callback, { status: "success" }, headers);
    expect(again.body).toMatchObject({ jobId: id, status: "completed", applied: true });
    const third = await deliver(server, callback, { status: "success" }, headers);
    expect(third.body).toMatchObject({ applied: false, reason: "duplicate" });
  });
});
