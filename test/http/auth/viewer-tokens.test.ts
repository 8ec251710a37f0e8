import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Edge, startEdge } from "../../stream/edge.ts";
import type { TokenClaims } from "../../support/tokens.ts";

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge();
});
afterAll(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

const backend = { sub: "backend", scope: "jobs:write" };
const newOwner = () => `owner-${randomUUID()}`;

const call = (method: string, path: string, body?: unknown, claims: TokenClaims = backend) =>
  edge.server.call(method, path, body, claims);

/** A request with a stream token. */
async function as(token: string, path: string, method = "GET"): Promise<number> {
  const { status } = await fetch(new URL(path, edge.server.url), {
    method,
    headers: { authorization: `Bearer ${token}`, accept: "application/json" },
  });
  return status;
}

async function mint(body: object, claims: TokenClaims = backend): Promise<string> {
  const answer = await call("POST", "/v1/stream-tokens", body, claims);
  expect([answer.status, answer.body.detail]).toEqual([201, undefined]);
  return answer.body.token;
}

async function createBatch(ownerId: string, more: object = {}) {
  const body = { ownerId, jobs: [{ type: "mesh" }, { type: "mesh" }], ...more };
  return (await call("POST", "/v1/batches", body)).body;
}

describe("a stream token of a batch", () => {
  it("watches the batch and its jobs for a collaborator, and nothing else", async () => {
    const owner = newOwner();
    const [batch, other] = [await createBatch(owner), await createBatch(owner)];
    const token = await mint({ batchId: batch.id }, { sub: owner, scope: "" });
    const [job] = batch.jobs;
    for (const path of [
      `/v1/batches/${batch.id}`,
      `/v1/batches/${batch.id}/events?wait=0`,
      `/v1/events?batchId=${batch.id}&wait=0`,
      "/v1/events?wait=0",
      `/v1/jobs/${job.id}`,
      `/v1/jobs/${job.id}/history`,
      `/v1/jobs/${job.id}/events?wait=0`,
      `/v1/jobs?batchId=${batch.id}`,
    ]) {
      expect([path, await as(token, path)]).toEqual([path, 200]);
    }
    for (const path of [
      `/v1/batches/${other.id}`,
      `/v1/batches/${other.id}/events?wait=0`,
      `/v1/events?batchId=${other.id}&wait=0`,
      `/v1/jobs/${other.jobs[0].id}`,
      `/v1/jobs/${other.jobs[0].id}/events?wait=0`,
      `/v1/events?jobs=${other.jobs[0].id}&wait=0`,
    ]) {
      expect([path, await as(token, path)]).toEqual([path, 404]);
    }
    for (const path of ["/v1/jobs", `/v1/jobs?batchId=${other.id}`, `/v1/jobs?ownerId=${owner}`]) {
      expect([path, await as(token, path)]).toEqual([path, 403]);
    }
    for (const path of [`/v1/batches/${batch.id}`, `/v1/jobs/${job.id}`]) {
      expect(await as(token, path, "DELETE")).toBe(403);
    }
    expect(await as(token, "/v1/credits")).toBe(403);
  });

  it("tells of the jobs live, and not whose they are", async () => {
    const owner = newOwner();
    const batch = await createBatch(owner);
    const token = await mint({ batchId: batch.id });
    const stream = await edge.open("/v1/events", { token });
    await stream.take(2);
    await edge.complete(batch.jobs[0].id);
    const told = JSON.parse((await stream.next()).data);
    expect(told).toMatchObject({ jobId: batch.jobs[0].id, status: "completed" });
    expect(told).not.toHaveProperty("ownerId");
    await stream.close();
  });

  it("is made by nobody who may not see the batch", async () => {
    const batch = await createBatch(newOwner());
    for (const id of [batch.id, randomUUID()]) {
      const answer = await call(
        "POST",
        "/v1/stream-tokens",
        { batchId: id },
        { sub: "x", scope: "" },
      );
      expect(answer.status).toBe(404);
    }
  });
});

describe("a stream token of an owner", () => {
  it("is made by a backend, and sees what the owner sees", async () => {
    const owner = newOwner();
    const { body: job } = await call("POST", "/v1/jobs", { type: "t", ownerId: owner });
    const { body: foreign } = await call("POST", "/v1/jobs", { type: "t", ownerId: newOwner() });
    const token = await mint({ ownerId: owner });
    expect(await as(token, `/v1/jobs/${job.id}`)).toBe(200);
    expect(await as(token, `/v1/jobs/${foreign.id}`)).toBe(404);
    const list = await fetch(new URL("/v1/jobs", edge.server.url), {
      headers: { authorization: `Bearer ${token}` },
    });
    const { items, streamCursor } = (await list.json()) as {
      items: { id: string }[];
      streamCursor: string;
    };
    expect(items.map(({ id }) => id)).toEqual([job.id]);
    await edge.complete(job.id);
    const stream = await edge.open(`/v1/events?after=${streamCursor}`, { token });
    expect(JSON.parse((await stream.next()).data)).toMatchObject({ jobId: job.id, version: 2 });
    await stream.close();
  });

  it.each([
    ["", 403],
    ["jobs:read", 403],
    ["jobs:create", 403],
  ])("of somebody else is refused to a caller with the scopes %j", async (scope, status) => {
    const answer = await call("POST", "/v1/stream-tokens", { ownerId: "bob" }, { sub: "x", scope });
    expect(answer.status).toBe(status);
  });

  it("is of one thing", async () => {
    const id = randomUUID();
    for (const body of [
      { ownerId: "a", jobs: [id] },
      { batchId: id, jobs: [id] },
      { batchId: id, ownerId: "a" },
    ]) {
      expect((await call("POST", "/v1/stream-tokens", body)).status).toBe(400);
    }
  });
});

describe("a creation that asks for a stream token", () => {
  it("gets one for the job, with which its owner's page watches", async () => {
    const owner = newOwner();
    const answer = await call("POST", "/v1/jobs", {
      type: "image",
      ownerId: owner,
      streamToken: { ttlSeconds: 60 },
    });
    const { id, streamToken } = answer.body;
    const seconds = (Date.parse(streamToken.expiresAt) - Date.now()) / 1_000;
    expect(seconds).toBeGreaterThan(30);
    expect(seconds).toBeLessThan(61);
    expect(await as(streamToken.token, `/v1/jobs/${id}`)).toBe(200);
    const { body: other } = await call("POST", "/v1/jobs", { type: "image", ownerId: owner });
    expect(other).not.toHaveProperty("streamToken");
    expect(await as(streamToken.token, `/v1/jobs/${other.id}`)).toBe(404);
    const stream = await edge.openJob(id, { token: streamToken.token });
    expect(JSON.parse((await stream.next()).data)).toMatchObject({ jobId: id });
    await stream.close();
  });

  it("gets one for the batch", async () => {
    const batch = await createBatch(newOwner(), { streamToken: {} });
    const { token } = batch.streamToken;
    expect(await as(token, `/v1/batches/${batch.id}`)).toBe(200);
    expect(await as(token, `/v1/jobs/${batch.jobs[1].id}`)).toBe(200);
  });

  it("is refused for one that is too short or too long", async () => {
    for (const ttlSeconds of [0, 9, 3_601, "60"]) {
      const body = { type: "image", streamToken: { ttlSeconds } };
      expect((await call("POST", "/v1/jobs", body)).status).toBe(400);
    }
  });
});
