import type pg from "pg";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { openFeedSession } from "../../src/db/feed-session.ts";
import { CHANNEL, createDoorbell, type Doorbell } from "../../src/feed/doorbell.ts";
import { Feed } from "../../src/feed/feed.ts";
import { WriteLoad } from "../../src/feed/write-load.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { createJobs } from "./watch.ts";

const log = { warn: () => undefined };

let db: TestDatabase;
let feed: Feed;
let doorbell: Doorbell;
let seen: string[];

beforeEach(async () => {
  db = await createTestDatabase();
  seen = [];
  doorbell = createDoorbell({
    connectionString: db.url,
    ring: async (payload) => void (await db.query("select pg_notify($1, $2)", [CHANNEL, payload])),
    onRing: () => feed.ring(),
    onChange: () => feed.ring(),
    log,
  });
  feed = new Feed({
    mode: "bell",
    openSession: (signal) =>
      openFeedSession({
        connectionString: db.url,
        signal,
        isWatched: () => true,
        readValues: () => Promise.reject(new Error("no row here is large")),
        onUnread: (error) => expect.unreachable(String(error)),
      }),
    doorbell,
    onPage: ({ changes }) => {
      for (const { jobId, version } of changes) seen.push(`${jobId} ${version}`);
    },
    onEpochChange: () => undefined,
    log,
    // What any machine can reach, however many tests run beside this one.
    load: new WriteLoad({ busyAbove: 50, calmBelow: 20 }),
  });
  await feed.start();
  doorbell.start();
  await until(
    () => feed.state === "asleep",
    5_000,
    () => `sleep; it is ${feed.state}`,
  );
});

afterEach(async () => {
  await Promise.all([doorbell.stop(), feed.stop()]);
  await db.drop();
});

/** Commits one change after the other, as fast as the server can, until its session is ended. */
async function writeUntilTheEnd(writer: pg.Client, jobId: string): Promise<void> {
  const changes = `do $$ begin loop
    update jobcast.jobs set message = 'change ' || (version + 1) where id = '${jobId}';
    commit;
  end loop; end $$`;
  await expect(writer.query(changes)).rejects.toThrow("terminating connection");
}

it("lets writers commit without ringing while there are many, and sleeps when there are few", async () => {
  const [job = ""] = await createJobs(db, 1);
  const [writer, listener] = [await db.connect(), await db.connect()];
  const [backend] = (await writer.query("select pg_backend_pid() as pid")).rows;
  const rings: number[] = [];
  listener.on("notification", ({ processId }) => rings.push(processId));
  await listener.query("listen jobcast");

  const writing = writeUntilTheEnd(writer, job);
  await until(
    () => feed.state === "awake",
    10_000,
    () => `waking; it is ${feed.state}`,
  );
  await listener.query("select 1");
  const ringsBefore = rings.filter((pid) => pid === backend.pid).length;
  const seenBefore = seen.length;
  await until(() => seen.length > seenBefore + 500, 10_000, "500 changes without a ring");
  expect(feed.state).toBe("awake");
  await db.query("select pg_terminate_backend($1)", [backend.pid]);
  await writing;
  await listener.query("select 1");
  expect(ringsBefore).toBeGreaterThan(0);
  // One may have been on its way.
  expect(rings.filter((pid) => pid === backend.pid).length).toBeLessThanOrEqual(ringsBefore + 1);

  await until(
    () => feed.state === "asleep",
    5_000,
    () => `sleep; it is ${feed.state}`,
  );
  const history = await db.query<{ job_id: string; version: number }>(
    "select job_id, version from jobcast.status_history order by version",
  );
  expect(seen).toEqual(history.map(({ job_id, version }) => `${job_id} ${version}`));
});

it("is busy above one pace, and calm only below a slower one", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  try {
    const load = new WriteLoad({ busyAbove: 1_000, calmBelow: 500 });
    const states = [100, 240, 260, 200, 130, 120, 200].map((transactions) => {
      vi.advanceTimersByTime(250);
      load.add(transactions);
      return load.isBusy;
    });
    expect(states).toEqual([false, false, true, true, true, false, false]);
    // Between two judgements nothing changes, and a pause counts.
    load.add(10_000);
    expect(load.isBusy).toBe(false);
    vi.advanceTimersByTime(60_000);
    load.add(1);
    expect(load.isBusy).toBe(false);
  } finally {
    vi.useRealTimers();
  }
});
