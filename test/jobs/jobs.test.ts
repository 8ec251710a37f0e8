import { randomUUID } from "node:crypto";
import express from "express";
import { CamelCasePlugin, Kysely, PostgresDialect } from "kysely";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createJobcast, JobcastError, jobs } from "../../src/index.ts";
import { createLog } from "../../src/log.ts";
import { idOf } from "../stream/edge.ts";
import { createTestDatabase, openTestPool, type TestDatabase } from "../support/database.ts";
import { serveHttp } from "../support/http-fixture.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";

let database: TestDatabase;
let server: TestServer;
let stream: StreamClient;

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  stream = await openStream({ url: server.url, path: "/v1/events", token: server.token() });
  await stream.next((event) => event.type === "ready");
});

afterEach(async () => {
  await stream.close();
  await server.stop();
  await database.drop();
});

const next = async () => {
  const { data } = await stream.next((event) => event.type === "status");
  return JSON.parse(data) as Record<string, unknown>;
};

describe("jobs in a transaction of node-postgres", () => {
  it("streams what is committed, and all of its versions", async () => {
    const client = await database.connect();
    await client.query("begin");
    const job = await jobs.create(client, { ownerId: "alice", type: "image", params: [1, "a"] });
    expect(job).toMatchObject({ status: "pending", version: 1, params: [1, "a"], source: "app" });
    await jobs.start(client, job.id, { stage: "loading" });
    await jobs.progress(client, job.id, 40, { counts: { total: 5, completed: 2, failed: 0 } });
    await jobs.complete(client, job.id, [{ url: "a" }], { attempt: 1 });
    await client.query("commit");

    expect(await next()).toMatchObject({ jobId: job.id, version: 1, source: "app" });
    expect(await next()).toMatchObject({ version: 2, status: "processing", stage: "loading" });
    expect(await next()).toMatchObject({ version: 3, progress: 40, counts: { completed: 2 } });
    expect(await next()).toMatchObject({ version: 4, status: "completed", result: [{ url: "a" }] });
  });

  it("shows nobody what was rolled back", async () => {
    const client = await database.connect();
    await client.query("begin");
    const lost = await jobs.create(client, { ownerId: "alice", type: "image" });
    await jobs.fail(client, lost.id, { code: "x", message: "y" });
    await client.query("rollback");
    const kept = await jobs.create(client, { ownerId: "alice", type: "image" });
    // The first that the stream shows is the one that was kept.
    expect(await next()).toMatchObject({ jobId: kept.id, version: 1 });
    expect(await jobs.get(client, lost.id)).toBeUndefined();
  });

  it("rejects with our own error and its stable code, whatever the database said", async () => {
    const client = await database.connect();
    const { id } = await jobs.create(client, { ownerId: "alice", type: "image" });
    await jobs.cancel(client, id, "enough");
    const rejected = async (promise: Promise<unknown>) => {
      const error = await promise.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(JobcastError);
      expect((error as JobcastError).cause).toBeInstanceOf(Error);
      return error as JobcastError;
    };
    const ended = await rejected(jobs.complete(client, id));
    expect(ended.code).toBe("job_conflict");
    expect(ended.details).toEqual({ job: { status: "cancelled", version: 2 } });
    expect(await jobs.retry(client, id)).toMatchObject({ attempt: 2, status: "pending" });
    const create = (job: object) =>
      rejected(jobs.create(client, { ownerId: "alice", type: "image", ...job }));
    for (const [failing, code] of [
      [() => rejected(jobs.start(client, id, { attempt: 1 })), "attempt_mismatch"],
      [() => rejected(jobs.cancel(client, randomUUID())), "not_found"],
      [() => create({ credits: 5 }), "insufficient_credits"],
      [() => create({ type: "" }), "invalid_request"],
      [() => create({ params: "x".repeat(3_000_000) }), "payload_too_large"],
    ] as const) {
      expect((await failing()).code).toBe(code);
    }
    await client.query("set role pg_read_all_data");
    expect((await create({})).code).toBe("internal");
    await client.end();
    expect((await create({})).code).toBe("database_unavailable");
  });
});

describe("jobs in a transaction of Kysely", () => {
  it("is part of the application's transaction, whatever its types and plugins", async () => {
    type Application = { prompts: { jobId: string; text: string } };
    const pool = openTestPool(database.url);
    const db = new Kysely<Application>({
      dialect: new PostgresDialect({ pool }),
      plugins: [new CamelCasePlugin()],
    });
    await database.query(
      `create table prompts (job_id uuid not null, text text not null);
       grant all on prompts to public`,
    );

    const failing = db.transaction().execute(async (trx) => {
      const job = await jobs.create(trx, { ownerId: "alice", type: "image" });
      await trx.insertInto("prompts").values({ jobId: job.id, text: "a sunset" }).execute();
      throw new Error("the application changed its mind");
    });
    await expect(failing).rejects.toThrow("changed its mind");

    const id = await db.transaction().execute(async (trx) => {
      const job = await jobs.create(trx, { ownerId: "alice", type: "image", title: "A sunset" });
      await trx.insertInto("prompts").values({ jobId: job.id, text: "a sunset" }).execute();
      return (await jobs.progress(trx, job.id, 10)).id;
    });
    expect(await next()).toMatchObject({ jobId: id, version: 1 });
    expect(await next()).toMatchObject({ jobId: id, version: 2, progress: 10 });
    expect(await database.query("select job_id from prompts")).toEqual([{ job_id: id }]);
    await db.destroy();
  });
});

describe("jobcast inside an Express application", () => {
  async function mount() {
    const jobcast = createJobcast({
      databaseUrl: database.url,
      jwt: { secret: TEST_SECRET },
      log: createLog("silent"),
    });
    await jobcast.start();
    const app = express();
    app.get("/own", (_req, res) => void res.send("own"));
    app.use("/jobcast", jobcast.app);
    return { jobcast, http: await serveHttp(app) };
  }

  it("serves its routes under the prefix that it was mounted at, with its defaults", async () => {
    const { jobcast, http } = await mount();
    try {
      const { id } = await jobs.create(await database.connect(), { ownerId: "bob", type: "image" });
      const token = signToken({ sub: "bob" });
      const mounted = await openStream({
        url: http.url,
        path: `/jobcast/v1/jobs/${id}/events`,
        token,
      });
      expect(await mounted.next()).toMatchObject({ type: "status", lastEventId: idOf(1) });
      await mounted.close();
      expect(await (await fetch(`${http.url}/own`)).text()).toBe("own");
      const nothing = await fetch(`${http.url}/jobcast/v1/nothing`);
      expect(nothing.status).toBe(404);
      // What is about the whole host is the host's to say.
      expect(nothing.headers.has("strict-transport-security")).toBe(false);
      expect(nothing.headers.has("origin-agent-cluster")).toBe(false);
    } finally {
      await jobcast.stop();
      await http.close();
    }
  });

  it("links to where it is, without being told its public URL", async () => {
    const { jobcast, http } = await mount();
    try {
      const call = async (path: string, init: RequestInit = {}) => {
        const authorization = `Bearer ${signToken({ sub: "bob", scope: "jobs:create" })}`;
        const headers = { authorization, "content-type": "application/json" };
        return fetch(new URL(path, http.url), { ...init, headers });
      };
      const made = await call("/jobcast/v1/jobs", { method: "POST", body: '{"type":"t"}' });
      const location = made.headers.get("location") ?? "";
      const { id, links } = (await made.json()) as { id: string; links: Record<string, string> };
      expect(location).toBe(`/jobcast/v1/jobs/${id}`);
      expect(links["self"]).toBe(location);
      expect((await call(location)).status).toBe(200);
      expect((await call(`${links["events"]}?wait=0`)).status).toBe(200);
      const report = { method: "POST", body: '{"status":"processing"}' };
      expect((await fetch(new URL(links["callback"] ?? "", http.url), report)).status).toBe(200);
      const batch = await call("/jobcast/v1/batches", {
        method: "POST",
        body: '{"jobs":[{"type":"t"}]}',
      });
      const { links: ofBatch } = (await batch.json()) as { links: Record<string, string> };
      for (const path of [ofBatch["self"], ofBatch["jobs"], `${ofBatch["events"]}?wait=0`]) {
        expect([path, (await call(path ?? "")).status]).toEqual([path, 200]);
      }
    } finally {
      await jobcast.stop();
      await http.close();
    }
  });

  it("gives tokens for viewers and URLs for providers, and ends its streams when it stops", async () => {
    const { jobcast, http } = await mount();
    const job = await jobs.create(await database.connect(), { ownerId: "bob", type: "image" });
    const open = (token: string, id: string) =>
      openStream({ url: http.url, path: `/jobcast/v1/jobs/${id}/events?access_token=${token}` });
    const token = await jobcast.streamToken({ ownerId: "backend", jobs: [job.id] });
    const viewer = await open(token, job.id);
    expect(await viewer.next()).toMatchObject({ type: "status", lastEventId: idOf(1) });
    const all = await open(await jobcast.streamToken({ ownerId: "bob", ttlSeconds: 60 }), job.id);
    expect(all.status).toBe(200);
    const stranger = await open(await jobcast.streamToken({ ownerId: "eve" }), job.id);
    expect(stranger.status).toBe(404);

    const callback = `${http.url}/jobcast${await jobcast.callbackUrl(job)}`;
    const report = { method: "POST", body: '{"status":"completed"}' };
    expect((await fetch(callback, report)).status).toBe(200);
    expect(await viewer.next()).toMatchObject({ lastEventId: idOf(2) });

    const other = await jobs.create(await database.connect(), { ownerId: "bob", type: "image" });
    const unfinished = await open(await jobcast.streamToken({ ownerId: "bob" }), other.id);
    await unfinished.next();
    await jobcast.stop();
    const close = await unfinished.next(({ type }) => type === "close");
    expect(JSON.parse(close.data)).toMatchObject({ reason: "draining" });
    await http.close();
  });
});
