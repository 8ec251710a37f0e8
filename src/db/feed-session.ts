import { createHash } from "node:crypto";
import { Socket } from "node:net";
import pg from "pg";
import type { Change } from "../protocol/event.ts";
import { formatSnapshot, parseSnapshot, type Snapshot } from "../protocol/snapshot.ts";
import {
  CHANGE_COLUMNS,
  hasChange,
  type MaybeChangeRow,
  NEWEST_XID,
  notVisibleIn,
  toChange,
  upTo,
} from "./changes.ts";
import { connectionConfig } from "./pool.ts";

/** More than a live read ever holds; a longer catch-up is read in pages of this size. */
const PAGE = 2_000;

/** A live read that takes longer is a dead connection, not a slow one. */
const READ_TIMEOUT_MS = 5_000;

/** The first page of a catch-up sorts everything that was missed. */
const CATCH_UP_TIMEOUT_MS = 120_000;

/** One page of what became visible. */
export type FeedPage = {
  readonly changes: readonly Change[];
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
  /** Everything that committed since, each job's versions ascending. */
  read(since: Snapshot): AsyncGenerator<FeedPage>;
  /**
   * Takes the sleepers' lock in shared mode: whoever writes from now on rings.
   * @returns the id below which writers may not ring, because they looked before; undefined when
   *   somebody holds the lock against us: a writer for a moment, or a stranger for as long as he likes
   */
  lockBell(): Promise<number | undefined>;
  unlockBell(): Promise<void>;
  /** At once, without a goodbye: the peer may be gone. */
  destroy(): void;
};

/** OFFSET keeps the planner from a join for which it would read all jobs, a page being 2,000 rows. */
const NEW_CHANGES = `
  select ${CHANGE_COLUMNS}
  from jobcast.status_history h
  cross join lateral (select owner_id, batch_id from jobcast.jobs where id = h.job_id offset 0) j
  where ${notVisibleIn("$1")}
  order by h.job_id, h.version`;

/** The statement's own snapshot comes with its rows, also when there are none. */
const READ = `
  select s.snapshot, c.*
  from (select pg_current_snapshot()::text as snapshot) s
  left join lateral (${NEW_CHANGES} limit ${PAGE + 1}) c on true`;

/**
 * Settings of a session that sleeps: it is idle for seconds, and the xid index is always right
 * here, while the statistics of a table that only grows lag behind.
 */
const SETTINGS = "set idle_session_timeout = 0; set enable_seqscan = off";

/**
 * Opens the session that the feed reads with.
 * @param signal ends the session at once, also while it is being opened
 */
export async function openFeedSession(
  connectionString: string,
  signal: AbortSignal,
): Promise<FeedSession> {
  signal.throwIfAborted();
  const socket = new Socket({ signal });
  const client = new pg.Client({
    ...connectionConfig(connectionString, "jobcast feed"),
    query_timeout: READ_TIMEOUT_MS,
    stream: () => socket,
  });
  const closed = new Promise<void>((resolve) => {
    client.once("end", resolve);
    client.on("error", () => resolve()); // the query that hit it rejects as well
  });
  try {
    await client.connect();
    const epoch = await readEpoch(client);
    return { epoch, closed, ...statements(client), destroy: () => socket.destroy() };
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function statements(client: pg.Client): Omit<FeedSession, "epoch" | "closed" | "destroy"> {
  let isFirstRead = true;
  return {
    async currentSnapshot() {
      const { rows } = await client.query(
        `select pg_current_snapshot()::text as snapshot, ${NEWEST_XID} as newest`,
      );
      const { snapshot, newest } = rows[0];
      return upTo(newest === null ? null : Number(newest), parseSnapshot(snapshot));
    },
    async *read(since) {
      // Nobody knows how much a new session missed, and a live read is not given the time for much.
      if (isFirstRead) {
        yield* readPages(client, since);
        isFirstRead = false;
        return;
      }
      const parameter = formatSnapshot(since);
      const { rows } = await client.query<MaybeChangeRow<{ snapshot: string }>>(READ, [parameter]);
      if (rows.length > PAGE) {
        yield* readPages(client, since);
        return;
      }
      const changes = rows.filter(hasChange).map(toChange);
      yield { changes, ...endOfRead(newestXid(since, changes), rows[0]?.snapshot ?? "") };
    },
    async lockBell() {
      const { rows } = await client.query(
        "select pg_try_advisory_lock_shared(jobcast.bell_lock()) as is_locked",
      );
      if (!rows[0].is_locked) return undefined;
      // Not before: through a transaction pooler, which the bell rules out, they would be others'.
      await client.query(SETTINGS);
      // An id of our own is above that of everybody who may have looked before. The end of a
      // snapshot is not: it leaves out those that run and are newer than the last that ended.
      const own = await client.query("select pg_current_xact_id()::text as xid");
      return Number(own.rows[0].xid);
    },
    async unlockBell() {
      await client.query("select pg_advisory_unlock_shared(jobcast.bell_lock())");
    },
  };
}

function newestXid(since: Snapshot, changes: readonly Change[]): number {
  return changes.reduce((newest, { xid }) => Math.max(newest, xid), since.xmax - 1);
}

function endOfRead(newest: number, text: string): Required<Omit<FeedPage, "changes">> {
  const snapshot = parseSnapshot(text);
  return { snapshot: upTo(newest, snapshot), endedBelow: snapshot.xmin };
}

/** After a long absence: one snapshot, read in pages, so that memory stays bounded. */
async function* readPages(client: pg.Client, since: Snapshot): AsyncGenerator<FeedPage> {
  const query = (text: string, values?: string[]) =>
    client.query({ text, values, query_timeout: CATCH_UP_TIMEOUT_MS } as pg.QueryConfig);
  await client.query(
    "begin isolation level repeatable read read only; set local statement_timeout = 0",
  );
  try {
    const { rows } = await client.query("select pg_current_snapshot()::text as snapshot");
    await query(`declare changes no scroll cursor for ${NEW_CHANGES}`, [formatSnapshot(since)]);
    for (let newest = since.xmax - 1; ; ) {
      const page = await query(`fetch ${PAGE} from changes`);
      const changes = page.rows.map(toChange);
      newest = Math.max(newest, newestXid(since, changes));
      if (changes.length < PAGE) {
        yield { changes, ...endOfRead(newest, rows[0].snapshot) };
        return;
      }
      yield { changes };
    }
  } finally {
    await client.query("commit");
  }
}

/**
 * Cluster, timeline and database in one short word. A standby cannot tell its timeline this way
 * and answers with an error, which is right: LISTEN does not work there either.
 */
async function readEpoch(client: pg.Client): Promise<string> {
  const { rows } = await client.query(`
    select system_identifier::text || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
      || (select oid from pg_database where datname = current_database()) as database
    from pg_control_system()`);
  const digest = createHash("sha256").update(rows[0].database).digest();
  return digest.readUIntBE(0, 4).toString(36);
}
