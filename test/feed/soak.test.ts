import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { createRandom } from "../support/random.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { expectOneListener, untilAsleep } from "./listener.ts";
import { changesOf, createJobs, OWNER, openWatch, type Watch } from "./watch.ts";

const SOAK_MS = 8_000;
const WRITERS = 16;

let db: TestDatabase;
let server: TestServer;
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.drop();
});

const { below: random } = createRandom("soak");

/** Transactions of one to five jobs that take their time, some of which come to nothing. */
async function write(writer: pg.Client, jobs: readonly string[], end: number): Promise<void> {
  while (Date.now() < end) {
    const chosen = new Set(Array.from({ length: 1 + random(5) }, () => jobs[random(jobs.length)]));
    await writer.query("begin");
    // In one order, so that no two of them wait for each other.
    for (const id of [...chosen].sort()) {
      await writer.query(
        "update jobcast.jobs set message = 'change ' || (version + 1) where id = $1",
        [id],
      );
    }
    await delay(random(20));
    await writer.query(random(8) === 0 ? "rollback" : "commit");
  }
}

/** A thousand jobs in one statement, now and then. */
async function writeMany(writer: pg.Client, end: number): Promise<void> {
  while (Date.now() < end) {
    await writer.query(
      "update jobcast.jobs set message = 'all ' || (version + 1) where type = 'many'",
    );
    await delay(1_000 + random(1_000));
  }
}

/** A stream that is cut at any moment and comes back with its last id, as an EventSource does. */
async function watchWithCuts(isOver: () => boolean): Promise<Map<string, number[]>> {
  const seen = new Map<string, number[]>();
  let lastEventId = "";
  /** What came behind the last id that moved, which the next connection tells again. */
  let mayRepeat = new Set<string>();
  for (;;) {
    const client = await openStream({
      url: server.url,
      path: "/v1/events",
      token: server.token(),
      ...(lastEventId === "" ? {} : { lastEventId }),
    });
    const isLast = isOver();
    if (isLast) await untilMarker(client);
    else await delay(50 + random(700));
    await client.close();
    expect(client.events.filter(({ type }) => type === "reset")).toEqual([]);
    for (const [id, version] of changesOf(client)) {
      const told = seen.get(id) ?? [];
      const isExpected = mayRepeat.has(`${id} ${version}`) || isCoarse(lastEventId);
      if (!isExpected || !told.includes(version)) seen.set(id, [...told, version]);
    }
    mayRepeat = afterLastId(client, lastEventId);
    lastEventId = client.lastEventId;
    if (isLast) return seen;
  }
}

/** Whether a cursor had no room for all that was in flight, and so may repeat. */
function isCoarse(cursor: string): boolean {
  return /-[0-9a-z]+\.0$/.test(cursor);
}

function afterLastId({ events }: StreamClient, before: string): Set<string> {
  const ids = [before, ...events.map(({ lastEventId }) => lastEventId)];
  const moves = ids.map((id, index) => index > 0 && id !== ids[index - 1]);
  const rest: StreamEvent[] = events.slice(Math.max(0, moves.lastIndexOf(true)));
  return new Set(changesOf({ events: rest }).map(([id, version]) => `${id} ${version}`));
}

/** Until it was told of a job that was made when all else had been written. */
async function untilMarker(client: StreamClient): Promise<void> {
  const [marker] = await createJobs(db, 1);
  await client.next(({ data }) => JSON.parse(data).jobId === marker);
}

it("tells everybody everything once, in order, whatever the writers and the network do", async () => {
  const jobs = await createJobs(db, 60);
  const many =
    "insert into jobcast.jobs (owner_id, type) select $1, 'many' from generate_series(1, 1000)";
  await db.query(many, [OWNER]);
  watch = await openWatch(server, db, jobs.slice(0, 10));
  const end = Date.now() + SOAK_MS;
  const writers = await Promise.all(Array.from({ length: WRITERS }, () => db.connect()));
  const bulk = await db.connect();
  let isWritten = false;
  const [seen] = await Promise.all([
    watchWithCuts(() => isWritten),
    Promise.all([...writers.map((writer) => write(writer, jobs, end)), writeMany(bulk, end)]).then(
      () => {
        isWritten = true;
      },
    ),
  ]);

  const rows = await db.query<{ job_id: string; versions: number[] }>(
    `select h.job_id, array_agg(h.version::integer order by h.version) as versions
     from jobcast.status_history h group by h.job_id`,
  );
  expect(rows.length).toBeGreaterThan(1_000);
  for (const { job_id, versions } of rows) {
    const told = seen.get(job_id) ?? [];
    expect(told).toEqual(versions.slice(versions.length - told.length));
    // From the state with which the stream began, which is the first or close to it.
    expect(told.length).toBeGreaterThanOrEqual(Math.max(1, versions.length - 20));
  }
  expect(rows.reduce((sum, { versions }) => sum + versions.length, 0)).toBeGreaterThan(5_000);
  await watch.expectAll(20_000);
  await untilAsleep(server);
  await expectOneListener(db);
}, 90_000);
