import { Socket } from "node:net";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { backendsOf, expectOneListener, untilAsleep, untilListener } from "./listener.ts";
import { change, createJobs, openWatch, type Watch } from "./watch.ts";

/** Two tests of the bell: how long a dead connection may pass for a living one. */
const NOTICED_MS = 2 * 10_000 + 5_000;

/** A read on a dead connection is tried after 3 s and given up after 5 s. */
const READ_ELSEWHERE_MS = 8_000 + 3_000;

let db: TestDatabase;
let proxy: TcpProxy;
let server: TestServer;
let watch: Watch;
const setKeepAlive = vi.spyOn(Socket.prototype, "setKeepAlive");

beforeEach(async () => {
  setKeepAlive.mockClear();
  db = await createTestDatabase();
  const url = new URL(db.url);
  proxy = await startTcpProxy(Number(url.port));
  url.port = String(proxy.port);
  // The listener alone goes through the proxy: what the network does to it, the pool does not feel.
  server = await startTestServer({ databaseUrl: db.url, listenDatabaseUrl: url.href });
  watch = await openWatch(server, db, await createJobs(db, 3));
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await proxy.close();
  await db.drop();
});

async function writeRounds(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const id of watch.jobs.keys()) await change(db, id);
  }
}

it("lets the kernel look after its connections to the database", () => {
  const { contexts, calls } = setKeepAlive.mock;
  const sockets = contexts as unknown as Socket[];
  const ours = calls.filter((_, index) => sockets[index]?.remotePort === proxy.port);
  // Node waits two hours unless told.
  expect(ours).toEqual([
    [true, 10_000],
    [true, 10_000],
  ]);
});

it("abandons connections that are never answered, and recovers when they are", async () => {
  const accepted = proxy.accepted();
  proxy.freeze();
  proxy.cut();
  await writeRounds(10);
  await untilListener(server, ({ status, feed }) => status === 503 && feed === "connecting");

  // Both parts have given up twice and try a third time.
  await until(() => proxy.accepted() >= accepted + 6, 15_000, "the third attempts");
  proxy.thaw();
  await watch.expectAll(6_000);
  await untilAsleep(server);
  await expectOneListener(db);
});

it("notices connections that are half open, and reads what it missed on new ones", async () => {
  const before = [...(await backendsOf(db, "feed")), ...(await backendsOf(db, "doorbell"))];
  proxy.blackhole();
  // The dead stay dead; new connections are as good as ever.
  proxy.thaw();
  await writeRounds(10);
  await watch.expectAll(READ_ELSEWHERE_MS);

  await untilListener(server, ({ status }) => status === 503, NOTICED_MS);
  await untilAsleep(server, NOTICED_MS);
  await writeRounds(10);
  await watch.expectAll();
  // The server hears of the dead ones later than we do.
  const sessions = [...(await backendsOf(db, "feed")), ...(await backendsOf(db, "doorbell"))];
  expect(sessions.filter((pid) => !before.includes(pid))).toHaveLength(2);
});

it("goes on with what was held up for a moment", async () => {
  const accepted = proxy.accepted();
  proxy.freeze();
  await writeRounds(10);
  await untilListener(server, ({ lastReadAgoMs }) => lastReadAgoMs > 3_500);
  proxy.thaw();

  await watch.expectAll();
  await untilAsleep(server);
  expect(proxy.accepted()).toBe(accepted);
});
