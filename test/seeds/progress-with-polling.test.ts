import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** A pipeline reports progress with a stage; a client that loses its stream polls on. */
let database: TestDatabase;
let server: TestServer;

const user = { sub: "user-123", scope: "jobs:create" };
const pipeline = { sub: "pipeline", scope: "jobs:write" };

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});

afterAll(async () => {
  await server.stop();
  await database.drop();
});

describe("progress with a stage, and polling as the fallback", () => {
  it("goes on by long polling with the id of the last event, without a gap or a repeat", async () => {
    const { body: job } = await server.call("POST", "/v1/jobs", { type: "manga" }, user);
    const report = (progress: number, stage: string, message: string) =>
      server.call("PATCH", `/v1/jobs/${job.id}`, { progress, stage, message }, pipeline);
    const poll = (after: string) =>
      server.call("GET", `${job.links.events}?after=${after}&wait=10`, undefined, user);

    const stream = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(user),
    });
    await stream.next();
    await report(45, "inference", "Running model inference...");
    expect(JSON.parse((await stream.next()).data)).toMatchObject({
      jobId: job.id,
      status: "processing",
      progress: 45,
      stage: "inference",
      message: "Running model inference...",
    });
    await stream.close(); // the connection is lost

    await report(60, "inference", "Still running"); // nobody is there
    const missed = await poll(stream.lastEventId);
    expect(missed.body.events).toMatchObject([{ version: 3, progress: 60 }]);

    const waiting = poll(missed.body.cursor);
    await report(80, "upscale", "Scaling up");
    const live = await waiting;
    expect(live.body).toMatchObject({ events: [{ version: 4, stage: "upscale" }], done: false });

    await server.call("PATCH", `/v1/jobs/${job.id}`, { status: "completed" }, pipeline);
    const end = await poll(live.body.cursor);
    expect(end.body).toMatchObject({ events: [{ version: 5, status: "completed" }], done: true });
    expect((await poll(end.body.cursor)).body).toMatchObject({ events: [], done: true });
  });

  it("tells operators how many connections each user has", async () => {
    const streams = [];
    for (const sub of ["user-1", "user-1", "user-2"]) {
      streams.push(
        await openStream({ url: server.url, path: "/v1/events", token: server.token({ sub }) }),
      );
    }
    const { body } = await server.call("GET", "/v1/stats", undefined, {
      sub: "ops",
      scope: "stats:read",
    });
    expect(body.streams.byOwner).toEqual(
      expect.arrayContaining([
        { ownerId: "user-1", streams: 2 },
        { ownerId: "user-2", streams: 1 },
      ]),
    );
    expect((await server.call("GET", "/v1/stats", undefined, user)).status).toBe(403);
    for (const stream of streams) await stream.close();
  });
});
