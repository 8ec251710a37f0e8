import { afterAll, beforeAll, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let proxy: TcpProxy;
let server: TestServer;

beforeAll(async () => {
  database = await createTestDatabase();
  const url = new URL(database.url);
  proxy = await startTcpProxy(Number(url.port));
  url.port = String(proxy.port);
  server = await startTestServer({ databaseUrl: url.href });
});
afterAll(async () => {
  await server?.stop();
  await proxy?.close();
  await database?.drop();
});

/** Each asks for a stream, for a list, and whether the service is ready. */
const COMERS = 200;

type Line = { level: number; msg: string; err?: { stack?: string }; times?: number };

const lines = () =>
  server.logged.map((line) => JSON.parse(line) as Line).filter(({ level }) => level >= 30);
const saying = (pattern: RegExp) => lines().filter(({ msg }) => pattern.test(msg));

it("is a few lines for an outage, however many come meanwhile", async () => {
  await until(
    () => server.call("GET", "/readyz").then(({ status }) => status === 200),
    10_000,
    "it",
  );
  const before = server.logged.length;
  proxy.refuse();
  proxy.cut();
  await until(() => saying(/^not ready$/).length > 0, 20_000, "the line that it is away");
  const come = async () => {
    const token = server.token();
    const deadlineMs = 30_000;
    const stream = await openStream({ url: server.url, path: "/v1/events", token, deadlineMs });
    await stream.ended;
    const { status } = await server.call("GET", "/v1/jobs");
    expect(status).toBe(503);
    await server.call("GET", "/readyz");
  };
  await Promise.all(Array.from({ length: COMERS }, come));
  await proxy.accept();
  await until(() => saying(/^ready again$/).length > 0, 30_000, "the line that it is back");
  await until(() => saying(/^no longer: a request failed: /).length > 0, 30_000, "the count");

  const written = server.logged.slice(before).map((line) => JSON.parse(line) as Line);
  const shown = written.filter(({ level }) => level >= 30);
  expect(saying(/^not ready$/)).toHaveLength(1);
  expect(saying(/^no longer: a request failed: database_unavailable$/)[0]?.times).toBe(COMERS);
  expect(shown.length, shown.map(({ msg }) => msg).join("\n")).toBeLessThan(40);
  expect(shown.filter(({ err }) => err?.stack !== undefined)).toEqual([]);
}, 120_000);
