import type pg from "pg";
import { afterEach, beforeEach, expect, inject, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { withAdmin } from "../support/database-server.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { readyz, untilAsleep, untilListener } from "./listener.ts";
import { change, changesOf, createJobs, openWatch, type Watch } from "./watch.ts";

/** Far below the time after which a listener looks by itself although nobody rang (3 s). */
const SOON_MS = 1_000;

let db: TestDatabase;
let server: TestServer;
let watch: Watch;
let early: string;
let late: string;

beforeEach(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  const jobs = await createJobs(db, 2);
  [early = "", late = ""] = jobs;
  watch = await openWatch(server, db, jobs);
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.drop();
});

/** A transaction that has changed a job and took its id with that, and is still open. */
async function writerOf(jobId: string): Promise<pg.Client> {
  const writer = await db.connect();
  await writer.query("begin");
  await writer.query("update jobcast.jobs set message = 'held' where id = $1", [jobId]);
  return writer;
}

function resume(lastEventId: string): Promise<StreamClient> {
  const { url } = server;
  return openStream({ url, path: "/v1/events", token: server.token(), lastEventId });
}

/** The events of a job but for its first, with which streams begin. */
const of = (jobId: string) => (event: { type: string; data: string }) => {
  const { jobId: id, version } = JSON.parse(event.data);
  return event.type === "status" && id === jobId && version > 1;
};

it("tells of a transaction that began first and committed last, live and to whoever returns", async () => {
  const writer = await writerOf(late);
  await change(db, early);
  const seen = await watch.all.next(of(early), SOON_MS);
  const waiting = await resume(seen.lastEventId);

  await writer.query("commit");
  await watch.all.next(of(late), SOON_MS);
  await waiting.next(of(late), SOON_MS);
  const returning = await resume(seen.lastEventId);
  await returning.next(of(late), SOON_MS);

  await watch.expectAll();
  // The marker of expectAll is behind them: nothing else came, and nothing twice.
  for (const client of [waiting, returning]) {
    await client.next();
    expect(changesOf(client).slice(0, 1)).toEqual([[late, 2]]);
    expect(changesOf(client)).toHaveLength(2);
    await client.close();
  }
});

it("waits for nobody who rolls back", async () => {
  const writer = await writerOf(late);
  await change(db, early);
  const seen = await watch.all.next(of(early), SOON_MS);
  await writer.query("rollback");
  await change(db, late);
  await watch.all.next(of(late), SOON_MS);
  const returning = await resume(seen.lastEventId);
  await returning.next(of(late), SOON_MS);

  await watch.expectAll();
  expect(changesOf(returning)[0]).toEqual([late, 2]);
  await returning.close();
});

it("tells of a savepoint's work only when it was kept", async () => {
  const writer = await writerOf(early);
  await writer.query("savepoint undone");
  await writer.query("update jobcast.jobs set message = 'undone' where id = $1", [late]);
  await writer.query("rollback to undone");
  await writer.query("savepoint kept");
  await writer.query("update jobcast.jobs set message = 'kept' where id = $1", [late]);
  await writer.query("update jobcast.jobs set message = 'kept again' where id = $1", [early]);
  await writer.query("release kept");
  await change(db, (await createJobs(db, 1))[0] ?? "");
  await writer.query("commit");

  await watch.expectAll();
  const messages = watch.all.events.map(({ data }) => JSON.parse(data).message);
  expect(messages).toContain("kept");
  expect(messages).not.toContain("undone");
});

it("is not held up by a long transaction in another database", async () => {
  await withAdmin(inject("database").serverUrl, async (stranger) => {
    await stranger.query("begin");
    await stranger.query("select pg_current_xact_id()");
    // It has to take the stranger for a writer who may not ring.
    await change(db, early);
    await watch.all.next(of(early), SOON_MS);
    let cursor = watch.all.lastEventId;
    for (let round = 0; round < 5; round += 1) {
      await change(db, late);
      await watch.all.next(of(late), SOON_MS);
      await watch.jobs.get(late)?.next(of(late), SOON_MS);
      const returning = await resume(cursor);
      await returning.next(of(late), SOON_MS);
      expect(changesOf(returning)).toEqual([[late, round + 2]]);
      cursor = returning.lastEventId;
      await returning.close();
    }
    await stranger.query("commit");
  });
  await watch.expectAll();
});

it("misses nothing when more transactions are open than a cursor holds", async () => {
  const held = await createJobs(db, 30);
  const writers: pg.Client[] = [];
  for (const id of held) {
    writers.push(await writerOf(id));
    await change(db, early); // so that the ids of the writers are far apart
  }
  await change(db, late);
  const seen = await watch.all.next(of(late), SOON_MS);
  expect(seen.lastEventId.length).toBeLessThanOrEqual(64);
  for (const writer of writers) await writer.query("commit");

  await watch.expectAll();
  const returning = await resume(seen.lastEventId);
  const missed = await returning.take(held.length, ({ data }) =>
    held.includes(JSON.parse(data).jobId),
  );
  expect(missed.map(({ data }) => JSON.parse(data).version)).toEqual(held.map(() => 2));
  await returning.close();
  expect(await readyz(server)).toMatchObject({ status: 200 });
  await untilListener(server, ({ feed }) => feed === "asleep");
});
