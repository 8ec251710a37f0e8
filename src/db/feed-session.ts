import type { News } from "../change/change.ts";
import { formatSnapshot, parseSnapshot, type Snapshot } from "../change/snapshot.ts";
import { type ChangeRow, hasChange, type MaybeChangeRow, newChanges } from "./changes.ts";
import { DatabaseClient } from "./client.ts";
import { readEpoch, readPlace } from "./epoch.ts";
import { holdersOfBell } from "./lock-holders.ts";
import { type NewsOptions, NewsTeller } from "./news.ts";
import { type Query, theOne } from "./query.ts";
import { NEWEST_XID, upTo } from "./visibility.ts";

/** More than a live read ever holds; a longer catch-up is read in pages of this size. */
const PAGE = 1_000;

/** The first page of a catch-up sorts everything that was missed. */
const CATCH_UP_MS = 120_000;

/** One page of what became visible, some megabytes at most. */
export type FeedPage = {
  readonly changes: readonly News[];
  /** What was read with the last page: the next `since`. */
  readonly snapshot?: Snapshot;
  /** With the last page: every transaction with a lower id has ended and was read. */
  readonly endedBelow?: number;
};

export type FeedSession = {
  /** Names this database in cursors: a snapshot means nothing to another cluster, timeline or database. */
  readonly epoch: string;
  /** Settles when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;
  currentSnapshot(): Promise<Snapshot>;
  /** What the epoch is by now: behind a pooler the server may be changed under a session. */
  currentEpoch(): Promise<string>;
  /** Where this session is, to be compared with another one of the same moment. */
  currentPlace(): Promise<string>;
  /**
   * Everything that committed since, each job's versions ascending.
   * @param isCareful reads every row by itself, because one of them cannot be read with the others
   */
  read(since: Snapshot, isCareful?: boolean): AsyncGenerator<FeedPage>;
  /**
   * Takes the sleepers' lock in shared mode: whoever writes from now on rings.
   * @returns the id below which writers may not ring, because they looked before; undefined when
   *   somebody holds the lock against us: a writer for a moment, or a stranger for as long as he likes
   */
  lockBell(): Promise<number | undefined>;
  unlockBell(): Promise<void>;
  /** Whether writers wait for each other to ring. */
  areRingersQueued(): Promise<boolean>;
  /** Who holds that lock against us, for a log. */
  bellHolders(): Promise<string>;
  /** At once, without a goodbye: the peer may be gone. */
  destroy(): void;
};

export type FeedSessionOptions = NewsOptions & {
  readonly connectionString: string;
  /** Ends the session at once, also while it is being opened. */
  readonly signal: AbortSignal;
};

/**
 * A commit that notifies locks "database 0" (PreCommit_Notify in async.c), which everybody may see
 * in pg_locks.
 */
const RINGERS_QUEUED = `select exists (
    select from pg_locks where locktype = 'object' and not granted
      and database = 0 and classid = 'pg_database'::regclass and objid = 0
  ) as is_queued`;

/** The statement's own snapshot comes with its rows, also when there are none. */
function readLive(isCareful: boolean): string {
  return `
    select s.snapshot, c.*
    from (select pg_current_snapshot()::text as snapshot) s
    left join lateral (${newChanges("$1", isCareful)} limit ${PAGE + 1}) c on true`;
}

/** Opens the session that the feed reads with. */
export async function openFeedSession(options: FeedSessionOptions): Promise<FeedSession> {
  const { connectionString, signal } = options;
  signal.throwIfAborted();
  const client = new DatabaseClient({
    connectionString,
    name: "jobcast feed",
    work: "feed",
    signal,
  });
  const closed = new Promise<void>((resolve) => {
    client.once("end", resolve);
    client.once("error", () => resolve());
  });
  try {
    await client.connect();
    await client.prepare();
    const epoch = await readEpoch((text, values) => client.run(text, values));
    return {
      epoch,
      closed,
      ...statements(client, new NewsTeller(options)),
      destroy: () => client.destroy(),
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

function statements(
  client: DatabaseClient,
  teller: NewsTeller,
): Omit<FeedSession, "epoch" | "closed" | "destroy"> {
  let isFirstRead = true;
  const query: Query = (text, values) => client.run(text, values);
  return {
    currentEpoch: () => readEpoch(query),

    currentPlace: () => readPlace(query),

    async currentSnapshot() {
      const { snapshot, newest } = theOne(
        await client.run<{ snapshot: string; newest: number | null }>(
          `select pg_current_snapshot()::text as snapshot, ${NEWEST_XID} as newest`,
        ),
      );
      return upTo(newest, parseSnapshot(snapshot));
    },

    async *read(since, isCareful = false) {
      teller.startRead();
      // Nobody knows how much a new session missed, and a live read is not given the time for much.
      if (!isFirstRead) {
        const rows = await client.run<MaybeChangeRow<{ snapshot: string }>>(readLive(isCareful), [
          formatSnapshot(since),
        ]);
        if (rows.length <= PAGE) {
          const changed = rows.filter(hasChange);
          const end = endOfRead(newestXid(since, changed), rows[0]?.snapshot ?? "");
          yield { changes: await teller.tell(changed), ...end };
          return;
        }
      }
      yield* catchUp(client, since, isCareful, teller);
      isFirstRead = false;
    },

    async lockBell() {
      const { is_locked } = theOne(
        await client.run<{ is_locked: boolean }>(
          "select pg_try_advisory_lock_shared(jobcast.bell_lock()) as is_locked",
        ),
      );
      if (!is_locked) return undefined;
      // An id of our own is above that of everybody who may have looked before. The end of a
      // snapshot is not: it leaves out those that run and are newer than the last that ended.
      const own = theOne(await client.run<{ xid: number }>("select pg_current_xact_id() as xid"));
      return own.xid;
    },

    async unlockBell() {
      await client.run("select pg_advisory_unlock_shared(jobcast.bell_lock())");
    },

    async areRingersQueued() {
      const { is_queued } = theOne(await client.run<{ is_queued: boolean }>(RINGERS_QUEUED));
      return is_queued;
    },

    bellHolders: () => holdersOfBell(query),
  };
}

type End = Required<Omit<FeedPage, "changes">>;

function newestXid(since: Snapshot, changes: readonly ChangeRow[]): number {
  return changes.reduce((newest, { xid }) => Math.max(newest, xid), since.xmax - 1);
}

function endOfRead(newest: number, text: string): End {
  const snapshot = parseSnapshot(text);
  return { snapshot: upTo(newest, snapshot), endedBelow: snapshot.xmin };
}

/** After a long absence: one snapshot, read in pages, so that memory stays bounded. */
async function* catchUp(
  client: DatabaseClient,
  since: Snapshot,
  isCareful: boolean,
  teller: NewsTeller,
): AsyncGenerator<FeedPage> {
  let fetched: Promise<ChangeRow[]> | undefined;
  const fetchPage = () => {
    fetched = client.send<ChangeRow>(`fetch ${PAGE} from changes`, [], CATCH_UP_MS);
    fetched.catch(() => undefined); // it may fail while the page before is told, and is awaited later
    return fetched;
  };
  await client.begin("begin isolation level repeatable read read only");
  try {
    await client.send(`set local statement_timeout = ${CATCH_UP_MS - 5_000}`);
    const { snapshot } = theOne(
      await client.send<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot"),
    );
    await client.send(
      `declare changes no scroll cursor for ${newChanges("$1", isCareful)}`,
      [formatSnapshot(since)],
      CATCH_UP_MS,
    );
    let newest = since.xmax - 1;
    for (let page = fetchPage(); ; ) {
      const rows = await page;
      const isLast = rows.length < PAGE;
      // The database reads the next page while we read of this one what is large.
      if (!isLast) page = fetchPage();
      newest = Math.max(newest, newestXid(since, rows));
      const changes = await teller.tell(rows);
      if (isLast) {
        yield { changes, ...endOfRead(newest, snapshot) };
        return;
      }
      yield { changes };
    }
  } finally {
    await fetched?.catch(() => undefined);
    await client.send("commit").catch(() => client.destroy());
  }
}
