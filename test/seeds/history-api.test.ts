import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** Generations of several users: their lists with filters, their live updates, and nobody else's. */
let database: TestDatabase;
let server: TestServer;

const user = (sub: string) => ({ sub, scope: "jobs:create" });
const worker = { sub: "worker", scope: "jobs:write" };

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});

afterAll(async () => {
  await server.stop();
  await database.drop();
});

async function generate(sub: string, type: string): Promise<string> {
  const { body } = await server.call("POST", "/v1/jobs", { type }, user(sub));
  return body.id;
}

describe("the generations of a user", () => {
  it("are listed with filters and pages", async () => {
    const ids: string[] = [];
    for (const type of ["product_card", "sora", "chat", "sora", "sora"])
      ids.push(await generate("ann", type));
    await generate("ben", "sora");
    await server.call(
      "PATCH",
      `/v1/jobs/${ids[1]}`,
      { status: "completed", result: { resultUrls: ["https://a"] } },
      worker,
    );

    const list = async (query: string) =>
      (await server.call("GET", `/v1/jobs?${query}`, undefined, user("ann"))).body;
    expect((await list("offset=0")).total).toBe(5);
    expect(await list("offset=0&type=sora&limit=2")).toMatchObject({
      total: 3,
      items: [{ id: ids[4] }, { id: ids[3] }],
    });
    expect(await list("offset=2&type=sora&limit=2")).toMatchObject({
      total: 3,
      items: [{ id: ids[1] }],
    });
    expect((await list("status=completed")).items).toMatchObject([
      { id: ids[1], result: { resultUrls: ["https://a"] } },
    ]);
    expect((await list("status=completed,pending&type=chat")).items).toMatchObject([
      { id: ids[2] },
    ]);

    const now = new Date(Date.now() + 60_000).toISOString();
    expect((await list(`to=${encodeURIComponent(now)}`)).items).toHaveLength(5);
    expect((await list(`from=${encodeURIComponent(now)}`)).items).toHaveLength(0);
  });

  it("are nobody else's: not the generation, not its history, not its stream", async () => {
    const id = await generate("ann", "chat");
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/history`, `/v1/jobs/${id}/events`]) {
      const foreign = await server.call("GET", path, undefined, user("ben"));
      const absent = await server.call(
        "GET",
        path.replace(id, "01a00000-0000-7000-8000-000000000000"),
        undefined,
        user("ben"),
      );
      expect(foreign.status).toBe(404);
      expect(foreign.body).toEqual(absent.body);
    }
    const { body } = await server.call("GET", "/v1/jobs?owner=ann", undefined, {
      sub: "support",
      scope: "jobs:read",
    });
    expect(body.items.length).toBeGreaterThan(0);
  });

  it("are followed through their life on several connections of one user", async () => {
    const open = () =>
      openStream({ url: server.url, path: "/v1/events", token: server.token(user("cleo")) });
    const streams = [await open(), await open()];
    const other = await openStream({
      url: server.url,
      path: "/v1/events",
      token: server.token(user("dan")),
    });
    const id = await generate("cleo", "sora");
    await server.call("PATCH", `/v1/jobs/${id}`, { status: "processing" }, worker);
    await server.call("PATCH", `/v1/jobs/${id}`, { status: "completed" }, worker);
    for (const stream of streams) {
      const life = await stream.take(3, (event) => event.type === "status");
      expect(life.map(({ data }) => JSON.parse(data).status)).toEqual([
        "pending",
        "processing",
        "completed",
      ]);
      await stream.close();
    }
    // Dan's first event is his own.
    const his = await generate("dan", "chat");
    const first = await other.next((event) => event.type === "status");
    expect(JSON.parse(first.data).jobId).toBe(his);
    await other.close();
  });

  it("are heard of by a bot, which says whose they are and what, and was away for a while", async () => {
    const bot = { sub: "bot", scope: "jobs:read" };
    const open = (lastEventId?: string) =>
      openStream({
        url: server.url,
        path: "/v1/events?type=sora,chat&status=completed",
        token: server.token(bot),
        ...(lastEventId !== undefined && { lastEventId }),
      });
    const finish = async (sub: string, type: string) => {
      const id = await generate(sub, type);
      await server.call("PATCH", `/v1/jobs/${id}`, { status: "completed" }, worker);
      return id;
    };
    const say = ({ data }: { data: string }) => {
      const { ownerId, type, status } = JSON.parse(data);
      return `@${ownerId}: your ${type} is ${status}`;
    };
    const first = await open();
    await first.next(({ type }) => type === "ready");
    await finish("eva", "sora");
    expect(say(await first.next())).toBe("@eva: your sora is completed");
    const { lastEventId } = first;
    await first.close();
    await finish("fay", "product_card");
    await finish("gil", "chat");
    await finish("eva", "sora");

    const again = await open(lastEventId);
    expect((await again.take(2)).map(say).toSorted()).toEqual([
      "@eva: your sora is completed",
      "@gil: your chat is completed",
    ]);
    await again.close();
  });
});
