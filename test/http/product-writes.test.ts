import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Edge, startEdge } from "../stream/edge.ts";
import { openStream } from "../support/stream-client.ts";
import type { TokenClaims } from "../support/tokens.ts";

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

async function create(ownerId: string, more: object = {}): Promise<string> {
  const { status, body } = await call("POST", "/v1/jobs", { type: "image", ownerId, ...more });
  expect([status, body.detail]).toEqual([201, undefined]);
  return body.id;
}

const historyOf = async (id: string) => (await call("GET", `/v1/jobs/${id}/history`)).body.items;

describe("a title and metadata that are set by and by", () => {
  it("make a version, which streams and stands in the history", async () => {
    const ada = newOwner();
    const id = await create(ada, { title: "Old" });
    const stream = await edge.openJob(id, { token: edge.server.token({ sub: ada, scope: "" }) });
    await stream.next();
    const { status, body } = await call("PATCH", `/v1/jobs/${id}`, {
      title: "New",
      metadata: { album: 7 },
      progress: 10,
    });
    expect(status).toBe(200);
    const told = { version: 2, title: "New", metadata: { album: 7 }, progress: 10 };
    expect(body).toMatchObject(told);
    expect(JSON.parse((await stream.next()).data)).toMatchObject(told);
    await stream.close();
    expect((await historyOf(id)).length).toBe(2);
  });

  it("may be set by an owner, who may report nothing", async () => {
    const ada = newOwner();
    const id = await create(ada);
    const owner = { sub: ada, scope: "" };
    const named = await call("PATCH", `/v1/jobs/${id}`, { title: "Mine" }, owner);
    expect([named.status, named.body.title]).toEqual([200, "Mine"]);
    const report = await call("PATCH", `/v1/jobs/${id}`, { title: "x", progress: 50 }, owner);
    expect([report.status, report.body.code]).toEqual([403, "insufficient_scope"]);
    const attempt = await call("PATCH", `/v1/jobs/${id}`, { status: "completed" }, owner);
    expect(attempt.status).toBe(403);
    const stranger = await call("PATCH", `/v1/jobs/${id}`, { title: "x" }, { sub: "x", scope: "" });
    expect(stranger.status).toBe(403);
    expect((await call("GET", `/v1/jobs/${id}`)).body).toMatchObject({ title: "Mine", version: 2 });
  });

  it("may be set of a job that has ended, and the same again changes nothing", async () => {
    const id = await create(newOwner());
    await edge.complete(id);
    const path = `/v1/jobs/${id}`;
    const first = await call("PATCH", path, { metadata: { liked: true } });
    expect(first.body).toMatchObject({
      status: "completed",
      version: 3,
      metadata: { liked: true },
    });
    const again = await call("PATCH", path, { metadata: { liked: true } });
    expect([again.status, again.body.version]).toEqual([200, 3]);
    const late = await call("PATCH", path, { metadata: { liked: true }, message: "late" });
    expect([late.status, late.body.code]).toEqual([409, "job_conflict"]);
  });

  it("make a version for SQL too, whatever else an update says", async () => {
    const id = await create(newOwner());
    const write = (set: string) =>
      edge.db.query(`update jobcast.jobs set ${set} where id = '${id}'`);
    await write("title = 'a'");
    await write("title = 'a'");
    await write("title = 'b', progress = 20");
    await write("progress = 10, metadata = '{\"a\":1}'");
    const [job] = await edge.db.query<{ version: number; progress: number }>(
      "select version, progress from jobcast.jobs where id = $1",
      [id],
    );
    expect(job).toEqual({ version: 4, progress: 20 });
    expect((await historyOf(id)).map(({ version }: { version: number }) => version)).toEqual([
      ...[1, 2, 3, 4],
    ]);
  });
});

describe("an update of a version", () => {
  it("is applied to that version and to no other", async () => {
    const id = await create(newOwner());
    const path = `/v1/jobs/${id}`;
    expect((await call("PATCH", path, { version: 1, progress: 10 })).body.version).toBe(2);
    const late = await call("PATCH", path, { version: 1, progress: 20 });
    expect([late.status, late.body]).toMatchObject([
      409,
      { code: "version_mismatch", job: { status: "processing", version: 2 } },
    ]);
    const many = await call("PATCH", "/v1/jobs", {
      updates: [
        { id, version: 2, progress: 30 },
        { id, version: 2, progress: 40 },
      ],
    });
    expect(many.body.results).toMatchObject([
      { ok: true, job: { version: 3, progress: 30 } },
      { ok: false, problem: { code: "version_mismatch", job: { version: 3 } } },
    ]);
  });

  it("is won by one of many that come at once", async () => {
    const id = await create(newOwner());
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        call("PATCH", `/v1/jobs/${id}`, { version: 1, message: `${index}` }),
      ),
    );
    const statuses = answers.map(({ status }) => status).toSorted();
    expect(statuses).toEqual([200, ...Array.from({ length: 19 }, () => 409)]);
    expect((await historyOf(id)).length).toBe(2);
  });

  it.each([0, -1, 1.5, "1", null])("is refused for version %j", async (version) => {
    const id = await create(newOwner());
    const { status } = await call("PATCH", `/v1/jobs/${id}`, { version, progress: 1 });
    expect(status).toBe(400);
  });
});

describe("a status by the name of another system", () => {
  it.each([
    ["canceled", "cancelled"],
    ["timed_out", "timeout"],
    ["in_progress", "processing"],
  ])("%s is %s, over HTTP, in bulk and in SQL", async (name, status) => {
    const [one, two, three] = [newOwner(), newOwner(), newOwner()];
    const ids = [await create(one), await create(two), await create(three)];
    const single = await call("PATCH", `/v1/jobs/${ids[0]}`, { status: name });
    expect([single.status, single.body.status]).toEqual([200, status]);
    const bulk = await call("PATCH", "/v1/jobs", { updates: [{ id: ids[1], status: name }] });
    expect(bulk.body.results).toMatchObject([{ ok: true, job: { status } }]);
    await edge.db.query("update jobcast.jobs set status = $2 where id = $1", [ids[2], name]);
    const listed = await call("GET", `/v1/jobs?ownerId=${three}&status=${name}`);
    expect(listed.body.items).toMatchObject([{ id: ids[2], status }]);
    // Said again it is the same end, and nothing new.
    const again = await call("PATCH", `/v1/jobs/${ids[0]}`, { status: name });
    expect([again.status, again.body.version]).toEqual([200, single.body.version]);
  });

  it("keeps the end of a job whose text cannot be kept", async () => {
    const id = await create(newOwner());
    const { status, body } = await call("PATCH", `/v1/jobs/${id}`, {
      status: "canceled",
      message: "half \ud800",
    });
    expect([status, body.status, body.message]).toEqual([200, "cancelled", "half \ufffd"]);
  });
});

describe("an id of one's own", () => {
  it("is taken once", async () => {
    const [owner, id] = [newOwner(), randomUUID()];
    expect(await create(owner, { id })).toBe(id);
    const again = await call("POST", "/v1/jobs", { type: "image", ownerId: newOwner(), id });
    expect([again.status, again.body.code]).toEqual([409, "job_exists"]);
  });

  it("is for those who may write any job: it would tell others whether there is one", async () => {
    const answer = await call(
      "POST",
      "/v1/jobs",
      { type: "image", id: randomUUID() },
      { sub: newOwner(), scope: "jobs:create" },
    );
    expect([answer.status, answer.body.code]).toEqual([403, "insufficient_scope"]);
  });

  it.each(["", "x", 7, `${randomUUID()}0`])("is refused where it is %j", async (id) => {
    expect((await call("POST", "/v1/jobs", { type: "image", id })).status).toBe(400);
  });
});

describe("a retry", () => {
  async function failed(credits = 0): Promise<{ id: string; owner: string }> {
    const owner = newOwner();
    await edge.db.query("select jobcast.grant_credits($1, 100)", [owner]);
    const id = await create(owner, { credits });
    await call("PATCH", `/v1/jobs/${id}`, {
      status: "failed",
      error: { code: "x", message: "y" },
    });
    return { id, owner };
  }

  async function retry(id: string, request: object, key?: string) {
    const response = await fetch(new URL(`/v1/jobs/${id}/retry`, edge.server.url), {
      method: "POST",
      headers: {
        authorization: `Bearer ${edge.server.token(backend)}`,
        "content-type": "application/json",
        ...(key !== undefined && { "idempotency-key": key }),
      },
      body: JSON.stringify(request),
    });
    const body = (await response.json()) as { code?: string; attempt?: number; job?: object };
    return { status: response.status, body };
  }

  it("of an attempt is begun once, however often it is asked for", async () => {
    const { id, owner } = await failed(10);
    const answers = await Promise.all(Array.from({ length: 5 }, () => retry(id, { attempt: 1 })));
    const statuses = answers.map(({ status }) => status).toSorted();
    expect(statuses).toEqual([200, 409, 409, 409, 409]);
    const late = answers.find(({ status }) => status === 409);
    expect(late?.body).toMatchObject({ code: "attempt_mismatch", job: { attempt: 2 } });
    const { body } = await call("GET", `/v1/credits?ownerId=${owner}`, undefined, {
      sub: "auditor",
      scope: "jobs:read",
    });
    expect(body.balance).toBe(90);
  });

  it("with a key charges once, and answers the same", async () => {
    const { id, owner } = await failed(10);
    const answers = await Promise.all(Array.from({ length: 5 }, () => retry(id, {}, "again")));
    expect(answers.map(({ status, body }) => [status, body.attempt])).toEqual(
      Array.from({ length: 5 }, () => [200, 2]),
    );
    const { body } = await call("GET", `/v1/credits?ownerId=${owner}`, undefined, {
      sub: "auditor",
      scope: "jobs:read",
    });
    expect(body.balance).toBe(90);
    const other = await retry(id, { message: "another" }, "again");
    expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
  });

  it("that is refused leaves its key free", async () => {
    const id = await create(newOwner());
    expect((await retry(id, {}, "early")).status).toBe(409);
    await call("PATCH", `/v1/jobs/${id}`, { status: "failed" });
    const answer = await retry(id, {}, "early");
    expect([answer.status, answer.body.attempt]).toEqual([200, 2]);
  });

  it("of no job is not found, with a key and without", async () => {
    expect((await retry(randomUUID(), { attempt: 1 })).status).toBe(404);
    expect((await retry(randomUUID(), {}, "key")).status).toBe(404);
  });
});

describe("DELETE", () => {
  it("removes a job that has ended, and tells who watches", async () => {
    const ada = newOwner();
    const owner = { sub: ada, scope: "" };
    const [id, other] = [await create(ada), await create(ada)];
    const early = await call("DELETE", `/v1/jobs/${id}`, undefined, owner);
    expect([early.status, early.body.code]).toEqual([409, "job_conflict"]);
    await edge.complete(id);
    const stream = await openStream({
      url: edge.server.url,
      path: "/v1/events",
      token: edge.server.token(owner),
    });
    await stream.next();
    const stranger = await call("DELETE", `/v1/jobs/${id}`, undefined, { sub: "x", scope: "" });
    expect(stranger.status).toBe(404);
    const done = await call("DELETE", `/v1/jobs/${id}`, undefined, owner);
    expect([done.status, done.body]).toEqual([204, undefined]);
    const gone = await stream.next(({ type }) => type === "deleted");
    expect(JSON.parse(gone.data)).toEqual({ jobId: id, version: 3, deleted: true });
    await stream.close();
    expect((await call("DELETE", `/v1/jobs/${id}`, undefined, owner)).status).toBe(404);
    expect((await call("GET", `/v1/jobs/${other}`)).status).toBe(200);
  });

  it("removes a batch that has ended, however large, and tells who watches it", async () => {
    const ada = newOwner();
    const [batch] = await edge.db.query<{ id: string }>(
      `select id from jobcast.create_batch($1, 'b',
         (select jsonb_agg('{"type":"t"}'::jsonb) from generate_series(1, 2100)))`,
      [ada],
    );
    const path = `/v1/batches/${batch?.id}`;
    const early = await call("DELETE", path);
    expect([early.status, early.body.code]).toEqual([409, "job_conflict"]);
    await call("POST", `${path}/cancel`, {});
    const stream = await edge.open("/v1/events", { token: edge.server.token(backend) });
    expect((await call("DELETE", path)).status).toBe(204);
    await stream.next(({ type }) => type === "deleted");
    await stream.close();
    expect((await call("GET", path)).status).toBe(404);
    const [left] = await edge.db.query<{ count: number }>(
      "select count(*) from jobcast.jobs where owner_id = $1",
      [ada],
    );
    expect(left?.count).toBe(0);
    expect((await call("DELETE", path)).status).toBe(404);
  });
});
