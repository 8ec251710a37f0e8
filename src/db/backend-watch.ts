import pg from "pg";
import { DatabaseClient } from "./client.ts";
import { holdersOfTables } from "./lock-holders.ts";
import { theOne } from "./query.ts";

export type BackendWatch = {
  /** Who has tables of ours locked, as seen from beside. */
  holders(): Promise<string>;
  stop(): void;
};

const LOOK_MS = 2_000;

/** Looks in a row at which the other session was not at work, or could not be looked at. */
const LOST_AFTER = 3;

/**
 * Watches a session that may work for minutes on one statement, from another one: a connection that
 * died silently looks just like that from here, and holds its locks for as long as it is waited for.
 * When the server does not work for it, it is destroyed.
 *
 * @param client in a transaction, whose backend stays the same until its end
 */
export async function watchBackend(
  client: DatabaseClient,
  connectionString: string,
): Promise<BackendWatch> {
  const { pid } = theOne(await client.send<{ pid: number }>("select pg_backend_pid() as pid"));
  const stopping = new AbortController();
  let watcher: DatabaseClient | undefined;
  let lost = 0;
  let isLooking = false;

  async function connected(): Promise<DatabaseClient> {
    if (watcher) return watcher;
    const name = "jobcast migration watch";
    const { signal } = stopping;
    const fresh = new DatabaseClient({ connectionString, name, work: "service", signal });
    fresh.once("end", () => {
      watcher = undefined;
    });
    await fresh.connect();
    await fresh.prepare();
    watcher = fresh;
    return fresh;
  }

  async function isAtWork(): Promise<boolean> {
    const beside = await connected();
    const [session] = await beside.run<{ state: string | null }>(
      "select state from pg_stat_activity where pid = $1",
      [pid],
    );
    // Between two statements it is idle for no time at all. Where nobody keeps track of what sessions
    // do (track_activities), nobody can say that this one does nothing.
    return session !== undefined && session.state?.startsWith("idle") !== true;
  }

  async function look(): Promise<void> {
    if (isLooking) return;
    isLooking = true;
    // Whoever answers with an error (too many connections) is there.
    const isWell = await isAtWork().catch((error: unknown) => error instanceof pg.DatabaseError);
    lost = isWell ? 0 : lost + 1;
    isLooking = false;
    if (lost >= LOST_AFTER && !stopping.signal.aborted) client.destroy();
  }

  const timer = setInterval(() => {
    look().catch(() => undefined); // it has caught what can fail
  }, LOOK_MS);

  return {
    async holders() {
      const beside = await connected();
      return holdersOfTables((text, values) => beside.run(text, values));
    },
    stop() {
      clearInterval(timer);
      stopping.abort();
    },
  };
}
