import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StreamEvent } from "../support/event-stream.ts";
import type { StreamOptions } from "../support/stream-client.ts";
import { type Edge, startEdge } from "./edge.ts";

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge();
});
afterAll(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

const token = (sub: string, scope = "") => edge.server.token({ sub, scope });
const newOwner = () => `owner-${randomUUID()}`;

/** Streams of a bot that may read everything. */
const openAs = (scope: string, path: string, options: Partial<StreamOptions> = {}) =>
  edge.open(path, { token: token("bot", scope), ...options });

async function create(ownerId: string, type = "image", more: object = {}): Promise<string> {
  const { status, body } = await edge.server.call(
    "POST",
    "/v1/jobs",
    { type, ownerId, ...more },
    { sub: "backend", scope: "jobs:write" },
  );
  expect(status).toBe(201);
  return body.id;
}

async function poll(path: string, claims: { sub: string; scope: string }) {
  const { status, body } = await edge.server.call("GET", path, undefined, claims);
  expect([status, body.detail]).toEqual([200, undefined]);
  return body;
}

const dataOf = ({ data }: StreamEvent) => JSON.parse(data);

describe("a stream of everybody's jobs", () => {
  it.each(["jobs:read", "jobs:write"])(
    "is what a caller with %s gets, with what a bot says of them",
    async (scope) => {
      const [ada, bob] = [newOwner(), newOwner()];
      const before = await create(ada, "image", { title: "A bicycle", metadata: { chat: 7 } });
      const stream = await openAs(scope, "/v1/events");
      const state = await stream.next(({ data }) => data.includes(before));
      expect(dataOf(state)).toMatchObject({
        ...{ jobId: before, version: 1, type: "image", title: "A bicycle", ownerId: ada },
        metadata: { chat: 7 },
      });
      expect(dataOf(state)).not.toHaveProperty("id");

      const after = await create(bob, "mesh");
      await edge.complete(after, { url: "x" });
      const end = await stream.next(
        ({ data }) => data.includes(after) && data.includes("completed"),
      );
      const told = {
        type: "mesh",
        title: null,
        metadata: null,
        ownerId: bob,
        result: { url: "x" },
      };
      expect(dataOf(end)).toMatchObject({ jobId: after, version: 2, ...told });
      await stream.close();
    },
  );

  it("is one's own jobs for everybody else, who are not told who they are", async () => {
    const [ada, bob] = [newOwner(), newOwner()];
    const stream = await edge.open("/v1/events", { token: token(ada, "jobs:create") });
    await stream.next(({ type }) => type === "ready");
    await create(bob);
    const own = await create(ada, "image", { title: "Mine" });
    const told = dataOf(await stream.next(({ type }) => type === "status"));
    expect(told).toMatchObject({ jobId: own, title: "Mine" });
    expect(told).not.toHaveProperty("ownerId");
    await stream.close();
    const polled = await poll("/v1/events?wait=0", { sub: ada, scope: "jobs:create" });
    expect(polled.events).toEqual([told]);
  });

  it("goes on after a reconnect with what was missed of everybody, and polls the same", async () => {
    const bot = { sub: "bot", scope: "jobs:read" };
    const first = await openAs("jobs:read", "/v1/events?type=replayed");
    await first.next(({ type }) => type === "ready");
    const { lastEventId } = first;
    await first.close();
    const owners = [newOwner(), newOwner()];
    const made: string[] = [];
    for (const owner of owners) made.push(await create(owner, "replayed"));

    const second = await openAs("jobs:read", "/v1/events?type=replayed", { lastEventId });
    const missed = (await second.take(2)).map(dataOf);
    await second.close();
    const answer = await poll(`/v1/events?type=replayed&wait=0&after=${lastEventId}`, bot);

    const seen = missed.map(({ jobId, ownerId }) => [jobId, ownerId]);
    const expected = [0, 1].map((index) => [made[index], owners[index]]);
    expect(seen.toSorted()).toEqual(expected.toSorted());
    expect(answer.events).toEqual(missed);
  });

  it("tells of whom a deleted job was", async () => {
    const ada = newOwner();
    const id = await create(ada, "gone");
    const stream = await openAs("jobs:read", `/v1/events?jobs=${id}`);
    await stream.next();
    await edge.complete(id);
    await stream.next(({ data }) => data.includes("completed"));
    await edge.db.query("delete from jobcast.jobs where id = $1", [id]);
    const gone = dataOf(await stream.next(({ type }) => type === "deleted"));
    expect(gone).toEqual({ jobId: id, version: 3, deleted: true, ownerId: ada });
    await stream.close();
  });

  it("is told what is too large for every event: that there is more", async () => {
    const large = "x".repeat(2_000);
    const id = await create(newOwner(), "large", { title: large, metadata: { large } });
    const stream = await openAs("jobs:read", "/v1/events?type=large");
    const told = dataOf(await stream.next());
    expect(told).toMatchObject({ jobId: id, title: null, metadata: null });
    expect(told.omitted).toEqual(["title", "metadata"]);
    await edge.report(id, 10);
    expect(dataOf(await stream.next()).omitted).toEqual(["title", "metadata"]);
    await stream.close();
    const { body } = await edge.server.call("GET", `/v1/jobs/${id}`);
    expect(body).toMatchObject({ title: large, metadata: { large } });
    expect(body).not.toHaveProperty("omitted");
  });
});

describe("the filters of a stream", () => {
  it("let through what they name, live, as states and as what was missed", async () => {
    const ada = newOwner();
    const [mesh, image] = [await create(ada, "mesh"), await create(ada, "image")];
    const query = `ownerId=${ada}&type=mesh,video&status=processing,completed`;
    const stream = await openAs("jobs:read", `/v1/events?${query}`);
    const { lastEventId } = await stream.next(({ type }) => type === "ready");
    // Each of what is told comes after something that is not: by its type, or by its status.
    await create(ada, "mesh");
    for (const id of [image, mesh]) {
      await edge.report(id, 10);
      await edge.complete(id);
    }
    const live = (await stream.take(2)).map(dataOf);
    await stream.close();
    expect(live.map(({ jobId, status }) => [jobId, status])).toEqual([
      [mesh, "processing"],
      [mesh, "completed"],
    ]);

    const again = await openAs("jobs:read", `/v1/events?${query}`, { lastEventId });
    expect((await again.take(2)).map(dataOf)).toEqual(live);
    await again.close();

    const video = await create(ada, "video");
    await edge.report(video, 20);
    const bot = { sub: "bot", scope: "jobs:read" };
    const states = await poll(`/v1/events?${query}&wait=0`, bot);
    expect(states.events).toMatchObject([{ jobId: video, progress: 20 }]);
  });

  it("hold on every page of what there is and of what was missed", async () => {
    const bot = { sub: "bot", scope: "jobs:read" };
    const [batch] = await edge.db.query<{ id: string }>(
      `select id from jobcast.create_batch($1, 'pages', (
         select jsonb_agg(jsonb_build_object(
           'title', n::text, 'type', case n % 2 when 0 then 'kept' else 'other' end
         )) from generate_series(1, 2400) n
       ))`,
      [newOwner()],
    );
    const change = (set: string, where: string) =>
      edge.db.query<{ id: string; type: string }>(
        `update jobcast.jobs set ${set} where batch_id = $1 and ${where} returning id, type`,
        [batch?.id],
      );
    await change("status = 'completed'", "title::int % 4 = 0");
    const path = `/v1/events?batchId=${batch?.id}&type=kept`;
    /** Polls until nothing is left: how many pages that took, and what they had. */
    async function walk(query: string, from?: string) {
      const events: { jobId: string; version: number }[] = [];
      for (let [cursor, pages] = [from, 0]; ; pages += 1) {
        const after = cursor === undefined ? "" : `&after=${cursor}`;
        const page = await poll(`${path}&${query}&wait=0${after}`, bot);
        if (page.events.length === 0) return { events, pages, cursor: String(page.cursor) };
        events.push(...page.events);
        cursor = page.cursor;
      }
    }
    const versionsOf = (told: readonly { jobId: string; version: number }[]) =>
      told.map(({ jobId, version }) => `${jobId} ${version}`).toSorted();

    const states = await walk("status=pending");
    expect(states.pages).toBeGreaterThan(1);
    const changed = await change("progress = 7", "status = 'pending'");
    await change("status = 'failed'", "status = 'processing'");
    const kept = changed.filter(({ type }) => type === "kept").map(({ id }) => id);
    expect(kept).toHaveLength(600);
    expect(versionsOf(states.events)).toEqual(kept.map((id) => `${id} 1`).toSorted());

    const expected = kept.map((id) => `${id} 2`).toSorted();
    const missed = await walk("status=processing", states.cursor);
    expect(missed.pages).toBeGreaterThan(1);
    expect(versionsOf(missed.events)).toEqual(expected);
    const stream = await openAs("jobs:read", `${path}&status=processing`, {
      lastEventId: states.cursor,
    });
    // The last one of a replay has another id than the client came with.
    await stream.next(({ lastEventId }) => lastEventId !== states.cursor);
    expect(versionsOf(stream.events.map(dataOf))).toEqual(expected);
    await stream.close();
  });

  it("are no reason for a poll to be answered with nothing", async () => {
    const ada = newOwner();
    const path = `/v1/events?ownerId=${ada}&status=completed`;
    const bot = { sub: "bot", scope: "jobs:read" };
    const { cursor } = await poll(`${path}&wait=0`, bot);
    const answer = poll(`${path}&wait=30&after=${cursor}`, bot);
    const id = await create(ada);
    await edge.report(id, 10);
    await edge.complete(id);
    expect((await answer).events).toMatchObject([{ jobId: id, status: "completed" }]);
  });

  it("are by the names of other systems, too", async () => {
    const ada = newOwner();
    const id = await create(ada);
    await edge.report(id, 10);
    const stream = await openAs("jobs:read", `/v1/events?ownerId=${ada}&status=in_progress`);
    expect(dataOf(await stream.next())).toMatchObject({ jobId: id, status: "processing" });
    await stream.close();
  });

  it.each([
    ["an owner who is somebody else", "ownerId=somebody", 403],
    ["jobs and an owner", `jobs=${randomUUID()}&ownerId=bot`, 400],
    ["a batch and an owner", `batchId=${randomUUID()}&ownerId=bot`, 400],
    ["two owners", "ownerId=a&ownerId=b", 400],
    ["a status that is none", "status=done", 400],
    ["an empty type", "type=", 400],
  ])("are refused for %s", async (_, query, status) => {
    const answer = await edge.server.call("GET", `/v1/events?${query}`, undefined, {
      sub: "bot",
      scope: "",
    });
    expect(answer.status).toBe(status);
  });

  it("widen no token of single jobs", async () => {
    const ada = newOwner();
    const id = await create(ada);
    await create(ada);
    const { body } = await edge.server.call(
      "POST",
      "/v1/stream-tokens",
      { jobs: [id] },
      { sub: "bot", scope: "jobs:read" },
    );
    const stream = await edge.open("/v1/events", { token: body.token });
    const told = dataOf(await stream.next());
    expect(told).toMatchObject({ jobId: id });
    expect(told).not.toHaveProperty("ownerId");
    await stream.close();
    const refused = await edge.open(`/v1/events?ownerId=${ada}`, { token: body.token });
    expect([refused.status, JSON.parse(await refused.body()).code]).toEqual([
      400,
      "invalid_request",
    ]);
  });
});

describe("a query that nobody reads", () => {
  it.each([
    ["/v1/events?job=x", "query.job", 'is not known here; did you mean "jobs"?'],
    ["/v1/events?owner_id=x", "query.owner_id", 'is not known here; did you mean "ownerId"?'],
    ["/v1/jobs/:id/events?since=3", "query.since", "is not known here"],
    ["/v1/batches/:id/events?status=failed", "query.status", "is not known here"],
  ])("is refused: %s", async (path, field, message) => {
    const id = randomUUID();
    for (const accept of ["text/event-stream", "application/json"]) {
      const answer = await edge.open(path.replace(":id", id), { headers: { accept } });
      expect(answer.status).toBe(400);
      expect(JSON.parse(await answer.body()).fields).toEqual([{ path: field, message }]);
    }
  });

  it("is read by its older names", async () => {
    const ada = newOwner();
    const id = await create(ada);
    const stream = await openAs("jobs:read", `/v1/events?owner=${ada}`);
    expect(dataOf(await stream.next())).toMatchObject({ jobId: id });
    await stream.close();
    const list = await edge.server.call("GET", `/v1/jobs?owner=${ada}`);
    expect(list.body.items).toMatchObject([{ id }]);
  });
});

describe("a list, and the stream that goes on where it ends", () => {
  it("miss nothing of what happens in between", async () => {
    const ada = newOwner();
    const [ends, begins] = [await create(ada), "begins"];
    const list = await edge.server.call("GET", "/v1/jobs", undefined, { sub: ada, scope: "" });
    expect(list.body.items).toMatchObject([{ id: ends, status: "pending" }]);
    await edge.complete(ends);
    const late = await create(ada, begins);
    await edge.complete(late);

    const path = `/v1/events?lastEventId=${list.body.streamCursor}`;
    const stream = await edge.open(path, { token: token(ada) });
    const told = (await stream.take(3)).map(dataOf);
    await stream.close();

    expect(told.map(({ jobId, version }) => `${jobId} ${version}`).toSorted()).toEqual(
      [`${ends} 2`, `${late} 1`, `${late} 2`].toSorted(),
    );
  });

  it("repeat nothing that the list has told, while others write", async () => {
    const ada = newOwner();
    await Promise.all(Array.from({ length: 20 }, () => create(ada)));
    const open = await edge.db.connect();
    await open.query("begin");
    const slow = await open.query<{ id: string }>("select id from jobcast.create_job($1, 'slow')", [
      ada,
    ]);
    const list = await edge.server.call("GET", "/v1/jobs?limit=100", undefined, {
      sub: ada,
      scope: "",
    });
    expect(list.body.items).toHaveLength(20);
    await open.query("commit");

    const stream = await edge.open(`/v1/events?lastEventId=${list.body.streamCursor}`, {
      token: token(ada),
    });
    expect(dataOf(await stream.next())).toMatchObject({ jobId: slow.rows[0]?.id, version: 1 });
    expect(stream.events).toHaveLength(1);
    await stream.close();
  });

  it("has a cursor where there is no job yet", async () => {
    const ada = newOwner();
    const list = await edge.server.call("GET", "/v1/jobs", undefined, { sub: ada, scope: "" });
    expect(list.body).toMatchObject({ items: [], nextCursor: null });
    const id = await create(ada);
    await edge.complete(id);
    const { events } = await poll(`/v1/events?wait=0&after=${list.body.streamCursor}`, {
      sub: ada,
      scope: "",
    });
    expect(events.map(({ version }: { version: number }) => version)).toEqual([1, 2]);
  });
});
