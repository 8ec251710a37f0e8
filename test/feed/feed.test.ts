import { afterEach, expect, it } from "vitest";
import type { Snapshot } from "../../src/change/snapshot.ts";
import type { FeedPage, FeedSession } from "../../src/db/feed-session.ts";
import { Feed } from "../../src/feed/feed.ts";
import { until } from "../support/deadline.ts";
import { createSignal } from "../support/signal.ts";

/** A session of a database that a test makes up. */
function session(
  epoch: string,
  { snapshot, read }: { snapshot: () => Promise<Snapshot>; read?: FeedSession["read"] },
): FeedSession & { lose(): void } {
  const closed = createSignal<void>();
  let isLost = false;
  return {
    epoch,
    closed: closed.promise,
    currentSnapshot: snapshot,
    currentEpoch: async () => epoch,
    currentPlace: async () => epoch,
    async *read(since): AsyncGenerator<FeedPage> {
      if (isLost) throw new Error("the session was lost");
      if (read) yield* read(since);
      else yield { changes: [], snapshot: since, endedBelow: since.xmin };
    },
    lockBell: async () => undefined,
    unlockBell: async () => undefined,
    bellHolders: async () => "nobody",
    areRingersQueued: async () => false,
    destroy: () => closed.resolve(),
    lose() {
      isLost = true;
      closed.resolve();
    },
  };
}

const at = (xid: number): Snapshot => ({ xmin: xid, xmax: xid, xip: [] });

let feed: Feed;

afterEach(async () => {
  await feed.stop();
});

function createFeed(sessions: FeedSession[], events: unknown[]): Feed {
  feed = new Feed({
    mode: "poll",
    openSession: async () => {
      const next = sessions.shift();
      if (!next) throw new Error("nobody is there");
      return next;
    },
    onPage: ({ snapshot }) => events.push(snapshot?.xmax),
    onEpochChange: (epoch) => events.push(epoch),
    log: { warn: () => undefined },
  });
  return feed;
}

it("begins anew in another database, also when its first look at it fails", async () => {
  const events: unknown[] = [];
  const first = session("before", { snapshot: async () => at(9_000) });
  const failing = session("after", { snapshot: () => Promise.reject(new Error("lost again")) });
  const last = session("after", { snapshot: async () => at(100) });
  await createFeed([first, failing, last], events).start();
  await until(() => events.includes(9_000), 2_000, "the first read");

  first.lose();
  await until(() => events.includes(100), 5_000, "a read of the other database");
  expect(events.filter((event) => event !== 9_000).slice(0, 2)).toEqual(["after", 100]);
  expect(feed.epoch).toBe("after");
});

it("keeps its snapshot when it comes back to the same database", async () => {
  const events: unknown[] = [];
  const first = session("same", {
    snapshot: async () => at(10),
    read: async function* () {
      yield { changes: [], snapshot: at(20), endedBelow: 20 };
    },
  });
  const last = session("same", { snapshot: async () => at(30) });
  await createFeed([first, last], events).start();
  await until(() => events.includes(20), 2_000, "the first read");
  first.lose();
  const before = events.length;
  await until(() => events.length > before + 1 && feed.state === "awake", 5_000, "further reads");
  expect(new Set(events)).toEqual(new Set([20]));
});

it("fails to start without a database, and may be stopped before and after", async () => {
  await expect(createFeed([], []).start()).rejects.toThrow("nobody is there");
  await feed.stop();
  await feed.stop();
  expect(() => feed.epoch).toThrow(TypeError);
});
