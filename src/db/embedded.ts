import { dirname, join, resolve } from "node:path";
import pg from "pg";
import { openDataDir } from "./embedded/account.ts";
import { type Cluster, openCluster } from "./embedded/cluster.ts";
import { loadPassword, readPort, writeSecret } from "./embedded/credentials.ts";
import { claimDataDir } from "./embedded/data-dir-claim.ts";
import { checkPostgresBinaries, loadPostgresBinaries } from "./embedded/postgres-binaries.ts";
import { type Postmaster, startPostmaster, stopPostmaster } from "./embedded/postmaster.ts";
import { findOrphan } from "./embedded/postmaster-pid.ts";
import { isRunning } from "./embedded/process-identity.ts";
import { openServerLog, type ServerLog } from "./embedded/server-log.ts";

const DATABASE = "jobcast";
/** How often we look whether PostgreSQL still runs. */
const WATCH_MS = 1_000;

export type EmbeddedPostgres = {
  /** `postgres://...` of the superuser on 127.0.0.1, database `jobcast` */
  readonly url: string;
  /**
   * Resolves when PostgreSQL has stopped, within ten seconds at worst; at once if it has died. Safe
   * to call twice.
   *
   * @throws {Error} when it cannot be stopped.
   */
  stop(): Promise<void>;
};

type EmbeddedPostgresOptions = {
  /**
   * Gets `postgres/` (the cluster), `postgres.log`, `postgres-password`, `database-url` and
   * `owner.pid`; made if missing. One process at a time may use it.
   */
  dataDir: string;
  log: { info(o: object, msg: string): void; warn(o: object, msg: string): void };
  /** Further settings of PostgreSQL, such as `{ fsync: "off" }`. */
  settings?: Record<string, string>;
  /** Called once, within two seconds, when PostgreSQL ends without `stop()` having been called. */
  onExit?: (reason: string) => void;
};

/**
 * Starts a PostgreSQL of our own, on a port that only this machine reaches, and makes it first if
 * `dataDir` holds none. It survives a killed process of ours; the next start takes it over.
 *
 * @throws {Error} with a sentence for the user: what is wrong, where, and what to do about it.
 */
export async function startEmbeddedPostgres({
  settings = {},
  onExit,
  ...options
}: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir);
  const binaries = await loadPostgresBinaries();
  const major = await checkPostgresBinaries(binaries);
  let release: () => void = () => undefined;
  try {
    await openDataDir(dataDir);
    ({ release } = await claimDataDir(dataDir));
    const cluster = await openCluster(dataDir, binaries, major);
    const serverLog = await openServerLog(dataDir, cluster.account);
    const { postmaster, url } = await startServer(cluster, serverLog, settings, options.log);
    const unwatch = watch(postmaster, serverLog, onExit);
    return { url, stop: createStop(postmaster, cluster, unwatch, release) };
  } catch (error) {
    release();
    throw explain(error, dataDir);
  }
}

async function startServer(
  cluster: Cluster,
  serverLog: ServerLog,
  settings: Record<string, string>,
  log: EmbeddedPostgresOptions["log"],
): Promise<{ postmaster: Postmaster; url: string }> {
  const orphan = await findOrphan(cluster);
  if (orphan) {
    log.warn({ pid: orphan.pid }, "taking over the PostgreSQL of a process that was killed");
    await stopPostmaster(orphan, cluster);
  }
  const dataDir = dirname(cluster.dir);
  const password = await loadPassword(dataDir, cluster);
  const urlFile = join(dataDir, "database-url");
  const lastPort = await readPort(urlFile);
  const postmaster = await startPostmaster(cluster, serverLog, settings, lastPort);
  const { pid, port } = postmaster;
  if (lastPort && port !== lastPort) {
    log.warn({ port, lastPort }, "the port of the last run is taken: PostgreSQL has another");
  }
  const url = `postgres://postgres:${password}@127.0.0.1:${port}/${DATABASE}`;
  try {
    await ensureDatabase(url, dataDir);
    await writeSecret(urlFile, `${url}\n`, cluster);
  } catch (error) {
    await stopPostmaster(postmaster, cluster);
    throw error;
  }
  log.info({ pid, port, dataDir }, "embedded PostgreSQL is ready");
  return { postmaster, url };
}

function createStop(
  postmaster: Postmaster,
  cluster: Cluster,
  unwatch: () => void,
  release: () => void,
): () => Promise<void> {
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    unwatch();
    await stopPostmaster(postmaster, cluster);
    release();
  };
  return () => {
    stopping ??= stop();
    return stopping;
  };
}

/** Nothing tells us of the end of a process that is not our child, so we look. */
function watch(
  postmaster: Postmaster,
  serverLog: ServerLog,
  onExit: EmbeddedPostgresOptions["onExit"],
): () => void {
  const timer = setInterval(async () => {
    if (isRunning(postmaster)) return;
    clearInterval(timer);
    const ending = await serverLog.ending().catch(String);
    onExit?.(
      `PostgreSQL (pid ${postmaster.pid}) ended without being asked to. Its log ` +
        `${serverLog.file} ends with: ${ending}`,
    );
  }, WATCH_MS).unref();
  return () => clearInterval(timer);
}

/** Connects, which proves that the server answers to our password, and makes our database. */
async function ensureDatabase(url: string, dataDir: string): Promise<void> {
  const maintenance = new URL(url);
  maintenance.pathname = "/postgres";
  const client = new pg.Client({
    connectionString: maintenance.href,
    connectionTimeoutMillis: 5_000,
    query_timeout: 30_000,
  });
  // What it reports after a failure that `connect` or `query` has thrown already.
  client.on("error", () => undefined);
  try {
    await client.connect();
    const found = await client.query("select from pg_database where datname = $1", [DATABASE]);
    if (found.rowCount === 0) await client.query(`create database ${DATABASE}`);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `The PostgreSQL in ${dataDir} started and cannot be used: ${why}. If its password was ` +
        `changed, delete ${join(dataDir, "postgres-password")} to have a new one set.`,
      { cause },
    );
  } finally {
    await client.end();
  }
}

/** Errors of the file system (no space, no permission, read-only) as a sentence. */
function explain(error: unknown, dataDir: string): unknown {
  if (!(error instanceof Error && "syscall" in error)) return error;
  return new Error(
    `Cannot use ${dataDir} as the data directory: ${error.message}. Set DATA_DIR to a directory ` +
      "that this user can write to, or DATABASE_URL to a PostgreSQL of your own.",
    { cause: error },
  );
}
