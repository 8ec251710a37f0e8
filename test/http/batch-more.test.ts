import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Edge, startEdge } from "../stream/edge.ts";
import type { TokenClaims } from "../support/tokens.ts";

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge();
});
afterAll(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

const backend = { sub: "backend", scope: "jobs:write" };
const newOwner = () => `owner-${randomUUID()}`;

async function call(method: string, path: string, body?: unknown, claims: TokenClaims = backend) {
  return edge.server.call(method, path, body, claims);
}

async function withKey(path: string, key: string, body: object) {
  const response = await fetch(new URL(path, edge.server.url), {
    method: "POST",
    headers: {
      authorization: `Bearer ${edge.server.token(backend)}`,
      "content-type": "application/json",
      "idempotency-key": key,
    },
    body: JSON.stringify(body),
  });
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever came
  return { status: response.status, body: (await response.json()) as any };
}

const jobs = (count: number, more: object = {}) =>
  Array.from({ length: count }, (_, index) => ({ type: "mesh", title: `${index}`, ...more }));

async function create(ownerId: string, count: number, more: object = {}) {
  const answer = await call("POST", "/v1/batches", { ownerId, jobs: jobs(count), ...more });
  expect([answer.status, answer.body.detail]).toEqual([201, undefined]);
  return answer.body;
}

const read = async (id: string) => (await call("GET", `/v1/batches/${id}`)).body;

const write = (set: string, id: string) =>
  edge.db.query(`update jobcast.jobs set ${set} where batch_id = $1`, [id]);

describe("POST /v1/batches/{id}/jobs", () => {
  it("adds jobs in their order, which the batch counts and its streams tell", async () => {
    const owner = newOwner();
    const { id } = await create(owner, 1);
    const stream = await edge.open(`/v1/events?batchId=${id}`, {
      token: edge.server.token(backend),
    });
    await stream.next();
    const added = await call("POST", `/v1/batches/${id}/jobs`, { jobs: jobs(1_000) });
    expect(added.status).toBe(201);
    const titles = added.body.items.map(({ title }: { title: string }) => title);
    expect(titles).toEqual(jobs(1_000).map(({ title }) => title));
    const [first] = added.body.items;
    expect(first).toMatchObject({ batchId: id, ownerId: owner, source: "api", status: "pending" });
    expect(first.links.callback).toContain("/v1/callbacks/");
    await stream.take(1_000);
    await stream.close();
    expect(await read(id)).toMatchObject({ total: 1_001, status: "pending" });
  });

  it("counts once with a key, also when equal requests come at once", async () => {
    const { id } = await create(newOwner(), 1);
    const path = `/v1/batches/${id}/jobs`;
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => withKey(path, "k", { jobs: jobs(3) })),
    );
    const ids = answers.map(({ body }) => body.items.map((job: { id: string }) => job.id).join());
    expect(new Set(ids).size).toBe(1);
    expect(answers[0]?.body.items).toHaveLength(3);
    expect(await read(id)).toMatchObject({ total: 4 });
    const other = await withKey(path, "k", { jobs: jobs(2) });
    expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
  });

  it("lets a batch that had ended go on", async () => {
    const { id } = await create(newOwner(), 1);
    await write("status = 'completed'", id);
    expect(await read(id)).toMatchObject({ status: "completed", progress: 100 });
    await call("POST", `/v1/batches/${id}/jobs`, { jobs: jobs(1) });
    const batch = await read(id);
    expect(batch).toMatchObject({ status: "processing", progress: 50, finishedAt: null });
  });

  it("charges all or nothing", async () => {
    const owner = newOwner();
    await edge.db.query("select jobcast.grant_credits($1, 25)", [owner]);
    const { id } = await create(owner, 1);
    const path = `/v1/batches/${id}/jobs`;
    const poor = await call("POST", path, { jobs: jobs(3, { credits: 10 }) });
    expect([poor.status, poor.body.credits]).toEqual([402, { needed: 30, balance: 25 }]);
    expect((await call("POST", path, { jobs: jobs(2, { credits: 10 }) })).status).toBe(201);
    expect(await read(id)).toMatchObject({ total: 3 });
  });

  it("is not found for who may not see the batch, and refused to who may only see it", async () => {
    const owner = newOwner();
    const { id } = await create(owner, 1);
    const as = async (sub: string, scope: string) =>
      (await call("POST", `/v1/batches/${id}/jobs`, { jobs: jobs(1) }, { sub, scope })).status;
    expect(await as(owner, "jobs:create")).toBe(201);
    expect(await as(owner, "")).toBe(403);
    expect(await as("x", "jobs:create")).toBe(404);
    expect(await as("x", "jobs:create jobs:read")).toBe(403);
    expect((await call("POST", `/v1/batches/${randomUUID()}/jobs`, { jobs: jobs(1) })).status).toBe(
      404,
    );
    for (const wrong of [[], jobs(1_001)]) {
      expect((await call("POST", `/v1/batches/${id}/jobs`, { jobs: wrong })).status).toBe(400);
    }
  });
});

describe("POST /v1/batches/{id}/retry", () => {
  it("tries again what failed or timed out, and nothing else", async () => {
    const { id, jobs: made } = await create(newOwner(), 5);
    const ends = ["failed", "timeout", "cancelled", "completed"];
    for (const [index, status] of ends.entries()) {
      await call("PATCH", `/v1/jobs/${made[index].id}`, { status });
    }
    const { status, body } = await call("POST", `/v1/batches/${id}/retry`, { message: "Again" });
    expect([status, body.status, body.failed, body.completed]).toEqual([200, "processing", 1, 1]);
    const list = await call("GET", `/v1/jobs?batchId=${id}`);
    const states = list.body.items.map((job: { title: string; status: string; attempt: number }) =>
      [job.title, job.status, job.attempt].join(" "),
    );
    expect(states.toSorted()).toEqual([
      ...["0 pending 2", "1 pending 2", "2 cancelled 1", "3 completed 1", "4 pending 1"],
    ]);
  });

  it("charges once with a key", async () => {
    const owner = newOwner();
    await edge.db.query("select jobcast.grant_credits($1, 100)", [owner]);
    const { id } = await create(owner, 2, { jobs: jobs(2, { credits: 10 }) });
    await write("status = 'failed'", id);
    const retries = Array.from({ length: 4 }, () => withKey(`/v1/batches/${id}/retry`, "k", {}));
    expect((await Promise.all(retries)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await write("status = 'failed'", id);
    await withKey(`/v1/batches/${id}/retry`, "k", {});
    expect(await read(id)).toMatchObject({ status: "failed", failed: 2 });
    const [account] = await edge.db.query<{ balance: number }>(
      "select balance from jobcast.credit_accounts where owner_id = $1",
      [owner],
    );
    expect(account?.balance).toBe(100);
  });
});

describe("a batch", () => {
  it("has metadata, exactly as it was given", async () => {
    const text = `{"jobs":[{"type":"t"}],"metadata":{"chat":750727362669608961,"deep":{"a":[1.10]}}}`;
    const response = await fetch(new URL("/v1/batches", edge.server.url), {
      method: "POST",
      headers: {
        authorization: `Bearer ${edge.server.token(backend)}`,
        "content-type": "application/json",
      },
      body: text,
    });
    const made = await response.text();
    expect([response.status, made]).toEqual([201, expect.stringContaining("750727362669608961")]);
    const { id } = JSON.parse(made);
    const get = await fetch(new URL(`/v1/batches/${id}`, edge.server.url), {
      headers: { authorization: `Bearer ${edge.server.token(backend)}` },
    });
    expect(await get.text()).toContain(
      '"metadata":{"chat": 750727362669608961, "deep": {"a": [1.10]}}',
    );
    const stream = await edge.open(`/v1/batches/${id}/events`, {
      token: edge.server.token(backend),
    });
    expect((await stream.next()).data).toContain("750727362669608961");
    await stream.close();
  });

  it("leaves large metadata out of lists and events, and says so", async () => {
    const large = { text: "x".repeat(20_000) };
    const owner = newOwner();
    const { id } = await create(owner, 1, { metadata: large });
    expect(await read(id)).toMatchObject({ metadata: large });
    const { body } = await call("GET", `/v1/batches?ownerId=${owner}`);
    expect(body.items).toMatchObject([{ id, metadata: null, omitted: ["metadata"] }]);
    const refused = await call("POST", "/v1/batches", { jobs: jobs(1), metadata: [1] });
    expect(refused.status).toBe(400);
  });

  it("is listed by its status", async () => {
    const owner = newOwner();
    const [ended, open] = [await create(owner, 1), await create(owner, 1)];
    await write("status = 'cancelled'", ended.id);
    const list = async (query: string) => {
      const { body } = await call("GET", `/v1/batches?ownerId=${owner}&${query}`);
      return body.items.map(({ id }: { id: string }) => id);
    };
    expect(await list("status=canceled")).toEqual([ended.id]);
    expect(await list("status=pending,processing")).toEqual([open.id]);
    expect((await call("GET", "/v1/batches?status=done")).status).toBe(400);
  });

  it("is not done before its last job is, however near", async () => {
    const { id, jobs: made } = await create(newOwner(), 3);
    await write("progress = 99.999", id);
    expect(await read(id)).toMatchObject({ progress: 99.99, status: "processing" });
    for (const job of made.slice(1)) await edge.complete(job.id);
    expect(await read(id)).toMatchObject({ progress: 99.99, status: "processing" });
    await edge.complete(made[0].id);
    expect(await read(id)).toMatchObject({ progress: 100, status: "completed" });
  });

  it("is estimated by the time in which it was worked on, not by that in which nothing ran", async () => {
    const { id, jobs: made } = await create(newOwner(), 2);
    const [first] = made;
    await edge.report(first.id, 50);
    // An hour ago it began; for the last minute of it a job ran.
    await edge.db.query(
      `update jobcast.batches set started_at = now() - interval '1 hour', ran_seconds = 0,
         updated_at = now() - interval '60 seconds' where id = $1`,
      [id],
    );
    await edge.complete(first.id);
    const half = await read(id);
    expect(half.progress).toBe(50);
    expect(half.estimatedSecondsRemaining).toBeGreaterThanOrEqual(60);
    expect(half.estimatedSecondsRemaining).toBeLessThan(600);
    // Then nothing ran for a day.
    await edge.db.query(
      "update jobcast.batches set updated_at = now() - interval '1 day' where id = $1",
      [id],
    );
    await edge.report(made[1].id, 50);
    const later = await read(id);
    expect(later.progress).toBe(75);
    expect(later.estimatedSecondsRemaining).toBeLessThan(600);
  });
});
