import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { readyz, terminate, untilAsleep, untilListener, withoutNewSessions } from "./listener.ts";
import { change, createJobs } from "./watch.ts";

/** Far below the time after which a sleeping listener looks by itself (3 s). */
const RUNG_MS = 1_000;

let db: TestDatabase;
let server: TestServer | undefined;
let stream: StreamClient | undefined;
let job: string;

beforeEach(async () => {
  db = await createTestDatabase();
  [job = ""] = await createJobs(db, 1);
});

afterEach(async () => {
  await stream?.close();
  await server?.stop();
  stream = undefined;
  server = undefined;
  await db.drop();
});

/** Starts the service and opens a stream of the job; waits for one change after the other. */
async function start(feed: "bell" | "poll" = "bell"): Promise<() => Promise<StreamEvent>> {
  server = await startTestServer({ databaseUrl: db.url, feed });
  const path = `/v1/jobs/${job}/events`;
  const opened = await openStream({ url: server.url, path, token: server.token() });
  stream = opened;
  await opened.next();
  return () => opened.next(({ type }) => type === "status");
}

/** What is sent on the channel to somebody else who listens, up to a notification of his own. */
async function notificationsDuring(work: () => Promise<void>): Promise<string[]> {
  const listener = await db.connect();
  const heard: (string | undefined)[] = [];
  listener.on("notification", ({ payload }) => heard.push(payload));
  await listener.query("listen jobcast");
  await work();
  await listener.query("select pg_notify('jobcast', 'the end')");
  await until(() => heard.includes("the end"), 5_000, "our own notification");
  // The listener's own tests of the bell carry a token.
  return heard.filter((payload) => payload !== "the end" && !payload?.includes("-")).map(String);
}

async function sleepers(client: pg.Client): Promise<number> {
  const { rows } = await client.query(
    `select count(*) from pg_locks
     where locktype = 'advisory' and classid = jobcast.bell_lock() >> 32 and mode = 'ShareLock'
       and database = (select oid from pg_database where datname = current_database())`,
  );
  return rows[0].count;
}

async function writerThatHasNotCommitted(): Promise<pg.Client> {
  const writer = await db.connect();
  await writer.query("begin");
  await writer.query("update jobcast.jobs set message = 'held' where id = $1", [job]);
  return writer;
}

it("delivers a commit at once while it is asleep", async () => {
  const nextChange = await start();
  await untilAsleep(server as TestServer);

  const delays: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    await change(db, job);
    const committedAt = performance.now();
    await nextChange();
    delays.push(performance.now() - committedAt);
  }

  const median = delays.sort((a, b) => a - b)[10];
  expect(median).toBeLessThan(100);
  expect((await readyz(server as TestServer)).feed).toBe("asleep");
});

it("only dozes while somebody writes who looked for sleepers before it lay down", async () => {
  const writer = await writerThatHasNotCommitted();
  const nextChange = await start();
  await untilListener(server as TestServer, ({ feed }) => feed === "dozing");
  // Reads pass, and it still dozes.
  const lastReads = new Set<number>();
  await until(
    async () => {
      const { feed, lastReadAgoMs } = await readyz(server as TestServer);
      expect(feed).toBe("dozing");
      return lastReads.add(Date.now() - lastReadAgoMs).size > 10;
    },
    5_000,
    "ten reads",
  );

  await writer.query("commit");
  await within(nextChange(), RUNG_MS, "the change that did not ring");
  await untilAsleep(server as TestServer);
});

it("dozes for the newest writer too, when it comes back from a lost session", async () => {
  const nextChange = await start();
  await untilAsleep(server as TestServer);
  const writer = await db.connect();
  await writer.query("begin");
  await terminate(db, ["feed"]);
  await until(async () => (await sleepers(writer)) === 0, 5_000, "the end of its lock");
  await writer.query("update jobcast.jobs set message = 'held' where id = $1", [job]);
  await untilListener(server as TestServer, ({ feed }) => feed === "dozing" || feed === "asleep");
  // Two looks of a dozing one later it would be asleep if it took itself for alone.
  const { lastReadAgoMs } = await readyz(server as TestServer);
  const readAt = Date.now() - lastReadAgoMs;
  await untilListener(
    server as TestServer,
    ({ lastReadAgoMs: ago }) => Date.now() - ago > readAt + 150,
  );
  expect((await readyz(server as TestServer)).feed).toBe("dozing");

  await writer.query("commit");
  await within(nextChange(), RUNG_MS, "the change that did not ring");
  await untilAsleep(server as TestServer);
});

it("wakes at once when it cannot be rung for any more", async () => {
  const nextChange = await start();
  await untilAsleep(server as TestServer);
  await withoutNewSessions(db, async () => {
    // It has just looked by itself, and would not do so again for a while.
    await change(db, job);
    await nextChange();
    await terminate(db, ["doorbell"]);
    await within(
      untilListener(server as TestServer, ({ feed }) => feed === "awake"),
      RUNG_MS,
      "it",
    );
    await change(db, job);
    await within(nextChange(), RUNG_MS, "a change that nobody can ring for");
  });
  await untilAsleep(server as TestServer);
});

it("is rung for by writers while it sleeps, and by nobody while nobody sleeps", async () => {
  expect(await notificationsDuring(() => change(db, job))).toEqual([]);

  await start();
  await untilAsleep(server as TestServer);
  expect(await notificationsDuring(() => change(db, job))).toEqual([""]);

  await server?.stop();
  await start("poll");
  expect(await notificationsDuring(() => change(db, job))).toEqual([]);
});

it("reads on a timer while a stranger holds the lock of the sleepers", async () => {
  const stranger = await db.connect();
  await stranger.query("select pg_advisory_lock(jobcast.bell_lock())");
  const nextChange = await start();
  await untilListener(server as TestServer, ({ bell, status }) => bell === true && status === 200);

  for (let round = 0; round < 10; round += 1) {
    await change(db, job);
    await within(nextChange(), RUNG_MS, "a change while the lock is taken");
  }
  expect((await readyz(server as TestServer)).feed).toBe("awake");

  await stranger.query("select pg_advisory_unlock(jobcast.bell_lock())");
  await untilAsleep(server as TestServer);
});
