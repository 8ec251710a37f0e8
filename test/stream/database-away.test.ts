import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { type Edge, NOTHING_MS, startEdge, upTo, versionsOf } from "./edge.ts";

let edge: Edge;
let proxy: TcpProxy;
let id: string;

beforeEach(async () => {
  const db = await createTestDatabase();
  proxy = await startTcpProxy(Number(new URL(db.url).port));
  const proxied = new URL(db.url);
  proxied.port = String(proxy.port);
  // Only what is read for streams goes this way.
  const options = { databaseUrl: proxied.href, listenDatabaseUrl: db.url, heartbeatSeconds: 1 };
  edge = await startEdge(options, db);
  id = await edge.newJob();
});

afterEach(async () => {
  await proxy.accept();
  await edge.expectNothingOpen();
  await edge.stop();
  await proxy.close();
});

function leave(): void {
  proxy.refuse();
  proxy.cut();
}

const errors = () => edge.server.logged.filter((line) => /"level":(50|60)/.test(line));

describe("while the database is away", () => {
  it("open streams stay, with their heartbeats, and go on without a gap", async () => {
    const stream = await edge.openJob(id);
    await stream.next();
    leave();
    await stream.take(2, ({ type }) => type === "ping");
    await edge.report(id, 10, 20);
    await proxy.accept();
    await stream.take(2, ({ type }) => type === "status");
    expect(versionsOf(stream.events)).toEqual(upTo(3));
  });

  it("a new stream waits for a while, since EventSource never comes back from a 503", async () => {
    leave();
    const paths = [`/v1/jobs/${id}/events`, "/v1/events", `/v1/events?jobs=${id}`];
    const opening = paths.map((path) => edge.open(path));
    const first = await Promise.race([
      ...opening.map((answer) => answer.then(() => "answered")),
      new Promise((resolve) => setTimeout(resolve, 2 * NOTHING_MS, "waiting")),
    ]);
    expect(first).toBe("waiting");
    await proxy.accept();
    for (const stream of await Promise.all(opening)) {
      expect(stream.status).toBe(200);
      expect(JSON.parse((await stream.next()).data)).toMatchObject({ jobId: id, version: 1 });
    }
    expect(errors()).toEqual([]);
  });

  it("but not for ever: it is told to come back later", async () => {
    leave();
    const stream = await edge.openJob(id, { deadlineMs: 20_000, lastEventId: "1-abcdef" });
    expect(stream.status).toBe(200);
    await stream.ended;
    const [{ type, lastEventId, data } = { type: "", lastEventId: "", data: "" }] = stream.events;
    expect({ type, lastEventId }).toEqual({ type: "close", lastEventId: "1-abcdef" });
    expect(JSON.parse(data)).toEqual({ reason: "database_unavailable", retryMs: stream.retry });
    expect(stream.events).toHaveLength(1);
  });

  it("a long poll is told at once: its client asks again anyway", async () => {
    leave();
    const poll = await edge.openJob(id, { headers: { accept: "application/json" } });
    expect(poll.status).toBe(503);
    expect(JSON.parse(await poll.body())).toMatchObject({ code: "database_unavailable" });
  });

  it("a client that gives up is no error, and leaves nothing behind", async () => {
    leave();
    const paths = [`/v1/jobs/${id}/events`, "/v1/events"];
    const opening = paths.map((path) => edge.open(path, { deadlineMs: 300 }));
    expect((await Promise.allSettled(opening)).map(({ status }) => status)).toEqual([
      "rejected",
      "rejected",
    ]);
    await edge.expectNothingOpen();
    expect(errors()).toEqual([]);
  });
});
