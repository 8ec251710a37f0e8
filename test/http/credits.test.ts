import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  creditAccountSchema,
  creditEntryListSchema,
  creditEntrySchema,
} from "../../src/protocol/credits.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

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

const get = (path: string, sub: string, scope = "") =>
  server.call("GET", path, undefined, { sub, scope });

async function grant(body: object, key?: string, scope = "credits:grant") {
  const response = await fetch(`${server.url}/v1/credits/grants`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${server.token({ sub: "treasurer", scope })}`,
      "content-type": "application/json",
      ...(key !== undefined && { "idempotency-key": key }),
    },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as { id: string } };
}

/** Leaves an owner with 100 granted, a job of 30 that failed and was retried, and one of 20. */
async function createLedger(owner: string): Promise<{ retried: string; other: string }> {
  await grant({ ownerId: owner, amount: 100 });
  const job = (credits: number) =>
    server.call("POST", "/v1/jobs", { type: "t", ownerId: owner, credits });
  const retried = (await job(30)).body.id;
  await server.call("PATCH", `/v1/jobs/${retried}`, { status: "failed" });
  await server.call("POST", `/v1/jobs/${retried}/retry`);
  return { retried, other: (await job(20)).body.id };
}

describe("POST /v1/credits/grants", () => {
  it("tops an account up and answers with the entry of the ledger", async () => {
    const ownerId = newOwner();
    await grant({ ownerId, amount: 5 });
    const { status, body } = await grant({ ownerId, amount: 7, reason: "A present" });
    expect(status).toBe(201);
    expect(creditEntrySchema.strict().parse(body)).toMatchObject({
      ownerId,
      jobId: null,
      attempt: null,
      kind: "grant",
      amount: 7,
      balanceAfter: 12,
      reason: "A present",
    });
    expect((await get("/v1/credits", ownerId)).body).toEqual({
      ownerId,
      balance: 12,
      overdraft: 0,
    });
  });

  it("is for those with credits:grant, and not for oneself", async () => {
    const ownerId = newOwner();
    const everythingElse = "jobs:create jobs:write jobs:read stats:read";
    expect(await grant({ ownerId, amount: 5 }, undefined, everythingElse)).toMatchObject({
      status: 403,
      body: { code: "insufficient_scope" },
    });
    expect((await get("/v1/credits", ownerId)).body.balance).toBe(0);
  });

  it.each([
    ["amount", { amount: 0 }],
    ["amount", { amount: -5 }],
    ["amount", { amount: 1.5 }],
    ["amount", { amount: "5" }],
    ["amount", { amount: 2 ** 31 }],
    ["ownerId", { ownerId: "" }],
    ["reason", { reason: "a\u0000b" }],
    ["kind", { kind: "refund" }],
  ])("refuses a wrong %s: %j", async (field, part) => {
    const { status, body } = await grant({ ownerId: "ada", amount: 1, ...part });
    expect(status).toBe(400);
    expect(body).toMatchObject({ code: "invalid_request", fields: [{ path: `body.${field}` }] });
  });

  it("counts once, however often and however closely the same request is said again", async () => {
    const ownerId = newOwner();
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => grant({ ownerId, amount: 50, reason: "June" }, "june")),
    );
    answers.push(await grant({ reason: "June", amount: 50, ownerId }, "june"));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect((await get("/v1/credits", ownerId)).body.balance).toBe(50);
    await grant({ ownerId, amount: 50, reason: "June" }, "july");
    expect((await get("/v1/credits", ownerId)).body.balance).toBe(100);
  });

  it("refuses another request under the same key, which belongs to the owner", async () => {
    const [ownerId, other] = [newOwner(), newOwner()];
    await grant({ ownerId, amount: 50 }, "key");
    expect(await grant({ ownerId, amount: 51 }, "key")).toMatchObject({
      status: 422,
      body: { code: "idempotency_key_reused" },
    });
    expect(await grant({ ownerId: other, amount: 51 }, "key")).toMatchObject({ status: 201 });
    expect((await get("/v1/credits", ownerId)).body.balance).toBe(50);
  });
});

describe("GET /v1/credits", () => {
  it("tells the caller's own balance, which is 0 for whom nobody granted anything", async () => {
    const { status, body } = await get("/v1/credits", "a-stranger");
    expect(status).toBe(200);
    expect(creditAccountSchema.strict().parse(body)).toEqual({
      ownerId: "a-stranger",
      balance: 0,
      overdraft: 0,
    });
  });

  it("tells of others to those who grant and to those who read every job", async () => {
    const owner = newOwner();
    await grant({ ownerId: owner, amount: 3 });
    for (const path of ["/v1/credits", "/v1/credits/transactions"]) {
      for (const scope of ["credits:grant", "jobs:read"]) {
        expect((await get(`${path}?owner=${owner}`, "other", scope)).status).toBe(200);
      }
      expect((await get(`${path}?owner=${owner}`, owner)).status).toBe(200);
      expect(await get(`${path}?owner=${owner}`, "other", "jobs:create")).toMatchObject({
        status: 403,
        body: { code: "insufficient_scope" },
      });
    }
    const { body } = await get(`/v1/credits?owner=${owner}`, "other", "jobs:read");
    expect(body).toEqual({ ownerId: owner, balance: 3, overdraft: 0 });
  });
});

describe("GET /v1/credits/transactions", () => {
  it("lists what came and went, newest first, with the balance after each", async () => {
    const owner = newOwner();
    const { retried, other } = await createLedger(owner);
    const { body } = await get("/v1/credits/transactions", owner);
    const { items, nextCursor } = creditEntryListSchema.strict().parse(body);
    expect(nextCursor).toBeNull();
    expect(items.map((item) => creditEntrySchema.strict().parse(item))).toMatchObject([
      { kind: "charge", amount: -20, balanceAfter: 50, jobId: other, attempt: 1 },
      { kind: "charge", amount: -30, balanceAfter: 70, jobId: retried, attempt: 2 },
      { kind: "refund", amount: 30, balanceAfter: 100, jobId: retried, attempt: 1 },
      { kind: "charge", amount: -30, balanceAfter: 70, jobId: retried, attempt: 1 },
      { kind: "grant", amount: 100, balanceAfter: 100, jobId: null, attempt: null },
    ]);
  });

  it("goes on where the last page ended, whatever was added in front meanwhile", async () => {
    const owner = newOwner();
    await createLedger(owner);
    const first = (await get("/v1/credits/transactions?limit=2", owner)).body;
    await grant({ ownerId: owner, amount: 1 });
    const second = (await get(`/v1/credits/transactions?limit=2&cursor=${first.nextCursor}`, owner))
      .body;
    const third = (await get(`/v1/credits/transactions?limit=2&cursor=${second.nextCursor}`, owner))
      .body;
    const amounts = [first, second, third].map(({ items }) =>
      items.map((item: { amount: number }) => item.amount),
    );
    expect(amounts).toEqual([[-20, -30], [30, -30], [100]]);
    expect(third.nextCursor).toBeNull();
  });

  it.each(["limit=0", "limit=101", "cursor=x", "cursor=-1", "page=2", "ownerId="])(
    "refuses ?%s",
    async (query) => {
      const { status, body } = await get(`/v1/credits/transactions?${query}`, "ada");
      expect(status).toBe(400);
      expect(body.fields[0].path).toBe(`query.${query.split("=")[0]}`);
    },
  );

  it("shows an owner nothing of the others", async () => {
    await createLedger(newOwner());
    expect((await get("/v1/credits/transactions", newOwner())).body.items).toEqual([]);
  });
});

describe("what a job has cost", () => {
  const backend = { sub: "backend", scope: "jobs:write credits:grant" };
  const owner = "settled";

  it("is settled with its end, and told of the job and in the ledger", async () => {
    await server.call("POST", "/v1/credits/grants", { ownerId: owner, amount: 100 }, backend);
    const { body: job } = await server.call(
      "POST",
      "/v1/jobs",
      { type: "image", ownerId: owner, credits: 10 },
      backend,
    );
    expect(job).toMatchObject({ credits: { charged: 10, refunded: 0 }, cost: null });
    const ended = await server.call(
      "PATCH",
      `/v1/jobs/${job.id}`,
      { status: "completed", cost: 7 },
      backend,
    );
    const told = { credits: { charged: 10, refunded: 3 }, cost: 7 };
    expect(ended.body).toMatchObject(told);
    const list = await server.call("GET", `/v1/jobs?ownerId=${owner}`, undefined, backend);
    expect(list.body.items).toMatchObject([told]);

    const adjusted = await server.call(
      "POST",
      "/v1/credits/adjustments",
      { ownerId: owner, jobId: job.id, amount: 2, reason: "Not quite what was asked for" },
      backend,
    );
    expect([adjusted.status, adjusted.body]).toMatchObject([
      201,
      { kind: "adjustment", amount: 2, balanceAfter: 95, jobId: job.id, attempt: null },
    ]);
    const { body } = await server.call(
      "GET",
      `/v1/credits/transactions?ownerId=${owner}&jobId=${job.id}`,
      undefined,
      backend,
    );
    expect(
      body.items.map(({ kind, amount }: { kind: string; amount: number }) => [kind, amount]),
    ).toEqual([
      ["adjustment", 2],
      ["refund", 3],
      ["charge", -10],
    ]);
    const after = await server.call("GET", `/v1/jobs/${job.id}`, undefined, backend);
    expect(after.body.credits).toEqual({ charged: 10, refunded: 5 });
  });

  it("may take an account below zero as far as was allowed", async () => {
    const poor = "poor";
    await server.call("POST", "/v1/credits/grants", { ownerId: poor, amount: 5 }, backend);
    const create = { type: "image", ownerId: poor, credits: 5 };
    const { body: job } = await server.call("POST", "/v1/jobs", create, backend);
    const end = () =>
      server.call("PATCH", `/v1/jobs/${job.id}`, { status: "completed", cost: 8 }, backend);
    const refused = await end();
    expect([refused.status, refused.body]).toMatchObject([
      402,
      { code: "insufficient_credits", credits: { needed: 3, balance: 0 } },
    ]);
    const account = await server.call(
      "PATCH",
      "/v1/credits",
      { ownerId: poor, overdraft: 10 },
      backend,
    );
    expect(account.body).toEqual({ ownerId: poor, balance: 0, overdraft: 10 });
    expect((await end()).status).toBe(200);
    const { body } = await server.call("GET", `/v1/credits?ownerId=${poor}`, undefined, backend);
    expect(body).toEqual({ ownerId: poor, balance: -3, overdraft: 10 });
  });

  it.each([
    ["adjustments", { amount: 0, reason: "x" }],
    ["adjustments", { amount: 1, reason: "" }],
    ["adjustments", { amount: 1 }],
    ["adjustments", { amount: 2 ** 31, reason: "x" }],
    ["adjustments", { amount: 1.5, reason: "x" }],
  ])("refuses %s of %j", async (path, body) => {
    const answer = await server.call(
      "POST",
      `/v1/credits/${path}`,
      { ownerId: owner, ...body },
      backend,
    );
    expect(answer.status).toBe(400);
  });
});
