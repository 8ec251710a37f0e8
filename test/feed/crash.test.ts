import { afterEach, beforeEach, expect, it } from "vitest";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { createEmbeddedDatabase, type EmbeddedDatabase } from "./embedded-database.ts";
import { untilAsleep, untilListener } from "./listener.ts";
import { change, changesOf, createJobs, openWatch, type Watch } from "./watch.ts";

let db: EmbeddedDatabase;
let server: TestServer;
let watch: Watch;

beforeEach(async () => {
  // What is not flushed by a commit of somebody stays unflushed.
  db = await createEmbeddedDatabase({ wal_writer_delay: "10s", autovacuum: "off" });
  server = await startTestServer({ databaseUrl: db.url });
  watch = await openWatch(server, db, await createJobs(db, 2));
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.remove();
});

async function nextXid(): Promise<number> {
  const [row] = await db.query<{ xid: string }>(
    "select pg_snapshot_xmax(pg_current_snapshot()) as xid",
  );
  return Number(row?.xid);
}

function openAll(lastEventId?: string): Promise<StreamClient> {
  const { url } = server;
  const resumed = lastEventId === undefined ? {} : { lastEventId };
  return openStream({ url, path: "/v1/events", token: server.token(), ...resumed });
}

it("misses nothing when a crash gives transaction ids out a second time", async () => {
  const jobs = [...watch.jobs.keys()];
  for (const id of jobs) await change(db, id);
  // Fifty transactions that end without a flush: the feed sees them end, the crash forgets them.
  await db.query(
    `do $$ begin for i in 1..50 loop
       perform pg_current_xact_id(); rollback;
     end loop; end $$`,
  );
  const xidBefore = await nextXid();
  const burntAt = Date.now();
  await untilListener(server, ({ lastReadAgoMs }) => Date.now() - lastReadAgoMs > burntAt);
  const visitor = await openAll();
  await visitor.take(jobs.length);
  await visitor.close();

  await db.crash();
  await db.start();
  for (const id of jobs) await change(db, id);
  expect(await nextXid()).toBeLessThan(xidBefore);

  await watch.expectAll(15_000);
  const returned = await openAll(visitor.lastEventId);
  await returned.take(jobs.length);
  expect(changesOf(returned).slice(0, 2).sort()).toEqual(jobs.map((id) => [id, 3]).sort());
  await returned.close();
});
