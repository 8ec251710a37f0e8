import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until, within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { createEmbeddedDatabase, type EmbeddedDatabase } from "./embedded-database.ts";
import { expectOneListener, untilAsleep, untilListener } from "./listener.ts";
import { change, createJobs, openWatch, type Watch } from "./watch.ts";

/**
 * How long PostgreSQL is away: longer than a request waits for it (10 s) and than our own longest
 * pause (5 s). JOBCAST_TEST_OUTAGE_SECONDS=30 is longer than any default of any part.
 */
const OUTAGE_MS = Number(process.env["JOBCAST_TEST_OUTAGE_SECONDS"] ?? 12) * 1_000;

/** How long a request waits for the database before it is refused, and what may come on top. */
const REQUEST_MS = 10_000 + 3_000;

let db: EmbeddedDatabase;
let server: TestServer;
let jobs: string[];
let watch: Watch;

beforeEach(async () => {
  db = await createEmbeddedDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  jobs = await createJobs(db, 3);
  watch = await openWatch(server, db, jobs);
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.remove();
});

function open(path: string): Promise<StreamClient> {
  return openStream({
    url: server.url,
    path,
    token: server.token(),
    deadlineMs: OUTAGE_MS + 10_000,
  });
}

/** A long poll that has found nothing new and waits. */
async function openPoll(jobId: string): Promise<{ answer: ReturnType<TestServer["call"]> }> {
  const [now] = await db.query<{ at: string }>("select clock_timestamp()::text as at");
  const wait = Math.min(60, OUTAGE_MS / 1_000 + 15);
  const answer = server.call("GET", `/v1/jobs/${jobId}/events?after=1&wait=${wait}`);
  const hasRead = `select from pg_stat_activity where application_name = 'jobcast streams'
    and query like '%job_version%' and query_start > $1::timestamptz and state = 'idle'`;
  await until(async () => (await db.query(hasRead, [now?.at])).length > 0, 5_000, "its read");
  return { answer };
}

async function expectUnavailable(answer: Promise<StreamClient>): Promise<void> {
  const refused = await within(answer, REQUEST_MS, "an answer during the outage");
  expect(refused.status).toBe(200);
  await refused.ended;
  expect(refused.events).toMatchObject([{ type: "close" }]);
  expect(JSON.parse(refused.events[0]?.data ?? "")).toMatchObject({
    reason: "database_unavailable",
  });
}

it(
  "goes on with every open stream after PostgreSQL was away, and lets newcomers wait",
  async () => {
    const [first = ""] = jobs;
    const poll = await openPoll(first);

    await db.stop();
    await untilListener(server, ({ status }) => status === 503);
    const refusals = ["/v1/events", `/v1/jobs/${first}/events`].map(open);
    const polled = await server.call("GET", `/v1/jobs/${first}/events?after=1&wait=1`);
    expect(polled.body).toMatchObject({ status: 503, code: "database_unavailable" });
    await delay(OUTAGE_MS - 5_000);
    const newcomers = ["/v1/events", `/v1/jobs/${first}/events`].map(open);
    await delay(5_000);
    for (const refusal of refusals) await expectUnavailable(refusal);

    await db.start();
    for (let round = 0; round < 20; round += 1) for (const id of jobs) await change(db, id);

    await watch.expectAll(15_000);
    expect((await poll.answer).body.events[0]).toMatchObject({ jobId: first, version: 2 });
    for (const newcomer of await Promise.all(newcomers)) {
      expect(newcomer.status).toBe(200);
      await newcomer.next(({ data }) => JSON.parse(data).version === 21);
      await newcomer.close();
    }
    await untilAsleep(server, 15_000);
    await expectOneListener(db);
  },
  OUTAGE_MS + 60_000,
);
