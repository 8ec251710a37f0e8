import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** A batch of meshes that a Python service makes and reports by callbacks; cancel and retry. */
let database: TestDatabase;
let server: TestServer;

const user = { sub: "alice", scope: "jobs:create" };

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});

afterAll(async () => {
  await server.stop();
  await database.drop();
});

type Links = { self: string; callback: string };

/** The token in a header, as the Python service sends it. */
function callBack({ callback }: Links, body: object): Promise<Response> {
  const url = new URL(callback, server.url);
  const token = url.searchParams.get("token") ?? "";
  url.search = "";
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "x-callback-token": token },
    body: JSON.stringify(body),
  });
}

describe("a batch of meshes", () => {
  it("is followed as a whole and mesh by mesh, through callbacks, a cancel and a retry", async () => {
    const { status, body: batch } = await server.call(
      "POST",
      "/v1/batches",
      { title: "Chairs", jobs: [{ type: "mesh" }, { type: "mesh" }, { type: "mesh" }] },
      user,
    );
    expect(status).toBe(201);
    expect(batch).toMatchObject({
      total: 3,
      completed: 0,
      failed: 0,
      progress: 0,
      status: "pending",
    });
    const [first, second, third] = batch.jobs as { id: string; links: Links }[];
    if (!first || !second || !third) throw new Error("the batch has no three jobs");

    const token = server.token(user);
    const whole = await openStream({
      url: server.url,
      path: `/v1/batches/${batch.id}/events`,
      token,
    });
    const meshes = await openStream({
      url: server.url,
      path: `/v1/events?batch=${batch.id}`,
      token,
    });
    const untilBatch = async (state: object) => {
      const event = await whole.next(({ type, data }) => {
        if (type !== "batch") return false;
        const seen = JSON.parse(data);
        return Object.entries(state).every(([key, value]) => seen[key] === value);
      });
      return JSON.parse(event.data);
    };

    expect(
      (await callBack(first.links, { status: "in_progress", progress: 50, message: "Meshing" }))
        .status,
    ).toBe(200);
    expect((await untilBatch({ status: "processing" })).progress).toBeCloseTo(16.67);

    await callBack(first.links, { status: "completed", result: { url: "https://a/1.glb" } });
    await callBack(second.links, { status: "failed", message: "No geometry found" });
    await untilBatch({ completed: 1, failed: 1 });

    const cancelled = await server.call("POST", `/v1/batches/${batch.id}/cancel`, undefined, user);
    expect(cancelled.status).toBe(200);
    expect(await untilBatch({ failed: 2 })).toMatchObject({
      completed: 1,
      progress: 100,
      status: "completed",
    });
    await whole.ended;
    expect((await server.call("GET", third.links.self, undefined, user)).body.status).toBe(
      "cancelled",
    );

    const retried = await server.call("POST", `${second.links.self}/retry`, undefined, user);
    expect(retried.body).toMatchObject({ status: "pending", attempt: 2, message: null });
    const reopened = await server.call("GET", `/v1/batches/${batch.id}`, undefined, user);
    expect(reopened.body).toMatchObject({ failed: 1, status: "processing", finishedAt: null });

    const seen = meshes.events
      .filter(({ type }) => type === "status")
      .map(({ data }) => JSON.parse(data));
    for (const mesh of [first, second, third]) {
      const versions = seen.filter(({ jobId }) => jobId === mesh.id).map(({ version }) => version);
      expect(versions).toEqual(versions.map((_, index) => index + 1));
    }
    await meshes.close();
  });

  it("takes no callback with another mesh's token, or none", async () => {
    const { body } = await server.call(
      "POST",
      "/v1/batches",
      { title: "Two", jobs: [{ type: "mesh" }, { type: "mesh" }] },
      user,
    );
    const [one, two] = body.jobs as { id: string; links: Links }[];
    if (!one || !two) throw new Error("the batch has no two jobs");
    const foreign = { self: one.links.self, callback: two.links.callback.replace(two.id, one.id) };
    expect((await callBack(foreign, { status: "completed" })).status).toBe(401);
    const none = { self: one.links.self, callback: `/v1/callbacks/${one.id}` };
    expect((await callBack(none, { status: "completed" })).status).toBe(401);
    expect((await server.call("GET", one.links.self, undefined, user)).body.status).toBe("pending");
  });

  it("is watched by a collaborator, who gets a token with its creation and sees nothing else", async () => {
    const { body } = await server.call(
      "POST",
      "/v1/batches",
      { title: "Shared", jobs: [{ type: "mesh" }, { type: "mesh" }], streamToken: {} },
      user,
    );
    const { token } = body.streamToken;
    const meshes = await openStream({ url: server.url, path: "/v1/events", token });
    const whole = await openStream({
      url: server.url,
      path: `/v1/batches/${body.id}/events`,
      token,
    });
    await meshes.take(2);
    await whole.next();
    await callBack(body.jobs[0].links, { status: "completed", result: { url: "a.glb" } });
    const seen = JSON.parse((await meshes.next()).data);
    expect(seen).toMatchObject({ jobId: body.jobs[0].id, type: "mesh", status: "completed" });
    await whole.next(({ data }) => JSON.parse(data).completed === 1);
    const refused = await openStream({ url: server.url, path: "/v1/credits", token });
    expect(refused.status).toBe(403);
    await meshes.close();
    await whole.close();
    await refused.close();
  });
});
