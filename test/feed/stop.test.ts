import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { untilAsleep, untilListener } from "./listener.ts";
import { createJobs, openWatch, type Watch } from "./watch.ts";

/** However the database is, a stop takes no longer. */
const STOP_MS = 2_000;

/** Longer than the pauses between the first attempts to connect: a ghost would have come back. */
const GHOST_MS = 1_500;

let db: TestDatabase;
let proxy: TcpProxy;
let server: TestServer;
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  const url = new URL(db.url);
  proxy = await startTcpProxy(Number(url.port));
  url.port = String(proxy.port);
  server = await startTestServer({ databaseUrl: url.href });
  watch = await openWatch(server, db, await createJobs(db, 2));
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await proxy.close();
  await db.drop();
});

async function ourBackends(): Promise<number> {
  const [row] = await db.query<{ count: number }>(
    `select count(*) from pg_stat_activity
     where datname = current_database() and application_name like 'jobcast%'
       and application_name <> 'jobcast tests'`,
  );
  return row?.count ?? -1;
}

async function expectNoGhosts(): Promise<void> {
  await until(async () => (await ourBackends()) === 0, 5_000, "the end of all our backends");
  await delay(GHOST_MS);
  expect(await ourBackends()).toBe(0);
}

it("stops when all is well, and leaves no backend behind", async () => {
  await within(server.jobcast.stop(), STOP_MS, "the stop");
  await expectNoGhosts();
});

it("stops while the database refuses connections, and does not come back with it", async () => {
  proxy.refuse();
  proxy.cut();
  await untilListener(server, ({ status }) => status === 503);

  await within(server.jobcast.stop(), STOP_MS, "the stop");
  await proxy.accept();
  await expectNoGhosts();
});

it("stops while nothing answers any more, and does not come back when it does", async () => {
  proxy.freeze();
  // Everything that asks the database now and then has asked.
  await untilListener(server, ({ lastReadAgoMs }) => lastReadAgoMs > 2_000);

  await within(server.jobcast.stop(), STOP_MS, "the stop");
  proxy.thaw();
  await expectNoGhosts();
});

it("stops while connections are accepted and never answered", async () => {
  const accepted = proxy.accepted();
  proxy.freeze();
  proxy.cut();
  await until(() => proxy.accepted() >= accepted + 2, 5_000, "both parts to connect again");

  await within(server.jobcast.stop(), STOP_MS, "the stop");
  proxy.thaw();
  await expectNoGhosts();
});
