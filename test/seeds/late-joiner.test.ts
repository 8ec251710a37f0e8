import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** Several clients on one job; one comes late, one comes when all is over. */
let database: TestDatabase;
let server: TestServer;

const user = { sub: "alice", scope: "jobs:create" };
const worker = { sub: "worker", scope: "jobs:write" };

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url, heartbeatSeconds: 1 });
});

afterAll(async () => {
  await server.stop();
  await database.drop();
});

describe("two clients on one job, and a late joiner", () => {
  it("all see the job end the same way, from the state that they found", async () => {
    const { body: job } = await server.call("POST", "/v1/jobs", { type: "processing" }, user);
    const join = () =>
      openStream({ url: server.url, path: job.links.events, token: server.token(user) });
    const patch = (body: object) => server.call("PATCH", `/v1/jobs/${job.id}`, body, worker);
    const statuses = (client: { events: readonly { type: string; data: string }[] }) =>
      client.events
        .filter(({ type }) => type === "status")
        .map(({ data }) => JSON.parse(data).status);

    const [first, second] = [await join(), await join()];
    await first.next(({ type }) => type === "status");
    await second.next(({ type }) => type === "status");
    await patch({ status: "queued" });
    await patch({ status: "processing" });
    await patch({ progress: 75, stage: "stage_3", message: "Processing stage 3" });
    await first.next(({ data }) => data.includes("stage_3"));

    const late = await join();
    const found = JSON.parse((await late.next(({ type }) => type === "status")).data);
    expect(found).toMatchObject({ version: 4, progress: 75, stage: "stage_3" });
    await late.next(({ type }) => type === "ping"); // the connection is alive while nothing happens

    await patch({ status: "completed" });
    for (const client of [first, second, late]) await client.ended;
    expect(statuses(first)).toEqual(["pending", "queued", "processing", "processing", "completed"]);
    expect(statuses(second)).toEqual(statuses(first));
    expect(statuses(late)).toEqual(["processing", "completed"]);

    const afterwards = await join();
    await afterwards.ended;
    expect(statuses(afterwards)).toEqual(["completed"]);
  });

  it("go without disturbing each other, and an unknown job is told at once", async () => {
    const { body: job } = await server.call("POST", "/v1/jobs", { type: "processing" }, user);
    const join = (path: string) => openStream({ url: server.url, path, token: server.token(user) });
    const leaving = await join(job.links.events);
    const staying = await join(job.links.events);
    await leaving.next();
    await leaving.close();
    await server.call(
      "PATCH",
      `/v1/jobs/${job.id}`,
      { status: "failed", error: { code: "x", message: "y" } },
      worker,
    );
    await staying.ended;
    expect(staying.events.at(-1)?.data).toContain('"failed"');

    const unknown = await join("/v1/jobs/01a00000-0000-7000-8000-000000000000/events");
    expect(unknown.status).toBe(404);
    expect(JSON.parse(await unknown.body())).toMatchObject({ code: "not_found" });
  });

  it("read the worker's log in its place among the versions, whenever they come", async () => {
    const { body: job } = await server.call("POST", "/v1/jobs", { type: "processing" }, user);
    const path = `/v1/jobs/${job.id}`;
    const log = (line: string) =>
      server.call("POST", `${path}/events`, { event: "log", data: { line } }, worker);
    const early = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(user),
    });
    await log("loading the model");
    await server.call("PATCH", path, { progress: 50 }, worker);
    await log("half of it");
    await server.call("PATCH", path, { status: "completed" }, worker);
    await early.ended;
    const late = await openStream({
      url: server.url,
      path: job.links.events,
      token: server.token(user),
      lastEventId: "0",
    });
    await late.ended;
    const read = (client: typeof late) =>
      client.events.map(({ type, data }) => JSON.parse(data).data?.line ?? type);
    expect(read(late)).toEqual(["status", "loading the model", "status", "half of it", "status"]);
    expect(read(early)).toEqual(read(late));
  });
});
