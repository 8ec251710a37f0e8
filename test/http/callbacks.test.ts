import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCallbackLinks, readCallbackToken } from "../../src/http/callbacks/callback-token.ts";
import { callbackResultSchema } from "../../src/protocol/callback.ts";
import { createdJobSchema } from "../../src/protocol/job.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { rawRequest } from "../support/raw-request.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
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

async function createJob(body: object = {}): Promise<{ id: string; callback: string }> {
  const answer = await server.call("POST", "/v1/jobs", { type: "image", ...body });
  const { id, links } = createdJobSchema.parse(answer.body);
  return { id, callback: links.callback };
}

async function read(id: string) {
  return (await server.call("GET", `/v1/jobs/${id}`)).body;
}

const tokenOf = (url: string) => new URL(url, server.url).searchParams.get("token") ?? "";

describe("the callback URL", () => {
  it("is in the answer to the creation and to a retry, and nowhere else", async () => {
    const { id, callback } = await createJob();
    expect(callback).toMatch(new RegExp(`^/v1/callbacks/${id}\\?token=1\\.`));
    const cancelled = await server.call("POST", `/v1/jobs/${id}/cancel`);
    const retried = await server.call("POST", `/v1/jobs/${id}/retry`);
    expect(retried.body.links.callback).toMatch(/\?token=2\./);
    const list = await server.call("GET", "/v1/jobs");
    for (const { links } of [cancelled.body, await read(id), ...list.body.items]) {
      expect(links).not.toHaveProperty("callback");
    }
  });

  it("is not for an owner that may only watch: with it, it could report on its own job", async () => {
    const { id } = await createJob({ ownerId: "watcher" });
    const watcher = { sub: "watcher", scope: "" };
    await server.call("POST", `/v1/jobs/${id}/cancel`, undefined, watcher);
    const retried = await server.call("POST", `/v1/jobs/${id}/retry`, undefined, watcher);
    expect(retried.status).toBe(200);
    expect(retried.body.links).not.toHaveProperty("callback");
  });

  it("is absolute where the public URL is known", async () => {
    const key = async () => Buffer.alloc(32);
    const link = createCallbackLinks({ key });
    expect(await link({ id: "some-id", attempt: 3 }, "https://jobs.example/sub")).toMatch(
      /^https:\/\/jobs\.example\/sub\/v1\/callbacks\/some-id\?token=3\.[\da-z]+\.[\w-]{43}$/,
    );
  });

  it("takes deliveries without any other token, by the query or by X-Callback-Token", async () => {
    const { id, callback } = await createJob();
    const first = await deliver(server, callback, { status: "processing", progress: 10 });
    expect(first.status).toBe(200);
    expect(first.headers.get("cache-control")).toBe("no-store");
    expect(callbackResultSchema.strict().parse(first.body)).toEqual({
      jobId: id,
      status: "processing",
      version: 2,
      applied: true,
    });
    const second = await deliver(
      server,
      `/v1/callbacks/${id.toUpperCase()}`,
      { status: "completed", result: { url: "u" } },
      { "x-callback-token": tokenOf(callback) },
    );
    expect(second.body).toMatchObject({ status: "completed", version: 3, applied: true });
    expect(await read(id)).toMatchObject({ result: { url: "u" }, source: "callback" });
  });
});

describe("a token", () => {
  it("that is missing, wrong, or of another job or attempt is a 401, whether the job exists or not", async () => {
    const { id, callback } = await createJob();
    const other = await createJob();
    const token = tokenOf(callback);
    const [attempt = "", expiry = "", signature = ""] = token.split(".");
    const wrong = [
      "",
      "?token=",
      "?token=x",
      `?token=${token}x`,
      `?token=${token.slice(0, -1)}`,
      `?token=${token}&token=${token}`,
      `?token=${tokenOf(other.callback)}`,
      `?token=2.${expiry}.${signature}`,
      `?token=0${attempt}.${expiry}.${signature}`,
      `?token=${attempt}.${expiry}z.${signature}`,
      `?token=${attempt}.${expiry}.${"A".repeat(43)}`,
      `?access_token=${server.token()}`,
    ];
    for (const query of wrong) {
      const existing = await deliver(server, `/v1/callbacks/${id}${query}`, { progress: 5 });
      const absent = await deliver(server, `/v1/callbacks/${randomUUID()}${query}`, {});
      expect([existing.status, existing.body.code], query).toEqual([401, "unauthenticated"]);
      expect(absent.text).toBe(existing.text);
      expect([...absent.headers.keys()]).toEqual([...existing.headers.keys()]);
    }
    expect(await read(id)).toMatchObject({ version: 1 });
  });

  it("is good for a week and not for longer, nor with another key", async () => {
    const key = Buffer.alloc(32, 1);
    const tokenFor = async (lifeSeconds?: number) =>
      tokenOf(
        await createCallbackLinks({ key: async () => key, lifeSeconds })(
          { id: "a", attempt: 4 },
          "",
        ),
      );
    const token = await tokenFor();
    const seconds = Number.parseInt(token.split(".")[1] ?? "", 36) - Date.now() / 1000;
    expect(seconds).toBeGreaterThan(7 * 24 * 3600 - 10);
    expect(seconds).toBeLessThanOrEqual(7 * 24 * 3600);
    expect(readCallbackToken(key, "a", token)).toEqual({ attempt: 4, isExpired: false });
    expect(readCallbackToken(key, "b", token)).toBeUndefined();
    expect(readCallbackToken(Buffer.alloc(32, 2), "a", token)).toBeUndefined();
    const expired = readCallbackToken(key, "a", await tokenFor(-1));
    expect(expired).toEqual({ attempt: 4, isExpired: true });
  });

  it("is in no log, whatever came of the delivery", async () => {
    const { id, callback } = await createJob();
    await deliver(server, callback, { status: "processing" });
    await deliver(server, callback, "no json");
    await deliver(server, `${callback}x`, {});
    await server.call("GET", callback);
    await deliver(server, `/v1/callbacks/${id}`, {}, { "x-callback-token": tokenOf(callback) });
    const signature = tokenOf(callback).split(".")[2] ?? "";
    expect(signature).toHaveLength(43);
    expect(server.logged.filter((line) => line.includes(id)).length).toBeGreaterThan(4);
    expect(server.logged.join("\n")).not.toContain(signature);
  });

  it("is looked at before the body is read", async () => {
    const { id } = await createJob();
    const { text } = await rawRequest(
      server.port,
      `POST /v1/callbacks/${id} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n`,
      { isComplete: (text) => text.includes("\r\n\r\n") },
    );
    expect(text).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe("a delivery", () => {
  it("is taken whatever its Content-Type says, and refused when it is no JSON", async () => {
    const { callback } = await createJob();
    const asText = { "content-type": "text/plain; charset=latin1" };
    expect((await deliver(server, callback, { progress: 1 }, asText)).body.applied).toBe(true);
    const notUtf8 = Buffer.from('{"message":"\xff"}', "latin1");
    for (const body of ["", "{", "status=success", notUtf8]) {
      const { status, body: problem } = await deliver(server, callback, body, asText);
      expect([status, problem.code]).toEqual([400, "invalid_json"]);
    }
  });

  it("of which nothing can be understood is a 400 with the fields", async () => {
    const { callback } = await createJob();
    for (const [body, path] of [
      [[], "body"],
      [{}, "body"],
      [{ id: "x", progress: null }, "body"],
      [{ status: "dreaming" }, "body.status"],
    ] as const) {
      const { status, body: problem } = await deliver(server, callback, body);
      expect([status, problem.code]).toEqual([400, "invalid_request"]);
      expect(problem.fields?.map((field) => field.path)).toEqual([path]);
    }
  });

  it("ends its job although a character of it cannot be kept, which is replaced", async () => {
    for (const bad of ["a\u0000b", "a\ud800b", "a\udc00b"]) {
      const { callback, id } = await createJob();
      const body = { status: "completed", result: { [bad]: [bad] }, message: bad };
      const { status, body: answer } = await deliver(server, callback, body);
      expect([status, answer.applied, answer.status]).toEqual([200, true, "completed"]);
      const job = await read(id);
      expect([job.result, job.message]).toEqual([{ "a\ufffdb": ["a\ufffdb"] }, "a\ufffdb"]);
    }
  });

  it("of more than 1 MiB is a 413", async () => {
    const { callback } = await createJob();
    const result = "x".repeat(1_048_576);
    const { status, body } = await deliver(server, callback, { result });
    expect([status, body.code]).toEqual([413, "payload_too_large"]);
    const fitting = await deliver(server, callback, { result: result.slice(100) });
    expect(fitting.body.applied).toBe(true);
  });

  it("for a job that is gone is a 404", async () => {
    const { id, callback } = await createJob();
    await database.query("select jobcast.cancel_job($1)", [id]);
    await database.query("delete from jobcast.jobs where id = $1", [id]);
    const { status, body } = await deliver(server, callback, { progress: 1 });
    expect([status, body.code]).toEqual([404, "not_found"]);
  });

  it("is a POST", async () => {
    const { callback } = await createJob();
    const { status, headers } = await server.call("GET", callback);
    expect([status, headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
  });
});
