import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import {
  expectOneListener,
  readyz,
  terminate,
  untilAsleep,
  untilListener,
  withoutNewSessions,
} from "./listener.ts";
import { type PgProxy, startPgProxy } from "./pg-proxy.ts";
import { change, createJobs, openWatch, type Watch } from "./watch.ts";

let db: TestDatabase;
let proxy: PgProxy;
let proxyUrl: string;
let server: TestServer;
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  const url = new URL(db.url);
  proxy = await startPgProxy(Number(url.port));
  url.port = String(proxy.port);
  proxyUrl = url.href;
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await proxy.close();
  await db.drop();
});

function listens(): number {
  return proxy.statements.filter((sql) => /^listen /i.test(sql)).length;
}

async function start(feed: "auto" | "bell" | "poll" = "bell"): Promise<void> {
  server = await startTestServer({ databaseUrl: db.url, listenDatabaseUrl: proxyUrl, feed });
  watch = await openWatch(server, db, await createJobs(db, 3));
}

async function writeRounds(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const id of watch.jobs.keys()) await change(db, id);
  }
}

it("listens again until LISTEN is not refused any more", async () => {
  proxy.refuseListen("25006", "42501", "42501");
  await start();
  await untilListener(server, ({ status, bell }) => status === 503 && bell === false);
  await writeRounds(5);
  await watch.expectAll();

  await untilAsleep(server);
  expect(listens()).toBe(4);
  expect(server.logged.join("")).toContain("refused by the test");
  await writeRounds(5);
  await watch.expectAll();
  await expectOneListener(db);
});

it("listens again after a lost connection, also when LISTEN is refused then", async () => {
  await start();
  await untilAsleep(server);
  proxy.refuseListen("25006", "42501");
  await withoutNewSessions(db, async () => {
    await terminate(db, ["doorbell"]);
    await untilListener(server, ({ status, bell }) => status === 503 && bell === false);
  });
  await until(() => listens() === 2, 5_000, "the first refusal");
  expect((await readyz(server)).status).toBe(503);
  await writeRounds(5);

  await watch.expectAll();
  await untilAsleep(server);
  expect(listens()).toBe(4);
  await expectOneListener(db);
});

/** What would be left in a session that goes to somebody else. */
const LEFT = /^set (?!local )|set_config\([^)]*, false\)|advisory/i;

it("says that it is deaf behind a pooler, reads on a timer, and leaves nothing in its sessions", async () => {
  proxy.isSilent = true;
  await start("auto");
  await writeRounds(5);
  await watch.expectAll();

  // Until a ring of its own has not come back.
  await until(() => server.logged.join("").includes("transaction pooler"), 10_000, "the reason");
  expect(await readyz(server)).toMatchObject({ status: 503, feed: "awake", bell: false });
  await writeRounds(5);
  await watch.expectAll();
  const left = () => proxy.statements.filter((sql) => LEFT.test(sql));
  expect(left()).toEqual([]);

  proxy.isSilent = false;
  await untilAsleep(server);
  expect(left()).not.toEqual([]);
  await expectOneListener(db);
});

it("is ready without a bell when it was told to read on a timer", async () => {
  proxy.isSilent = true;
  proxy.refuseListen("25006");
  await start("poll");
  expect(await readyz(server)).toMatchObject({ status: 200, feed: "awake", bell: null });
  await writeRounds(5);
  await watch.expectAll();

  expect(await readyz(server)).toMatchObject({ status: 200, feed: "awake", bell: null });
  expect(listens()).toBe(0);
  const sessions =
    "select from pg_stat_activity where application_name = 'jobcast doorbell' and datname = $1";
  expect(await db.query(sessions, [db.name])).toEqual([]);
});
