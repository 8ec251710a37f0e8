import { getHeapStatistics } from "node:v8";

/**
 * Of the process itself: libraries, logs, the key set that is fetched, a name that is looked up; and
 * the connections to the database beside the pool: four, and two while it is migrated.
 */
const OWN = 46;

/** Kept for requests beside the streams: who may do nothing but stream cannot cancel a job. */
const REQUESTS = 32;

/**
 * What a connection may take at worst, with a head of 16 KiB in a hundred headers that is still on
 * its way or whose answer is. Unit: bytes.
 */
const CONNECTION_BYTES = 48 * 1_024;

export type OpenFiles = {
  /** What the process may open; undefined where the system does not say. */
  readonly limit: number | undefined;
  /** How many connections of clients leave enough for the database, and fit into memory. */
  readonly connections: number;
  /** How many of them may be streams. */
  readonly streams: number;
};

/**
 * Shares out what the process may open (`ulimit -n`; Node raises its soft limit to the hard one), as
 * far as there is memory for it.
 * A database that was away gets its connections back only if nobody took them meanwhile.
 * @param poolSize connections to the database, as DATABASE_POOL_SIZE says
 */
export function shareOpenFiles(
  poolSize: number,
  limit = openFileLimit(),
  heapBytes = getHeapStatistics().heap_size_limit,
): OpenFiles {
  const files = limit === undefined ? Number.POSITIVE_INFINITY : limit - OWN - poolSize;
  const connections = Math.max(2, Math.min(files, Math.floor(heapBytes / CONNECTION_BYTES)));
  return { limit, connections, streams: Math.max(1, connections - REQUESTS) };
}

/** [Node 20.13] Newer than the types. */
type Reporter = NodeJS.ProcessReport & { excludeNetwork?: boolean };

type Report = { readonly userLimits?: Readonly<Record<string, { readonly soft?: unknown }>> };

/** [Node] The report knows it on every system; elsewhere than on Windows. */
function openFileLimit(): number | undefined {
  const report: Reporter = process.report;
  const { excludeNetwork = false } = report;
  // Else it looks up the name of every peer.
  report.excludeNetwork = true;
  const { userLimits } = report.getReport() as Report;
  report.excludeNetwork = excludeNetwork;
  const soft = userLimits?.["open_files"]?.soft;
  return typeof soft === "number" ? soft : undefined;
}
