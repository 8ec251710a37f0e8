import pg from "pg";
import type { News } from "../change/change.ts";
import { type FeedPage, type FeedSession, openFeedSession } from "../db/feed-session.ts";
import type { Lane } from "../db/lane.ts";
import { CHANNEL, createDoorbell, type FeedLog } from "./doorbell.ts";
import { Feed, type FeedState } from "./feed.ts";
import { assertSamePlace, SplitError } from "./same-place.ts";

/** A feed that has not read for this long is stuck: it reads every 3 s even when all is quiet. */
const STALE_MS = 10_000;

export type ListenerState = {
  /** Whether changes are read, and in time. */
  readonly isHealthy: boolean;
  readonly feed: FeedState;
  /** Whether our own notification was heard lately; null in mode `poll`, which needs none. */
  readonly bell: boolean | null;
  /** Why there is no session to read with: an SQLSTATE, an errno, or a word; null while there is. */
  readonly trouble: string | null;
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
  /** Where the lane leads. */
  databaseUrl: string;
  /** The same database by a direct connection: LISTEN and session locks pass no transaction pooler. */
  listenDatabaseUrl: string;
  mode: "bell" | "poll";
  /** Our own test ring goes through here, which is another connection, and large values come. */
  lane: Lane;
  /** Whether somebody watches: large values are read for those only. */
  isWatched: (news: News) => boolean;
  onPage: (page: FeedPage) => void;
  onEpochChange: () => void;
  /** The lane leads somewhere else than the session: connections are to be made anew. */
  onSplit: () => void;
  /** There is no schema where there was one: makes it. */
  migrate: (signal: AbortSignal) => Promise<unknown>;
  log: FeedLog;
}): Listener {
  const { databaseUrl, listenDatabaseUrl, mode, lane, log } = options;
  const isPolling = mode === "poll";
  const query = lane.for({});
  const doorbell = createDoorbell({
    connectionString: listenDatabaseUrl,
    ring: async (payload) => {
      await query("select pg_notify($1, $2)", [CHANNEL, payload]);
    },
    onRing: () => feed.ring(),
    onChange: () => feed.ring(), // what was missed meanwhile, and to sleep or to wake
    log,
  });
  const feed = new Feed({
    mode,
    openSession,
    confirm: assertSame,
    doorbell,
    onPage: options.onPage,
    onEpochChange: options.onEpochChange,
    log,
  });

  function open(signal: AbortSignal): Promise<FeedSession> {
    return openFeedSession({
      connectionString: listenDatabaseUrl,
      signal,
      isWatched: options.isWatched,
      readValues: query,
      onUnread: (err) => log.warn({ err }, "large values were not read: their viewers will"),
    });
  }

  async function openSession(signal: AbortSignal): Promise<FeedSession> {
    const session = await open(signal).catch(async (error: unknown) => {
      if (!isSchemaMissing(error)) throw error;
      log.warn({ err: error }, "the schema is gone; making it anew");
      await options.migrate(signal);
      return open(signal);
    });
    try {
      await assertSame(await session.currentPlace());
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  async function assertSame(place: string): Promise<void> {
    await assertSamePlace(place, query, { databaseUrl, listenDatabaseUrl }).catch((error) => {
      if (error instanceof SplitError) {
        options.onSplit();
        doorbell.renew();
      }
      throw error;
    });
  }

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
        trouble: feed.trouble ?? null,
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

/** 3F000: no such schema; 42P01: no such table. */
function isSchemaMissing(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(3F000|42P01)$/.test(error.code ?? "");
}
