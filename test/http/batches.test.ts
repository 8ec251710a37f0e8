import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  batchListSchema,
  batchResourceSchema,
  createdBatchSchema,
} from "../../src/protocol/batch.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Answer, startTestServer, type TestServer } from "../support/server.ts";
import type { TokenClaims } from "../support/tokens.ts";
import { deliver } from "./provider.ts";

let database: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});
afterAll(async () => {
  await server.stop();
  await database.drop();
});

let owners = 0;
const newOwner = () => `owner-${++owners}`;
const as = (sub: string, scope = "") => ({ sub, scope });

const create = (body: object, claims = as(newOwner(), "jobs:create")) =>
  server.call("POST", "/v1/batches", body, claims);

const meshes = (count: number, more: object = {}) => ({
  title: "Meshes",
  jobs: Array.from({ length: count }, (_, index) => ({
    type: "mesh",
    title: `mesh ${index}`,
    ...more,
  })),
});

async function createWithKey(key: string, body: object, sub: string): Promise<Answer> {
  const response = await fetch(new URL("/v1/batches", server.url), {
    method: "POST",
    headers: {
      authorization: `Bearer ${server.token(as(sub, "jobs:create"))}`,
      "content-type": "application/json",
      "idempotency-key": key,
    },
    body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

async function countJobs(owner: string): Promise<number> {
  return (await server.call("GET", `/v1/jobs?owner=${owner}&offset=0`)).body.total;
}

describe("POST /v1/batches", () => {
  it("takes whole numbers however JSON writes them", async () => {
    const answer = await fetch(new URL("/v1/batches", server.url), {
      method: "POST",
      headers: {
        authorization: `Bearer ${server.token(as(newOwner(), "jobs:create"))}`,
        "content-type": "application/json",
      },
      body: '{"jobs":[{"type":"t","timeoutSeconds":60.0},{"type":"t","timeoutSeconds":6e1}]}',
    });
    expect(answer.status).toBe(201);
    const { jobs } = createdBatchSchema.parse(await answer.json());
    for (const { createdAt, timeoutAt } of jobs) {
      expect(Date.parse(timeoutAt ?? "") - Date.parse(createdAt)).toBe(60_000);
    }
  });

  it("creates a batch and its jobs, in the order of the request, each with its callback", async () => {
    const owner = newOwner();
    const answer = await create(
      {
        title: "Two",
        jobs: [
          { type: "mesh", title: "a", params: [1, null], metadata: { k: "v" }, timeoutSeconds: 60 },
          { type: "image", timeoutExtends: true },
        ],
      },
      as(owner, "jobs:create"),
    );
    expect(answer.status).toBe(201);
    const { jobs, ...batch } = createdBatchSchema.strict().parse(answer.body);
    expect(batch).toMatchObject({
      ownerId: owner,
      title: "Two",
      total: 2,
      completed: 0,
      failed: 0,
      progress: 0,
      status: "pending",
      finishedAt: null,
      links: {
        self: `/v1/batches/${batch.id}`,
        events: `/v1/batches/${batch.id}/events`,
        jobs: `/v1/jobs?batchId=${batch.id}`,
      },
    });
    expect(answer.headers.get("location")).toBe(batch.links.self);
    expect(jobs).toMatchObject([
      { type: "mesh", title: "a", params: [1, null], metadata: { k: "v" }, ownerId: owner },
      { type: "image", title: null, params: null, batchId: batch.id, source: "api" },
    ]);
    expect(jobs[0]?.timeoutAt).not.toBeNull();
    for (const job of jobs) {
      const { body } = await deliver(server, job.links.callback, { status: "running" });
      expect(body).toMatchObject({ jobId: job.id, applied: true });
    }
  });

  it("takes a thousand jobs, in their order, and no more", async () => {
    const { status, body } = await create(meshes(1_000));
    expect(status).toBe(201);
    const titles = body.jobs.map((job: { title: string }) => job.title);
    expect(titles).toEqual(meshes(1_000).jobs.map(({ title }) => title));
    expect(body.total).toBe(1_000);
    expect((await create(meshes(1_001))).status).toBe(400);
  });

  it.each([
    ["body.jobs", { title: "t", jobs: [] }],
    ["body.jobs", { title: "t" }],
    ["body.jobs.1.type", { jobs: [{ type: "t" }, {}] }],
    ["body.jobs.0.ownerId", { jobs: [{ type: "t", ownerId: "bob" }] }],
    ["body.jobs.0.batchId", { jobs: [{ type: "t", batchId: "x" }] }],
    ["body.title", { title: 3, jobs: [{ type: "t" }] }],
  ])("refuses a wrong %s", async (path, body) => {
    const answer = await create(body);
    expect(answer).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    expect(answer.body.fields.map((field: { path: string }) => field.path)).toEqual([path]);
  });

  it("is for those who may create jobs, and for others only by a worker", async () => {
    const body = { jobs: [{ type: "t" }], ownerId: "somebody" };
    const statusFor = async (sub: string, scope: string) =>
      (await create(body, as(sub, scope))).status;
    expect(await statusFor("somebody", "jobs:read credits:grant")).toBe(403);
    expect(await statusFor("somebody", "jobs:create")).toBe(201);
    expect(await statusFor("other", "jobs:create")).toBe(403);
    expect(await statusFor("worker", "jobs:write")).toBe(201);
    expect(await countJobs("somebody")).toBe(2);
  });

  it("charges for all jobs or leaves nothing behind, and tells what all of them need", async () => {
    const owner = newOwner();
    await database.query("select jobcast.grant_credits($1, 25)", [owner]);
    const refused = await create(meshes(3, { credits: 10 }), as(owner, "jobs:create"));
    expect(refused).toMatchObject({
      status: 402,
      body: { code: "insufficient_credits", credits: { needed: 30, balance: 25 } },
    });
    expect(await countJobs(owner)).toBe(0);
    expect((await server.call("GET", "/v1/batches", undefined, as(owner))).body.items).toEqual([]);
    const made = await create(meshes(2, { credits: 10 }), as(owner, "jobs:create"));
    expect(made.body.jobs[1].credits).toEqual({ charged: 10, refunded: 0 });
    const { body } = await server.call("GET", "/v1/credits", undefined, as(owner));
    expect(body.balance).toBe(5);
  });

  it("makes one batch of equal requests under one key, also at once, and charges once", async () => {
    const owner = newOwner();
    await database.query("select jobcast.grant_credits($1, 100)", [owner]);
    const body = meshes(3, { credits: 10 });
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => createWithKey("key", body, owner)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(201));
    const ids = answers.map(({ body: { id, jobs } }) =>
      [id, ...jobs.map((job: { id: string }) => job.id)].join(),
    );
    expect(new Set(ids).size).toBe(1);
    expect(await countJobs(owner)).toBe(3);
    expect(await createWithKey("key", meshes(4), owner)).toMatchObject({
      status: 422,
      body: { code: "idempotency_key_reused" },
    });
    expect((await createWithKey("key", body, newOwner())).status).toBe(402);
    const { body: account } = await server.call("GET", "/v1/credits", undefined, as(owner));
    expect(account.balance).toBe(70);
  });

  it("gives a request that is said again the jobs that it made, and none that were added", async () => {
    const owner = newOwner();
    const { body: first } = await createWithKey("key", meshes(2), owner);
    const added = { type: "late", batchId: first.id };
    await server.call("POST", "/v1/jobs", added, as(owner, "jobs:create"));
    const { body: again } = await createWithKey("key", meshes(2), owner);
    expect(again.total).toBe(3);
    const idsOf = (batch: { jobs: { id: string }[] }) => batch.jobs.map(({ id }) => id);
    expect(idsOf(again)).toEqual(idsOf(first));
  });
});

describe("GET /v1/batches/{id}", () => {
  it("tells how the jobs stand", async () => {
    const owner = newOwner();
    const { body: created } = await create(meshes(4), as(owner, "jobs:create"));
    const [done, failed, half] = created.jobs;
    const report = (job: { id: string }, update: object) =>
      server.call("PATCH", `/v1/jobs/${job.id}`, update);
    await report(done, { status: "completed" });
    await report(failed, { status: "failed" });
    await report(half, { progress: 50 });
    const read = () => server.call("GET", `/v1/batches/${created.id}`, undefined, as(owner));
    const batch = batchResourceSchema.strict().parse((await read()).body);
    expect(batch).toMatchObject({
      total: 4,
      completed: 1,
      failed: 1,
      progress: 62.5,
      status: "processing",
      finishedAt: null,
    });
    await report(half, { status: "completed" });
    await report(created.jobs[3], { status: "completed" });
    expect((await read()).body).toMatchObject({
      completed: 3,
      failed: 1,
      progress: 100,
      status: "completed",
      finishedAt: expect.any(String),
    });
  });

  it("is the same 404 for somebody else's, for none and for what is no id", async () => {
    const { body: foreign } = await create(meshes(1));
    const texts: string[] = [];
    for (const id of [foreign.id, "00000000-0000-7000-8000-000000000000", "no-id"]) {
      for (const [method, path] of [
        ["GET", `/v1/batches/${id}`],
        ["POST", `/v1/batches/${id}/cancel`],
        ["GET", `/v1/batches/${id}/events`],
      ] as const) {
        const { status, body } = await server.call(method, path, undefined, as("nobody"));
        expect(status).toBe(404);
        texts.push(JSON.stringify(body));
      }
    }
    expect(new Set(texts).size).toBe(1);
    for (const scope of ["jobs:read", "jobs:write"]) {
      const path = `/v1/batches/${foreign.id}`;
      expect((await server.call("GET", path, undefined, as("nobody", scope))).status).toBe(200);
    }
  });
});

describe("GET /v1/batches", () => {
  it("lists the caller's own, newest first, page by page", async () => {
    const owner = newOwner();
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) {
      ids.unshift((await create(meshes(1), as(owner, "jobs:create"))).body.id);
    }
    await create(meshes(1));
    const seen: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const path: string = `/v1/batches?limit=2${cursor && `&cursor=${cursor}`}`;
      const { body } = await server.call("GET", path, undefined, as(owner));
      const list = batchListSchema.strict().parse(body);
      seen.push(...list.items.map(({ id }) => id));
      cursor = list.nextCursor;
    }
    expect(seen).toEqual(ids);
  });

  it("shows others' only to those who may read any", async () => {
    const owner = newOwner();
    const { body: batch } = await create(meshes(1), as(owner, "jobs:create"));
    const list = (query: string, scope: string) =>
      server.call("GET", `/v1/batches${query}`, undefined, as("other", scope));
    expect((await list(`?owner=${owner}`, "")).status).toBe(403);
    expect((await list("", "")).body.items).toEqual([]);
    expect((await list(`?owner=${owner}`, "jobs:read")).body.items).toMatchObject([
      { id: batch.id },
    ]);
    expect((await list("", "jobs:read")).body.items.length).toBeGreaterThan(1);
    expect((await list("?cursor=x", "")).body.fields[0].path).toBe("query.cursor");
  });
});

describe("POST /v1/batches/{id}/cancel", () => {
  it("cancels what is unfinished and refunds it, and is no error when nothing is", async () => {
    const owner = newOwner();
    await database.query("select jobcast.grant_credits($1, 30)", [owner]);
    const { body: created } = await create(meshes(3, { credits: 10 }), as(owner, "jobs:create"));
    await server.call("PATCH", `/v1/jobs/${created.jobs[0].id}`, { status: "completed" });
    const cancel = (claims: TokenClaims, message: string) =>
      server.call("POST", `/v1/batches/${created.id}/cancel`, { message }, claims);
    expect((await cancel(as("reader", "jobs:read"), "no")).status).toBe(403);
    const { status, body } = await cancel(as(owner), "enough");
    expect(status).toBe(200);
    expect(batchResourceSchema.strict().parse(body)).toMatchObject({
      total: 3,
      completed: 1,
      failed: 2,
      progress: 100,
      status: "completed",
    });
    const { body: jobs } = await server.call("GET", `/v1/jobs?batch=${created.id}`);
    expect(jobs.items).toMatchObject([
      { status: "cancelled", message: "enough", source: "api" },
      { status: "cancelled", message: "enough", source: "api" },
      { status: "completed", message: null },
    ]);
    expect((await server.call("GET", "/v1/credits", undefined, as(owner))).body.balance).toBe(20);
    const again = await cancel(as("worker", "jobs:write"), "again");
    expect(again).toMatchObject({ status: 200, body: { version: body.version } });
  });

  it("leaves a batch cancelled when none of its jobs was done", async () => {
    const owner = newOwner();
    const { body: created } = await create(meshes(2), as(owner, "jobs:create"));
    const path = `/v1/batches/${created.id}/cancel`;
    const { body } = await server.call("POST", path, undefined, as(owner));
    expect(body).toMatchObject({ status: "cancelled", completed: 0, failed: 2 });
  });
});
