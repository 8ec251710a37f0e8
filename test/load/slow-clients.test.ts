import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import type { Order, Report } from "./readers.ts";

const READERS = 1_980;
const SLEEPERS = 20;
const JOBS = 99;
const ROUNDS = 15;
const ROUND_MS = 300;
const EVENT_BYTES = 10_000;
const BUDGET = 1_048_576;
/** What a flush may add to what a client had unread when it was last looked at. */
const ONE_FLUSH = JOBS * (EVENT_BYTES + 1_000) * 2;
const LATE_MS = 1_000;
/** What the process may take beside what is unread: 2,000 connections, garbage that is not collected yet. */
const MEMORY_SLACK = 160 * 1_048_576;

let database: TestDatabase;
let server: TestServer;
let readers: ChildProcess;
const sleepers: Socket[] = [];
/** The server's ends of all connections. */
const connections = new Set<Socket>();

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url, streamBufferBytes: BUDGET });
  server.http.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
});

afterAll(async () => {
  readers?.kill();
  for (const socket of sleepers) socket.destroy();
  await server?.stop();
  await database?.drop();
});

/** A client that asks for all of the owner's jobs and never reads a byte. */
async function fallAsleep(token: string): Promise<void> {
  const socket = connect(server.port, "127.0.0.1");
  sleepers.push(socket);
  socket.on("error", () => undefined); // the server cuts it, which is what is tested
  await once(socket, "connect");
  socket.pause();
  socket.write(`GET /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`);
}

function nextReport(ms: number, what: string): Promise<Report> {
  return within(
    once(readers, "message").then(([message]) => message as Report),
    ms,
    what,
  );
}

const statistics = () => server.jobcast.statistics();

describe("2,000 open streams of which 20 never read", () => {
  it("keeps the others on time, holds a bounded amount, and cuts and counts the 20", async () => {
    const jobs = await database.query<{ id: string }>(
      "insert into jobcast.jobs (owner_id, type) select 'alice', 'image' from generate_series(1, $1) returning id",
      [JOBS],
    );
    const token = server.token({ scope: "" });
    const streams = Array.from(
      { length: READERS },
      (_, index) => `/v1/jobs/${jobs[index % JOBS]?.id}/events`,
    );
    readers = fork(new URL("./readers.ts", import.meta.url));
    const opened = nextReport(30_000, "1,980 open streams");
    readers.send({ url: server.url, token, streams, events: ROUNDS } satisfies Order);
    expect(await opened).toEqual({ open: READERS });
    for (let client = 0; client < SLEEPERS; client += 1) await fallAsleep(token);
    await until(() => statistics().open.sse === READERS + SLEEPERS, 10_000, "2,000 open streams");

    const done = nextReport(40_000, "the last event at every reader");
    let mostUnread = 0;
    const memory = process.memoryUsage.rss();
    for (let round = 1; round <= ROUNDS; round += 1) {
      // One statement changes every job: a flush of 99 events, a megabyte for whoever watches all.
      await database.query("update jobcast.jobs set progress = $1, message = repeat('x', $2)", [
        round,
        EVENT_BYTES,
      ]);
      for (const socket of connections) mostUnread = Math.max(mostUnread, socket.writableLength);
      await delay(ROUND_MS); // an even load, not a wait for anything
    }
    const report = await done;
    const grown = process.memoryUsage.rss() - memory;
    if (!("lateness" in report)) throw new Error("the readers did not report how late they were");
    const { lateness } = report;
    expect(lateness).toHaveLength(READERS * ROUNDS);
    const p99 = lateness[Math.floor(lateness.length * 0.99)] ?? Number.POSITIVE_INFINITY;
    console.log(`p99 ${p99} ms, unread at one client ${mostUnread} bytes, memory +${grown} bytes`);
    expect(p99).toBeLessThan(LATE_MS);
    expect(mostUnread).toBeLessThan(BUDGET + ONE_FLUSH);
    expect(grown).toBeLessThan(SLEEPERS * (BUDGET + ONE_FLUSH) + MEMORY_SLACK);

    await until(
      () => statistics().open.sse === 0,
      30_000,
      () => `the end of every stream: ${JSON.stringify(statistics())}`,
    );
    // Where the machine was so slow that the feed read rounds together, some read at their own pace,
    // and are cut because they take nothing.
    const { slow, stalled } = statistics().cut;
    expect(slow + stalled).toBe(SLEEPERS);
  }, 90_000);
});
