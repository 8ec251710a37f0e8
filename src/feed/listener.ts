import { type FeedPage, openFeedSession } from "../db/feed-session.ts";
import type { Lane } from "../db/lane.ts";
import type { News } from "../protocol/event.ts";
import { CHANNEL, createDoorbell, type FeedLog } from "./doorbell.ts";
import { Feed, type FeedState } from "./feed.ts";

/** A feed that has not read for this long is stuck: it reads every 3 s even when all is quiet. */
const STALE_MS = 10_000;

export type ListenerState = {
  /** Whether changes are read, and in time. */
  readonly isHealthy: boolean;
  readonly feed: FeedState;
  /** Whether our own notification was heard lately; null in mode `poll`, which needs none. */
  readonly bell: boolean | null;
  /** Milliseconds since everything there was had been read; null before the first time. */
  readonly lastReadAgoMs: number | null;
};

export type Listener = {
  /** Names the database in cursors. */
  readonly epoch: string;
  state(): ListenerState;
  start(): Promise<void>;
  stop(): Promise<void>;
};

/** The one listener of this process: the bell and the feed that it wakes. */
export function createListener(options: {
  /** A direct connection in mode `bell`: LISTEN and session locks do not pass a transaction pooler. */
  connectionString: string;
  mode: "bell" | "poll";
  /** Our own test ring goes through here, which is another connection, and large values come. */
  lane: Lane;
  /** Whether somebody watches: large values are read for those only. */
  isWatched: (news: News) => boolean;
  onPage: (page: FeedPage) => void;
  onEpochChange: () => void;
  log: FeedLog;
}): Listener {
  const { connectionString, mode, lane, log } = options;
  const isPolling = mode === "poll";
  const query = lane.for({});
  const doorbell = createDoorbell({
    connectionString,
    ring: async (payload) => {
      await query("select pg_notify($1, $2)", [CHANNEL, payload]);
    },
    onRing: () => feed.ring(),
    onChange: () => feed.ring(), // what was missed meanwhile, and to sleep or to wake
    log,
  });
  const feed = new Feed({
    mode,
    openSession: (signal) =>
      openFeedSession({
        connectionString,
        signal,
        isWatched: options.isWatched,
        readValues: query,
        onUnread: (err) => log.warn({ err }, "large values were not read: their viewers will"),
      }),
    doorbell,
    onPage: options.onPage,
    onEpochChange: options.onEpochChange,
    log,
  });

  return {
    get epoch() {
      return feed.epoch;
    },
    state() {
      const { lastReadAt } = feed;
      const lastReadAgoMs =
        lastReadAt === undefined ? null : Math.round(performance.now() - lastReadAt);
      const isReading =
        feed.state !== "connecting" && lastReadAgoMs !== null && lastReadAgoMs < STALE_MS;
      return {
        isHealthy: isReading && (isPolling || doorbell.isListening),
        feed: feed.state,
        bell: isPolling ? null : doorbell.isListening,
        lastReadAgoMs,
      };
    },
    async start() {
      await feed.start();
      if (!isPolling) doorbell.start();
    },
    async stop() {
      await Promise.all([doorbell.stop(), feed.stop()]);
    },
  };
}
