import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** A user pays credits for an image, an external provider makes it and calls back. */
let database: TestDatabase;
let server: TestServer;

const alice = { sub: "alice", scope: "jobs:create" };
const admin = { sub: "backend", scope: "credits:grant" };

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  await server.call("POST", "/v1/credits/grants", { ownerId: "alice", amount: 25 }, admin);
});

afterEach(async () => {
  await server.stop();
  await database.drop();
});

const generate = (prompt: string) =>
  server.call("POST", "/v1/jobs", { type: "image", credits: 10, params: { prompt } }, alice);

const balance = async () =>
  (await server.call("GET", "/v1/credits", undefined, alice)).body.balance;

/** What the provider does: it knows the URL that it was given, and nothing else. */
const callBack = (url: string, body: object) =>
  fetch(new URL(url, server.url), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

describe("the image generator", () => {
  it("charges with the creation and shows the provider's result the moment it calls back", async () => {
    const { status, body: job } = await generate("a sunset");
    expect(status).toBe(201);
    expect(job.credits).toEqual({ charged: 10, refunded: 0 });
    expect(await balance()).toBe(15);

    const stream = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(alice),
    });
    expect(JSON.parse((await stream.next()).data)).toMatchObject({ status: "pending" });

    const answer = await callBack(job.links.callback, {
      status: "success",
      images: ["https://a/1.png"],
    });
    expect(answer.status).toBe(200);
    expect(JSON.parse((await stream.next()).data)).toMatchObject({
      status: "completed",
      progress: 100,
      result: ["https://a/1.png"],
      source: "callback",
    });
    await stream.ended; // the connection closes by itself when the job is done
    expect(stream.ending).toBe("complete");
    expect(await balance()).toBe(15);
  });

  it("refunds when the provider fails, once, however often it says so", async () => {
    const { body: job } = await generate("a sunset");
    const failure = { status: "error", error: "out of memory", error_code: "OOM" };
    for (let delivery = 0; delivery < 3; delivery += 1) {
      expect((await callBack(job.links.callback, failure)).status).toBe(200);
    }
    expect(await balance()).toBe(25);
    const { body } = await server.call("GET", job.links.self, undefined, alice);
    expect(body).toMatchObject({
      status: "failed",
      error: { code: "OOM", message: "out of memory" },
      credits: { charged: 10, refunded: 10 },
    });
    const { body: ledger } = await server.call("GET", "/v1/credits/transactions", undefined, alice);
    expect(
      ledger.items.map(({ kind, amount }: { kind: string; amount: number }) => [kind, amount]),
    ).toEqual([
      ["refund", 10],
      ["charge", -10],
      ["grant", 25],
    ]);
  });

  it("refuses what cannot be paid and leaves nothing behind", async () => {
    await generate("one");
    await generate("two");
    const { status, body } = await generate("three");
    expect(status).toBe(402);
    expect(body).toMatchObject({ code: "insufficient_credits" });
    const { body: list } = await server.call("GET", "/v1/jobs?offset=0", undefined, alice);
    expect(list.total).toBe(2);
    expect(await balance()).toBe(5);
  });

  it("refunds a user who cancels, and charges a retry again", async () => {
    const { body: job } = await generate("a sunset");
    await server.call("POST", `${job.links.self}/cancel`, { message: "User cancelled" }, alice);
    expect(await balance()).toBe(25);
    const { body: retried } = await server.call(
      "POST",
      `${job.links.self}/retry`,
      undefined,
      alice,
    );
    expect(retried).toMatchObject({ status: "pending", attempt: 2 });
    expect(await balance()).toBe(15);
    // What the provider still sends for the first attempt is late and changes nothing.
    expect((await callBack(job.links.callback, { status: "success" })).status).toBe(200);
    const { body } = await server.call("GET", job.links.self, undefined, alice);
    expect(body).toMatchObject({ status: "pending", attempt: 2 });
  });

  it("keeps what the image has really cost, and gives back the rest", async () => {
    const { body: job } = await generate("a small sunset");
    expect(await balance()).toBe(15);
    const { body } = await server.call(
      "PATCH",
      `/v1/jobs/${job.id}`,
      { status: "completed", cost: 4 },
      { sub: "worker", scope: "jobs:write" },
    );
    expect(body).toMatchObject({ cost: 4, credits: { charged: 10, refunded: 6 } });
    expect(await balance()).toBe(21);
  });
});
