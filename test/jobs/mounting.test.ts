import { createHmac } from "node:crypto";
import middie from "@fastify/middie";
import express from "express";
import fastify from "fastify";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createJobcast, type Jobcast } from "../../src/index.ts";
import { createLog } from "../../src/log.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { serveHttp } from "../support/http-fixture.ts";
import { openStream } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";

const KEY = Buffer.alloc(32, 7);

let database: TestDatabase;
const undo: (() => unknown)[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  undo.push(() => database.drop());
});
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function start(publicUrl?: string): Promise<Jobcast> {
  const jobcast = createJobcast({
    databaseUrl: database.url,
    jwt: { secret: TEST_SECRET },
    callbackSecrets: [`whsec_${KEY.toString("base64")}`],
    log: createLog("silent"),
    ...(publicUrl !== undefined && { publicUrl }),
  });
  await jobcast.start();
  undo.push(() => jobcast.stop());
  return jobcast;
}

type Job = { readonly id: string; readonly links: Readonly<Record<string, string>> };

async function call(base: string, path: string, body?: object) {
  return fetch(new URL(path, base), {
    ...(body && { method: "POST", body: JSON.stringify(body) }),
    headers: {
      authorization: `Bearer ${signToken({ sub: "ann", scope: "jobs:create jobs:write" })}`,
      "content-type": "application/json",
    },
  });
}

/** Creates a job, follows its links, watches it, and reports on it as a provider does. */
async function expectToWork(base: string, prefix: string): Promise<void> {
  const made = await call(base, `${prefix}/v1/jobs`, { type: "image", params: { size: 3 } });
  expect(made.status).toBe(201);
  const { id, links } = (await made.json()) as Job;
  expect(made.headers.get("location")).toBe(`${prefix}/v1/jobs/${id}`);
  expect((await call(base, links["self"] ?? "")).status).toBe(200);
  const token = signToken({ sub: "ann" });
  const stream = await openStream({ url: base, path: links["events"] ?? "", token });
  await stream.next();
  const text = JSON.stringify({ status: "processing", progress: 10 });
  const signed = `msg_1.${Math.floor(Date.now() / 1_000)}`;
  const signature = createHmac("sha256", KEY).update(`${signed}.${text}`).digest("base64");
  const delivered = await fetch(new URL(`${prefix}/v1/callbacks/${id}`, base), {
    method: "POST",
    body: text,
    headers: {
      "content-type": "application/json",
      "webhook-id": "msg_1",
      "webhook-timestamp": signed.split(".")[1] ?? "",
      "webhook-signature": `v1,${signature}`,
    },
  });
  expect([delivered.status, await delivered.text()]).toEqual([200, expect.anything()]);
  await stream.next(({ data }) => data.includes('"progress":10'));
  await stream.close();
}

async function serve(app: Parameters<typeof serveHttp>[0]): Promise<string> {
  const { url, close } = await serveHttp(app);
  undo.push(close);
  return url;
}

describe("jobcast in somebody's application", () => {
  it("works twice in one process, each under its own prefix", async () => {
    const app = express();
    app.use("/one", (await start()).app);
    app.use("/two", (await start()).app);
    const url = await serve(app);
    await expectToWork(url, "/one");
    await database.query("delete from jobcast.webhook_deliveries");
    await expectToWork(url, "/two");
  });

  it("works behind a parser of the application that has read the body", async () => {
    const app = express();
    app.use(express.json(), express.urlencoded(), express.text());
    app.use("/jobcast", (await start()).app);
    await expectToWork(await serve(app), "/jobcast");
  });

  it("works in Fastify, beside routes with its parsers", async () => {
    const app = fastify();
    await app.register(middie);
    app.use("/jobcast", (await start()).app);
    app.post("/own", async ({ body }) => ({ body }));
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    undo.push(() => app.close());
    await expectToWork(url, "/jobcast");
    const own = await call(url, "/own", { a: 1 });
    expect(await own.json()).toEqual({ body: { a: 1 } });
  });

  it("works as a handler of Node that is given a part of the URLs, as in an API route of Next", async () => {
    const jobcast = await start();
    const url = await serve((req, res) => {
      Object.assign(req, { originalUrl: req.url });
      req.url = req.url?.replace(/^\/api\/jobcast/, "");
      jobcast.app(req, res);
    });
    await expectToWork(url, "/api/jobcast");
  });
});
