import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { backendsOf, expectOneListener, untilAsleep } from "./listener.ts";
import { change, createJobs, openWatch, type Watch } from "./watch.ts";

/** A listener that waits for the bell looks by itself every 3 s. */
const RECONCILED_MS = 3_000 + 1_500;

let db: TestDatabase;
let server: TestServer;
let watch: Watch | undefined;

beforeEach(async () => {
  db = await createTestDatabase();
});

afterEach(async () => {
  await watch?.close();
  await server.stop();
  watch = undefined;
  await db.drop();
});

async function start(databaseUrl = db.url): Promise<Watch> {
  server = await startTestServer({ databaseUrl });
  watch = await openWatch(server, db, await createJobs(db, 2));
  await untilAsleep(server);
  return watch;
}

it("finds what nobody rang for", async () => {
  const { jobs, expectAll } = await start();
  await db.query("alter table jobcast.status_history disable trigger _900_ring");
  for (const id of jobs.keys()) await change(db, id);
  await expectAll(RECONCILED_MS);
});

it("finds history that was written while triggers were off", async () => {
  const { jobs, expectAll } = await start();
  const [[id, stream] = []] = jobs;
  const replica = await db.connect();
  await replica.query("set session_replication_role = replica; begin");
  await replica.query("update jobcast.jobs set version = 2, status = 'queued' where id = $1", [id]);
  await replica.query(
    `insert into jobcast.status_history (job_id, version, attempt, status, progress, source)
     values ($1, 2, 1, 'queued', 0, 'replica')`,
    [id],
  );
  await replica.query("commit");
  await stream?.next(({ data }) => JSON.parse(data).source === "replica", RECONCILED_MS);
  await expectAll();
});

it("keeps its sessions, although idle ones of its role are ended", async () => {
  const role = `idler_${db.name}`;
  await db.query(`create role ${role} login superuser password 'idle'`);
  await db.query(`alter role ${role} set idle_session_timeout = '1s'`);
  const url = new URL(db.url);
  url.username = role;
  url.password = "idle";
  try {
    const { jobs, expectAll } = await start(url.href);
    const sessions = async () => [await backendsOf(db, "feed"), await backendsOf(db, "doorbell")];
    const before = await sessions();
    // One that only listens does nothing at all.
    for (const end = performance.now() + 3_500; performance.now() < end; ) {
      for (const id of jobs.keys()) await change(db, id);
    }
    await expectAll();
    expect(await sessions()).toEqual(before);
    await untilAsleep(server);
    await expectOneListener(db);
  } finally {
    await server.stop();
    await db.query(`drop role ${role}`);
  }
});
