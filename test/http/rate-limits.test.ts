import { afterEach, describe, expect, it } from "vitest";
import { addressOf } from "../../src/http/address.ts";
import type { JobcastOptions } from "../../src/jobcast.ts";
import { type Edge, startEdge } from "../stream/edge.ts";

const NOBODYS_JOB = "00000000-0000-7000-8000-000000000000";

let edge: Edge;
afterEach(() => edge?.stop());

async function start(limits: NonNullable<JobcastOptions["limits"]>): Promise<void> {
  edge = await startEdge({ limits });
}

const create = (sub: string, headers: Record<string, string> = {}) =>
  request("POST", "/v1/jobs", {
    authorization: `Bearer ${edge.server.token({ sub, scope: "jobs:create" })}`,
    "content-type": "application/json",
    ...headers,
  });

async function request(method: string, path: string, headers: Record<string, string>) {
  const response = await fetch(new URL(path, edge.server.url), {
    method,
    headers,
    ...(method === "POST" && { body: '{"type":"t"}' }),
  });
  const body = (await response.json()) as { code?: string; id?: string };
  return { status: response.status, headers: response.headers, body };
}

const repeat = async <T>(count: number, one: () => Promise<T>): Promise<T[]> => {
  const all: T[] = [];
  for (let index = 0; index < count; index++) all.push(await one());
  return all;
};

describe("a subject that writes too often", () => {
  it("is told when to come back, each a little later, and nobody else is", async () => {
    await start({ writesPerMinute: 5 });
    const answers = await repeat(20, () => create("ann"));
    expect(answers.map(({ status }) => status)).toEqual([
      ...Array.from({ length: 5 }, () => 201),
      ...Array.from({ length: 15 }, () => 429),
    ]);
    const refused = answers.slice(5);
    expect(new Set(refused.map(({ body }) => body.code))).toEqual(new Set(["rate_limited"]));
    const waits = refused.map(({ headers }) => Number(headers.get("retry-after")));
    expect(Math.min(...waits)).toBeGreaterThan(30);
    expect(Math.max(...waits)).toBeLessThan(80);
    expect(new Set(waits).size).toBeGreaterThan(1);
    expect((await create("bob")).status).toBe(201);
    const read = await edge.server.call("GET", "/v1/jobs", undefined, { sub: "ann", scope: "" });
    expect(read.body.items).toHaveLength(5);
  });

  it("is counted by each process", async () => {
    await start({ writesPerMinute: 2 });
    const second = await startEdge({ limits: { writesPerMinute: 2 } });
    try {
      expect((await repeat(3, () => create("ann"))).at(-1)?.status).toBe(429);
      const [first] = [edge];
      edge = second;
      expect((await create("ann")).status).toBe(201);
      await first.stop();
    } finally {
      if (edge !== second) await second.stop();
    }
  });
});

describe("streams that begin too often", () => {
  it("are refused to their subject, as streams and as polls, and begin for others", async () => {
    await start({ streamsPerMinute: 3 });
    const ids = [await edge.newJob(), await edge.newJob("bob")];
    for (let count = 0; count < 3; count++) {
      const stream = await edge.openJob(ids[0] ?? "");
      expect(stream.status).toBe(200);
      await stream.close();
    }
    const refused = await edge.openJob(ids[0] ?? "");
    expect([refused.status, JSON.parse(await refused.body()).code]).toEqual([429, "rate_limited"]);
    const poll = await edge.server.call("GET", `/v1/jobs/${ids[0]}/events?wait=0`);
    expect(poll.status).toBe(429);
    const other = await edge.openJob(ids[1] ?? "", {
      token: edge.server.token({ sub: "bob", scope: "" }),
    });
    expect(other.status).toBe(200);
    await other.close();
  });
});

describe("an address", () => {
  it("that sent too many bad tokens is not asked for another, be it a good one", async () => {
    await start({ refusalsPerMinute: 3, trustedProxies: 1 });
    const from = (address: string, token = "x.y.z") =>
      request("GET", "/v1/jobs", {
        authorization: `Bearer ${token}`,
        "x-forwarded-for": address,
      });
    const bad = await repeat(5, () => from("192.0.2.1"));
    expect(bad.map(({ status }) => status)).toEqual([401, 401, 401, 429, 429]);
    const good = edge.server.token({ sub: "ann", scope: "" });
    expect((await from("192.0.2.1", good)).status).toBe(429);
    expect((await from("192.0.2.2", good)).status).toBe(200);
    // What no token is is no guess.
    const none = await request("GET", "/v1/jobs", { "x-forwarded-for": "192.0.2.3" });
    expect(none.status).toBe(401);
  });

  it("that calls back too often is put off, which providers come back from", async () => {
    await start({ callbacksPerMinute: 2 });
    const call = () =>
      request("POST", `/v1/callbacks/${NOBODYS_JOB}?token=x`, {
        "content-type": "application/json",
      });
    const statuses = (await repeat(4, call)).map(({ status }) => status);
    expect(statuses.slice(2)).toEqual([429, 429]);
    expect(statuses.slice(0, 2)).not.toContain(429);
  });

  it("has all of its subjects counted together", async () => {
    await start({ addressPerMinute: 4 });
    const statuses = [];
    for (const sub of ["a", "b", "c", "d", "e"]) statuses.push((await create(sub)).status);
    expect(statuses).toEqual([201, 201, 201, 201, 429]);
  });
});

describe("where a request comes from", () => {
  const of = (remoteAddress: string, forwarded: string | undefined, proxies: number) =>
    addressOf(
      { socket: { remoteAddress }, get: () => forwarded } as unknown as Parameters<
        typeof addressOf
      >[0],
      proxies,
    );

  it.each([
    ["the socket, without proxies", "10.0.0.1", "1.1.1.1", 0, "10.0.0.1"],
    [
      "what the one proxy saw, whatever was sent to it",
      "10.0.0.1",
      "6.6.6.6, 1.1.1.1",
      1,
      "1.1.1.1",
    ],
    ["what the first of two saw", "10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", 2, "1.1.1.1"],
    ["the socket, where a proxy said nothing", "10.0.0.1", undefined, 1, "10.0.0.1"],
    ["the socket, where fewer proxies said something", "10.0.0.1", "1.1.1.1", 2, "10.0.0.1"],
    ["an IPv4 address that came as IPv6", "::ffff:1.2.3.4", undefined, 0, "1.2.3.4"],
    ["with a port", "10.0.0.1", "1.2.3.4:5678", 1, "1.2.3.4"],
    ["the network of an IPv6 address", "2001:db8:1:2:3:4:5:6", undefined, 0, "2001:db8:1:2::"],
    ["the same in brackets", "10.0.0.1", "[2001:db8:1:2::9]:80", 1, "2001:db8:1:2::"],
    ["whatever it says", "10.0.0.1", "unknown", 1, "unknown"],
  ])("is %s", (_, remote, forwarded, proxies, expected) => {
    expect(of(remote, forwarded, proxies)).toBe(expected);
  });
});

describe("an owner with as many unfinished jobs as one may have", () => {
  it("is answered again what was made with the same key, and nothing else", async () => {
    await start({ unfinishedJobsPerOwner: 3 });
    type Made = { readonly id?: string; readonly items?: readonly { readonly id: string }[] };
    const keyed = async (path: string, key: string, body: object) => {
      const response = await fetch(`${edge.server.url}${path}`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${edge.server.token({ sub: "ann", scope: "jobs:create" })}`,
          "content-type": "application/json",
          "idempotency-key": key,
        },
        body: JSON.stringify(body),
      });
      return { status: response.status, body: (await response.json()) as Made };
    };
    const batch = () => keyed("/v1/batches", "b", { jobs: [{ type: "t" }] });
    const made = await batch();
    const more = () => keyed(`/v1/batches/${made.body.id}/jobs`, "m", { jobs: [{ type: "t" }] });
    const job = () => keyed("/v1/jobs", "j", { type: "t" });
    const [added, single] = [await more(), await job()];
    expect([made.status, added.status, single.status]).toEqual([201, 201, 201]);
    expect((await create("ann")).status).toBe(429);
    expect((await batch()).body.id).toBe(made.body.id);
    expect((await more()).body.items?.[0]?.id).toBe(added.body.items?.[0]?.id);
    expect((await job()).body.id).toBe(single.body.id);
    // The key of something else makes something new.
    expect((await keyed("/v1/jobs", "b", { type: "t" })).status).toBe(429);
    expect((await keyed("/v1/batches", "j", { jobs: [{ type: "t" }] })).status).toBe(429);
  });

  it("creates none before one has ended", async () => {
    await start({ unfinishedJobsPerOwner: 3 });
    const ids = (await repeat(3, () => create("ann"))).map(({ body }) => body.id ?? "");
    const refused = await create("ann");
    expect([refused.status, refused.body.code]).toEqual([429, "quota_exceeded"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await create("bob")).status).toBe(201);
    const batch = (count: number) =>
      edge.server.call(
        "POST",
        "/v1/batches",
        { jobs: Array.from({ length: count }, () => ({ type: "t" })) },
        { sub: "ann", scope: "jobs:create" },
      );
    expect((await batch(1)).status).toBe(429);
    for (const id of ids.slice(0, 2)) await edge.complete(id);
    expect((await batch(3)).status).toBe(429);
    const made = await batch(2);
    expect(made.status).toBe(201);
    await edge.complete(ids[2] ?? "");
    const add = (count: number) =>
      edge.server.call(
        "POST",
        `/v1/batches/${made.body.id}/jobs`,
        { jobs: Array.from({ length: count }, () => ({ type: "t" })) },
        { sub: "ann", scope: "jobs:create" },
      );
    expect((await add(2)).status).toBe(429);
    expect((await add(1)).status).toBe(201);
  });
});

describe("an owner whose unfinished jobs take as many bytes as they may", () => {
  it("creates none before one has ended", async () => {
    await start({ unfinishedBytesPerOwner: 10_000 });
    const [large] = await edge.db.query<{ id: string }>(
      `select id from jobcast.create_job('ann', 't', params =>
         (select jsonb_agg(md5(n::text)) from generate_series(1, 1000) n))`,
    );
    const refused = await create("ann");
    expect([refused.status, refused.body.code]).toEqual([429, "quota_exceeded"]);
    expect((await create("bob")).status).toBe(201);
    await edge.complete(large?.id ?? "");
    expect((await create("ann")).status).toBe(201);
  });
});

describe("the log", () => {
  it("has a line for the auditor: money by hand, what was done to others, who was refused", async () => {
    await start({});
    const admin = { sub: "admin", scope: "jobs:write credits:grant" };
    const call = (method: string, path: string, body: object | undefined, claims = admin) =>
      edge.server.call(method, path, body, claims);
    await call("POST", "/v1/credits/grants", { ownerId: "ann", amount: 5, reason: "gift" });
    await call("POST", "/v1/credits/adjustments", { ownerId: "ann", amount: -1, reason: "fix" });
    await call("PATCH", "/v1/credits", { ownerId: "ann", overdraft: 3 });
    const [his, hers] = [await edge.newJob("ann"), await edge.newJob("ann")];
    await call("POST", `/v1/jobs/${his}/cancel`, {});
    await call("DELETE", `/v1/jobs/${his}`, undefined);
    await call("POST", `/v1/jobs/${hers}/cancel`, {}, { sub: "ann", scope: "" });
    const done = await edge.newJob("ann");
    await edge.complete(done);
    expect((await call("POST", `/v1/jobs/${done}/cancel`, {})).status).toBe(409);
    await call(
      "POST",
      "/v1/credits/grants",
      { ownerId: "eve", amount: 1 },
      { sub: "eve", scope: "" },
    );
    const lines = edge.server.logged
      .map((line) => JSON.parse(line) as { audit?: string; by?: string; ownerId?: string })
      .filter((line) => line.audit !== undefined);
    expect(lines.map(({ audit, by, ownerId }) => [audit, by, ownerId])).toEqual([
      ["credits.granted", "admin", "ann"],
      ["credits.adjusted", "admin", "ann"],
      ["credits.overdraft", "admin", "ann"],
      ["job.cancelled", "admin", "ann"],
      ["job.deleted", "admin", "ann"],
      ["access.refused", "eve", undefined],
    ]);
  });
});
