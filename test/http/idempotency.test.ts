import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

let database: TestDatabase;
let server: TestServer;

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  await database.query("select jobcast.grant_credits('alice', 100)");
});

afterEach(async () => {
  await server.stop();
  await database.drop();
});

async function create(key: string, body: object, sub = "alice") {
  const response = await fetch(new URL("/v1/jobs", server.url), {
    method: "POST",
    headers: {
      authorization: `Bearer ${server.token({ sub })}`,
      "content-type": "application/json",
      "idempotency-key": key,
    },
    body: JSON.stringify(body),
  });
  return {
    status: response.status,
    body: (await response.json()) as { id?: string; code?: string },
  };
}

const countJobs = async () =>
  (await database.query<{ count: number }>("select count(*) from jobcast.jobs"))[0]?.count;

const balance = async () =>
  (await database.query<{ balance: number }>("select balance from jobcast.credit_accounts"))[0]
    ?.balance;

describe("POST /v1/jobs with an Idempotency-Key", () => {
  it("makes one job and charges once for ten equal requests at once", async () => {
    const body = { type: "image", credits: 10, params: { prompt: "a sunset", steps: 4 } };
    const answers = await Promise.all(Array.from({ length: 10 }, () => create("key-1", body)));
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(201));
    expect(new Set(answers.map(({ body: { id } }) => id)).size).toBe(1);
    expect(await countJobs()).toBe(1);
    expect(await balance()).toBe(90);
  });

  it("takes the same request in another order of its keys for the same", async () => {
    const first = await create("key-1", { type: "image", params: { a: 1, b: [{ c: 1, d: 2 }] } });
    const second = await create("key-1", { params: { b: [{ d: 2, c: 1 }], a: 1 }, type: "image" });
    expect(second).toMatchObject({ status: 201, body: { id: first.body.id } });
  });

  it("refuses another body under the key with 422, and leaves nothing behind", async () => {
    await create("key-1", { type: "image", credits: 10 });
    for (const other of [
      { type: "video", credits: 10 },
      { type: "image", credits: 11 },
      { type: "image" },
    ]) {
      const { status, body } = await create("key-1", other);
      expect(status).toBe(422);
      expect(body).toMatchObject({ code: "idempotency_key_reused" });
    }
    expect(await countJobs()).toBe(1);
    expect(await balance()).toBe(90);
  });

  it("keeps the keys of owners apart", async () => {
    const alice = await create("key-1", { type: "image" });
    const bob = await create("key-1", { type: "video" }, "bob");
    expect(bob.status).toBe(201);
    expect(bob.body.id).not.toBe(alice.body.id);
  });

  it("gives a key back that was refused for lack of credits", async () => {
    expect((await create("key-1", { type: "image", credits: 500 })).status).toBe(402);
    await database.query("select jobcast.grant_credits('alice', 1000)");
    expect((await create("key-1", { type: "image", credits: 500 })).status).toBe(201);
  });

  it("says of a request that is still under way elsewhere that it is", async () => {
    const elsewhere = await database.connect();
    await elsewhere.query("begin");
    await elsewhere.query(
      "select jobcast.create_job('alice', 'image', idempotency_key => 'key-1', request_hash => '\\x00')",
    );
    // The second one waits behind the first, and not for as long again.
    const answers = await Promise.all([1, 2].map(() => create("key-1", { type: "image" })));
    for (const { status, body } of answers) {
      expect([status, body.code]).toEqual([409, "idempotency_key_in_use"]);
    }
    await elsewhere.query("rollback");
    await elsewhere.end();
    expect((await create("key-1", { type: "image" })).status).toBe(201);
  });

  it("says of an account that is locked that it is, and not of the key", async () => {
    const elsewhere = await database.connect();
    await elsewhere.query("begin");
    await elsewhere.query("select from jobcast.credit_accounts for update");
    const { status, body } = await create("key-1", { type: "image", credits: 1 });
    expect([status, body.code]).toEqual([409, "locked"]);
    await elsewhere.query("rollback");
    await elsewhere.end();
    expect((await create("key-1", { type: "image", credits: 1 })).status).toBe(201);
    expect(await balance()).toBe(99);
  });

  it.each(["", " ", "ü", "x".repeat(256)])("refuses the key %j", async (key) => {
    const answer = await create(key, { type: "image" }).catch(() => undefined);
    // Some of them no client can even send.
    if (answer) expect(answer).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    expect(await countJobs()).toBe(0);
  });
});
