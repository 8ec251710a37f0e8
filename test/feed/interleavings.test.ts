import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { isVisibleIn, type Snapshot } from "../../src/change/snapshot.ts";
import { type FeedSession, openFeedSession } from "../../src/db/feed-session.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { createJobs } from "./watch.ts";

/*
 * Walks every order in which two writers and a listener that falls asleep can take their steps.
 */

const WRITERS = 2;
const WRITER = ["change", "commit"] as const;
const LISTENER = ["lock", "read", "read", "unlock", "read"] as const;

type Step = { readonly who: number; readonly does: (typeof WRITER | typeof LISTENER)[number] };

/** All orders of the steps in which each actor keeps its own. */
function interleavings(actors: readonly (readonly Step[])[]): Step[][] {
  if (actors.every((steps) => steps.length === 0)) return [[]];
  return actors.flatMap((steps, index) => {
    const [first, ...rest] = steps;
    if (!first) return [];
    return interleavings(actors.with(index, rest)).map((others) => [first, ...others]);
  });
}

const ORDERS = interleavings([
  LISTENER.map((does) => ({ who: -1, does })),
  ...Array.from({ length: WRITERS }, (_, who) => WRITER.map((does) => ({ who, does }))),
]);

let database: TestDatabase;
let session: FeedSession;
let jobs: string[];
let writers: { client: pg.Client; pid: number }[];
/** Who rang, or "end". */
let rings: (number | "end")[] = [];
/** How often somebody committed while the feed was asleep. */
let commitsAsleep = 0;
let since: Snapshot;

beforeAll(async () => {
  database = await createTestDatabase();
  jobs = await createJobs(database, WRITERS);
  session = await openFeedSession({
    connectionString: database.url,
    signal: new AbortController().signal,
    isWatched: () => true,
    readValues: () => Promise.reject(new Error("no row here is large")),
    onUnread: (error) => expect.unreachable(String(error)),
  });
  since = await session.currentSnapshot();
  writers = await Promise.all(
    jobs.map(async () => {
      const client = await database.connect();
      const { rows } = await client.query("select pg_backend_pid() as pid");
      return { client, pid: rows[0].pid };
    }),
  );
  const listener = await database.connect();
  listener.on("notification", ({ processId, payload }) => {
    rings.push(payload === "end" ? "end" : processId);
  });
  await listener.query("listen jobcast");
});
afterAll(async () => {
  session?.destroy();
  await database?.drop();
});

/** Carries out one order; says of every change that was committed how it was learnt of. */
async function carryOut(order: readonly Step[]): Promise<string[]> {
  const complaints: string[] = [];
  /** Who committed what was not read yet. */
  const unread = new Map<number, number>();
  const committedAsleep: number[] = [];
  let ringsFrom: number | undefined;
  let isAsleep = false;
  rings = [];
  const xids: number[] = [];
  const read = async () => {
    for await (const page of session.read(since)) {
      if (page.snapshot) since = page.snapshot;
      if (ringsFrom !== undefined && (page.endedBelow ?? 0) > ringsFrom) isAsleep = true;
    }
    for (const [who, xid] of unread) if (isVisibleIn(since, xid)) unread.delete(who);
  };
  for (const { who, does } of order) {
    const writer = writers[who];
    if (does === "change" && writer) {
      await writer.client.query("begin");
      await writer.client.query("update jobcast.jobs set message = random()::text where id = $1", [
        jobs[who],
      ]);
      const { rows } = await writer.client.query("select pg_current_xact_id()::text as xid");
      xids[who] = Number(rows[0].xid);
    } else if (does === "commit" && writer) {
      await writer.client.query("commit");
      unread.set(who, xids[who] ?? 0);
      if (isAsleep) committedAsleep.push(writer.pid);
    } else if (does === "lock") ringsFrom = await session.lockBell();
    else if (does === "read") {
      await read();
      // Whoever falls asleep with something unread would learn of it by nothing but the timer.
      if (isAsleep && unread.size > 0) complaints.push("fell asleep over what was committed");
    } else if (does === "unlock") {
      await session.unlockBell();
      ringsFrom = undefined;
      isAsleep = false;
    }
  }
  await read();
  if (unread.size > 0) complaints.push("missed a change");
  await database.query("select pg_notify('jobcast', 'end')");
  await until(() => rings.includes("end"), 5_000, "the last notification");
  commitsAsleep += committedAsleep.length;
  for (const pid of committedAsleep) {
    if (!rings.includes(pid)) complaints.push("committed without a ring while the feed was asleep");
  }
  return complaints;
}

it(`wakes a sleeper for every change, in all ${ORDERS.length} orders`, async () => {
  expect(ORDERS).toHaveLength(756);
  for (const order of ORDERS) {
    const complaints = await carryOut(order);
    const told = order.map(({ who, does }) => `${who < 0 ? "L" : who} ${does}`).join(", ");
    expect(complaints, told).toEqual([]);
  }
  expect(commitsAsleep).toBeGreaterThan(0);
}, 180_000);
