import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { terminate, untilAsleep, untilListener, withoutNewSessions } from "./listener.ts";
import { type PgProxy, startPgProxy } from "./pg-proxy.ts";
import { createJobs, openWatch, type Watch } from "./watch.ts";

let db: TestDatabase;
let proxy: PgProxy;
let server: TestServer;
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  const url = new URL(db.url);
  proxy = await startPgProxy(Number(url.port));
  url.port = String(proxy.port);
  server = await startTestServer({ databaseUrl: db.url, listenDatabaseUrl: url.href });
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await proxy.close();
  await db.drop();
});

it("catches up in pages, and misses nothing", async () => {
  const jobs = await createJobs(db, 1_000);
  watch = await openWatch(server, db, jobs.slice(0, 20));
  await untilAsleep(server);
  await withoutNewSessions(db, async () => {
    await terminate(db, ["feed"]);
    await untilListener(server, ({ feed }) => feed === "connecting");
    for (let round = 0; round < 20; round += 1) {
      await db.query("update jobcast.jobs set message = 'change ' || (version + 1)");
    }
  });

  await watch.expectAll(20_000);
  // What a new session has missed may take long to sort: never is it read as if it were little.
  const session = proxy.statements.slice(
    proxy.statements.findLastIndex((sql) => /pg_walfile_name/.test(sql)),
  );
  const firstRead = session.find((sql) => /status_history h/.test(sql));
  expect(firstRead).toMatch(/^declare/);
  expect(session).toContain("set local statement_timeout = 115000");
  const fetches = proxy.statements.filter((sql) => /^fetch/i.test(sql));
  expect(fetches.length).toBeGreaterThanOrEqual(10);
  await untilAsleep(server);
});
