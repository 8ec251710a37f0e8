import { afterEach, beforeEach, expect, inject, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { withAdmin } from "../support/database-server.ts";
import { within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { expectOneListener, untilAsleep } from "./listener.ts";
import { change, changesOf, createJobs, OWNER } from "./watch.ts";

let db: TestDatabase;
let server: TestServer | undefined;
const streams: StreamClient[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
});

afterEach(async () => {
  for (const stream of streams.splice(0)) await stream.close();
  await server?.stop();
  server = undefined;
  await db.drop();
});

async function start(): Promise<TestServer> {
  server = await startTestServer({ databaseUrl: db.url });
  await untilAsleep(server);
  return server;
}

async function open(path: string, lastEventId?: string): Promise<StreamClient> {
  const { url, token } = server as TestServer;
  const resumed = lastEventId === undefined ? {} : { lastEventId };
  const stream = await openStream({ url, path, token: token(), ...resumed });
  streams.push(stream);
  return stream;
}

/** A job with three versions, as pg_restore would put it into another cluster. */
async function restoreJob(): Promise<string> {
  const client = await db.connect();
  // As "--disable-triggers" does; the ids are those of a cluster that is much older.
  await client.query("set session_replication_role = replica");
  const { rows } = await client.query(
    "insert into jobcast.jobs (owner_id, type, version) values ($1, 'old', 3) returning id",
    [OWNER],
  );
  await client.query(
    `insert into jobcast.status_history (job_id, version, attempt, status, progress, source, xid)
     select $1, v, 1, 'pending', 0, 'sql', (7000000000 + v)::text::xid8 from generate_series(1, 3) v`,
    [rows[0].id],
  );
  await client.query(
    `insert into jobcast.deletions (job_id, version, status, owner_id, xid)
     values (gen_random_uuid(), 4, 'failed', $1, '7000000009')`,
    [OWNER],
  );
  await client.end();
  return rows[0].id;
}

it("replays and goes on after a restore into a younger cluster", async () => {
  const job = await restoreJob();
  const { logged } = await start();
  expect(logged.join("")).toMatch(/"adopted":3,.*restored/);
  expect(await db.query("select from jobcast.deletions")).toEqual([]);

  const all = await open("/v1/events");
  const one = await open(`/v1/jobs/${job}/events`, "0");
  expect(changesOf({ events: await one.take(3) })).toEqual([1, 2, 3].map((v) => [job, v]));
  expect(changesOf({ events: [await all.next()] })).toEqual([[job, 3]]);
  await change(db, job);
  await one.next();
  const { lastEventId } = await all.next();
  const returned = await open("/v1/events", lastEventId);
  await change(db, job);
  for (const stream of [one, all]) {
    await stream.next();
    expect(changesOf(stream).slice(-2)).toEqual([
      [job, 4],
      [job, 5],
    ]);
  }
  await returned.next(({ type }) => type === "status");
  expect(changesOf(returned)).toEqual([[job, 5]]);
});

it("takes what is restored while it runs for old, and not for new at every look", async () => {
  const { logged } = await start();
  const [live = ""] = await createJobs(db, 1);
  const all = await open("/v1/events");
  await all.next();
  const restored = await restoreJob();
  const { lastEventId } = all;
  for (let round = 0; round < 5; round += 1) {
    await change(db, live);
    await all.next();
  }
  const returned = await open("/v1/events", lastEventId);
  await returned.take(5);
  const five = [2, 3, 4, 5, 6].map((version) => [live, version]);
  expect(changesOf(all)).toEqual([[live, 1], ...five]);
  expect(changesOf(returned)).toEqual(five);

  await change(db, restored);
  await all.next();
  expect(changesOf(all).at(-1)).toEqual([restored, 4]);
  await server?.stop();
  server = undefined;
  expect(logged.join("")).not.toContain("adopted");
  expect((await start()).logged.join("")).toMatch(/"adopted":3,/);
});

/** Puts a copy in the place of the database, as a failover or a recovery does. */
async function replaceDatabase(): Promise<void> {
  const old = `${db.name}_old`;
  await withAdmin(inject("database").serverUrl, async (admin) => {
    await admin.query(`alter database ${db.name} allow_connections false`);
    await admin.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [
      db.name,
    ]);
    await admin.query(`alter database ${db.name} rename to ${old}`);
    await admin.query(`create database ${db.name} template ${old}`);
    await admin.query(`drop database ${old} with (force)`);
  });
}

it("sends everybody back to the beginning when the database is another one", async () => {
  await start();
  const [job = ""] = await createJobs(db, 1);
  const all = await open("/v1/events");
  const one = await open(`/v1/jobs/${job}/events`);
  await change(db, job);
  await all.take(2);
  await one.take(2);

  await replaceDatabase();
  for (const stream of [all, one]) {
    const { data } = await stream.next(({ type }) => type === "close", 15_000);
    expect(JSON.parse(data)).toMatchObject({ reason: "database_changed" });
    await within(stream.ended, 1_000, "the end of the stream");
    expect(stream.ending).toBe("complete");
  }

  const returned = await open("/v1/events", all.lastEventId);
  expect((await returned.next()).type).toBe("reset");
  expect(changesOf({ events: [await returned.next()] })).toEqual([[job, 2]]);
  await change(db, job);
  expect(changesOf({ events: [await returned.next()] })).toEqual([[job, 3]]);
  await untilAsleep(server as TestServer);
  await expectOneListener(db);
});
