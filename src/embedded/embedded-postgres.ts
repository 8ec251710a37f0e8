import { join, resolve } from "node:path";
import { openDataDir } from "./account.ts";
import { type Cluster, isAbsentOrEmpty, openCluster } from "./cluster.ts";
import { openClusterHome } from "./cluster-home.ts";
import { forgetPassword, loadPassword, readPort, writeSecret } from "./credentials.ts";
import { type Claim, claimDataDir } from "./data-dir-claim.ts";
import { checkPostgresBinaries, loadPostgresBinaries } from "./postgres-binaries.ts";
import { type Postmaster, startPostmaster, stopPostmaster } from "./postmaster.ts";
import { findOrphan } from "./postmaster-pid.ts";
import { watchPostmaster } from "./postmaster-watch.ts";
import { openServerLog, type ServerLog } from "./server-log.ts";
import { ensureDatabase, type ServiceUrls } from "./service-database.ts";

const ELSEWHERE =
  "the user that PostgreSQL runs as could not get to the data directory, so the cluster lies " +
  "elsewhere and dataDir/postgres is a link to it";

/** `postgres://...` on 127.0.0.1, database `jobcast`: of its owner, and of the superuser. */
export type EmbeddedPostgres = ServiceUrls & {
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
   * Gets `postgres/` (the cluster, or a link to it) and the programs that can read it,
   * `postgres.log`, `postgres-password`, `database-url` and `owner.pid`; made if missing. One
   * process at a time may use it.
   */
  dataDir: string;
  log: { info(o: object, msg: string): void; warn(o: object, msg: string): void };
  /** Further settings of PostgreSQL, such as `{ fsync: "off" }`. */
  settings?: Record<string, string>;
  /** Called once, within two seconds, when PostgreSQL ends without `stop()` having been called. */
  onExit?: (reason: string) => void;
  /** Gives up the start, whatever it waits for. */
  signal?: AbortSignal;
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
  signal,
  ...options
}: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir);
  const binaries = await loadPostgresBinaries();
  const major = await checkPostgresBinaries(binaries);
  const claims: Claim[] = [];
  const release = () => {
    for (const claim of claims) claim.release();
  };
  try {
    await openDataDir(dataDir);
    claims.push(await claimDataDir(dataDir));
    const home = await openClusterHome(dataDir, options.log);
    if (home !== dataDir) {
      // A copy of the data directory has a link to the same cluster.
      claims.push(await claimDataDir(home));
      options.log.info({ dataDir, cluster: join(home, "postgres") }, ELSEWHERE);
    }
    if (await isAbsentOrEmpty(join(home, "postgres"))) await forgetPassword(dataDir);
    const cluster = await openCluster(home, { binaries, major }, options.log, signal);
    signal?.throwIfAborted();
    const serverLog = await openServerLog(dataDir, cluster.account);
    const how = { dataDir, settings, log: options.log, signal };
    const { postmaster, ...urls } = await startServer(cluster, serverLog, how);
    const unwatch = watchPostmaster(postmaster, serverLog, onExit);
    return { ...urls, stop: createStop(postmaster, cluster, unwatch, release) };
  } catch (error) {
    release();
    throw explain(error, dataDir);
  }
}

async function startServer(
  cluster: Cluster,
  serverLog: ServerLog,
  how: Required<Omit<EmbeddedPostgresOptions, "onExit" | "signal">> & {
    signal: AbortSignal | undefined;
  },
): Promise<ServiceUrls & { postmaster: Postmaster }> {
  const { dataDir, settings, log, signal } = how;
  const orphan = await findOrphan(cluster);
  if (orphan) {
    log.warn({ pid: orphan.pid }, "taking over the PostgreSQL of a process that was killed");
    await stopPostmaster(orphan, cluster);
  }
  const password = await loadPassword(dataDir, cluster);
  const urlFile = join(dataDir, "database-url");
  const lastPort = await readPort(urlFile);
  const postmaster = await startPostmaster(cluster, serverLog, settings, lastPort, signal);
  const { pid, port } = postmaster;
  if (lastPort && port !== lastPort) {
    log.warn({ port, lastPort }, "the port of the last run is taken: PostgreSQL has another");
  }
  try {
    const urls = await ensureDatabase({ port, password }, dataDir);
    await writeSecret(urlFile, `${urls.url}\n`, cluster);
    log.info({ pid, port, dataDir }, "embedded PostgreSQL is ready");
    return { postmaster, ...urls };
  } catch (error) {
    await stopPostmaster(postmaster, cluster);
    throw error;
  }
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

/** Errors of the file system (no space, no permission, read-only) as a sentence. */
function explain(error: unknown, dataDir: string): unknown {
  if (!(error instanceof Error && "syscall" in error)) return error;
  return new Error(
    `Cannot use ${dataDir} as the data directory: ${error.message}. Set DATA_DIR to a directory ` +
      "that this user can write to, or DATABASE_URL to a PostgreSQL of your own.",
    { cause: error },
  );
}
