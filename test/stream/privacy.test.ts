import express from "express";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { serveHttp } from "../support/http-fixture.ts";
import { rawRequest } from "../support/raw-request.ts";
import { openStream } from "../support/stream-client.ts";
import { type Edge, startEdge } from "./edge.ts";

let edge: Edge;
let mine: string;
let foreign: string;
let foreignBatch: string;

beforeAll(async () => {
  edge = await startEdge();
  mine = await edge.newJob();
  foreign = await edge.newJob("bob");
  const [batch] = await edge.db.query<{ id: string }>(
    `select id from jobcast.create_batch('bob', 'two', '[{"type":"a"},{"type":"b"}]')`,
  );
  foreignBatch = batch?.id ?? "";
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

const ABSENT = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b";

/** Everything that a client can see of an answer, but the time of day. */
async function answerTo(method: string, path: string, accept: string) {
  const asked = performance.now();
  const answer = await fetch(new URL(path, edge.server.url), {
    method,
    headers: {
      accept,
      authorization: `Bearer ${edge.server.token({ scope: "" })}`,
      "last-event-id": "1",
    },
  });
  const headers = Object.fromEntries(answer.headers);
  delete headers["date"];
  delete headers["x-request-id"];
  const body = await answer.text();
  return { seen: { status: answer.status, headers, body }, ms: performance.now() - asked };
}

describe("a job of somebody else", () => {
  it.each([
    ["GET", "text/event-stream", "/v1/jobs/:id/events"],
    ["GET", "application/json", "/v1/jobs/:id/events?wait=0"],
    ["HEAD", "text/event-stream", "/v1/jobs/:id/events"],
    ["HEAD", "application/json", "/v1/jobs/:id/events"],
    ["GET", "text/event-stream", "/v1/events?jobs=:id"],
    ["GET", "application/json", "/v1/events?jobs=:id&wait=0"],
    ["HEAD", "text/event-stream", "/v1/events?jobs=:id"],
    ["GET", "text/event-stream", "/v1/events?jobs=:mine,:id"],
    ["GET", "application/json", "/v1/events?jobs=:mine,:id&after=:cursor"],
    ["GET", "text/event-stream", "/v1/events?batch=:batch"],
    ["GET", "application/json", "/v1/events?batch=:batch&wait=0"],
    ["GET", "text/event-stream", "/v1/batches/:batch/events"],
    ["GET", "application/json", "/v1/batches/:batch/events?wait=0"],
  ])("is like none at all: %s %s %s", async (method, accept, path) => {
    const own = await edge.open(`/v1/events?jobs=${mine}`);
    const { lastEventId } = await own.next();
    const toPath = (job: string, batch: string) =>
      path
        .replace(":id", job)
        .replace(":batch", batch)
        .replace(":mine", mine)
        .replace(":cursor", lastEventId);
    const theirs = await answerTo(method, toPath(foreign, foreignBatch), accept);
    const none = await answerTo(method, toPath(ABSENT, ABSENT), accept);
    expect(theirs.seen).toEqual(none.seen);
    expect(theirs.seen.status).toBe(404);
    expect(theirs.seen.body).not.toContain(foreign);
    // Nobody waits for what will not change.
    expect(Math.max(theirs.ms, none.ms)).toBeLessThan(2_000);
  });

  it("does not show up on an owner's stream, live or replayed", async () => {
    const stream = await edge.open("/v1/events");
    const { lastEventId } = await stream.next();
    await edge.report(foreign, 10);
    await edge.report(mine, 10);
    await stream.next();
    await stream.close();
    const replayed = await edge.open("/v1/events", { lastEventId });
    await replayed.next();
    await replayed.close();
    expect(await stream.body()).not.toContain(foreign);
    expect(await replayed.body()).not.toContain(foreign);
  });

  it("is shown to who may read any job, with the same events", async () => {
    const token = edge.server.token({ sub: "carol", scope: "jobs:read" });
    const stream = await edge.openJob(foreign, { token });
    expect(JSON.parse((await stream.next()).data).jobId).toBe(foreign);
    const many = await edge.open(`/v1/events?jobs=${foreign},${mine}`, { token });
    await many.take(2);
  });

  it("and a job beyond a stream token's list are the same", async () => {
    const second = await edge.newJob();
    const body = { jobs: [mine] };
    const minted = await edge.server.call("POST", "/v1/stream-tokens", body, { scope: "" });
    const { token } = minted.body;
    const query = `access_token=${token}`;
    const open = (path: string) => openStream({ url: edge.server.url, path });
    const own = await open(`/v1/jobs/${mine}/events?${query}`);
    expect(own.status).toBe(200);
    const all = await open(`/v1/events?${query}`);
    await all.next();
    await edge.report(second, 10);
    await edge.report(mine, 20);
    await all.next();
    expect(all.events.map(({ data }) => JSON.parse(data).jobId)).toEqual([mine, mine]);
    for (const path of [
      `/v1/jobs/${second}/events?${query}`,
      `/v1/events?jobs=${second}&${query}`,
    ]) {
      const refused = await open(path);
      expect(refused.status).toBe(404);
    }
    await Promise.all([own.close(), all.close()]);
  });
});

describe("a stream on its way", () => {
  it("keeps every cookie that the app around it sets, and no-transform for what compresses", async () => {
    const app = express();
    app.use((_req, res, next) => {
      res.append("Set-Cookie", "a=1");
      res.append("Set-Cookie", "b=2");
      next();
    });
    app.use(edge.server.jobcast.app);
    const fixture = await serveHttp(app);
    const token = edge.server.token({ scope: "" });
    const path = `/v1/jobs/${mine}/events`;
    const headers = { "accept-encoding": "gzip, deflate, br" };
    const stream = await openStream({ url: fixture.url, path, token, headers });
    expect(stream.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
    expect(stream.headers["cache-control"]).toContain("no-transform");
    expect(stream.headers).not.toHaveProperty("content-encoding");
    await stream.next();
    await stream.close();
    await fixture.close();
  });

  it("opens for no page of another site: no ACAO, and no place taken with a cookie", async () => {
    const before = edge.server.jobcast.statistics().opened;
    const origin = "https://evil.example.com";
    const cookie = `jobcast_token=${edge.server.token({ scope: "" })}`;
    for (const headers of [
      { origin, cookie },
      { cookie, "sec-fetch-site": "cross-site" },
    ]) {
      const refused = await openStream({ url: edge.server.url, path: "/v1/events", headers });
      expect(refused.status).toBe(403);
      expect(refused.headers).not.toHaveProperty("access-control-allow-origin");
      await refused.ended;
    }
    expect(edge.server.jobcast.statistics().opened).toBe(before);
    const withToken = await edge.open("/v1/events", { headers: { origin } });
    expect(withToken.headers).not.toHaveProperty("access-control-allow-origin");
  });

  it("leaves its token in no log", async () => {
    const token = edge.server.token({ scope: "" });
    const path = `/v1/jobs/${mine}/events?access_token=${token}`;
    const stream = await openStream({ url: edge.server.url, path });
    await stream.next();
    await stream.close();
    await openStream({ url: edge.server.url, path: `/v1/jobs/x/events?access_token=${token}` });
    expect(edge.server.logged.join("\n")).not.toContain(token);
    expect(edge.server.logged.join("\n")).toContain("access_token=[redacted]");
  });

  it.each(["bad host", "a b:80", "[::1", "x/y", "x:99999999"])(
    "of a Host like %j is answered with 400",
    async (host) => {
      const request = `GET /v1/jobs/${mine}/events HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${edge.server.token()}\r\nConnection: close\r\n\r\n`;
      const { text } = await rawRequest(edge.server.port, request);
      expect(text).toMatch(/^HTTP\/1.1 400 /);
      expect(text).not.toMatch(/\bat .*:\d+:\d+/);
    },
  );
});
