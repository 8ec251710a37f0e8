import { createServer } from "node:net";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import { run } from "./command.ts";
import { findOrphan, readPostmaster } from "./postmaster-pid.ts";
import { isRunning, type ProcessIdentity } from "./process-identity.ts";
import type { ServerLog } from "./server-log.ts";

/** Recovery after a crash may take this long before a start counts as failed. Unit: seconds. */
const START_SECONDS = 120;
/** How long each way of stopping gets; after the second one the next start does a recovery. */
const STOP_SECONDS = { fast: 4, immediate: 2 };
const PORT_ATTEMPTS = 5;

/** The first process of a running cluster. */
export type Postmaster = ProcessIdentity & { readonly port: number };

/**
 * Starts the cluster on the wanted port of 127.0.0.1, or on a free one if that is taken.
 *
 * pg_ctl does it: it puts PostgreSQL in a session of its own, where Ctrl-C in our terminal does not
 * reach it while we drain, and learns of its readiness from a file instead of from log lines.
 *
 * @throws {Error} with PostgreSQL's own complaint.
 */
export async function startPostmaster(
  cluster: Cluster,
  log: ServerLog,
  settings: Record<string, string>,
  wantedPort: number | undefined,
  signal?: AbortSignal,
): Promise<Postmaster> {
  for (let attempt = 1; ; attempt++) {
    const port = attempt === 1 && wantedPort ? wantedPort : await freePort();
    await log.mark();
    const output = await pgCtlStart(cluster, log, { ...settings, ...fixedSettings(port) }, signal);
    if (output === undefined) {
      const process = await readPostmaster(cluster.dir);
      if (process) return { ...process, port };
    }
    signal?.throwIfAborted();
    const complaints = (await log.complaints()) || output || "it ended at once";
    // A port that looked free may be taken by the time PostgreSQL binds it.
    if (attempt < PORT_ATTEMPTS && complaints.includes("TCP/IP sockets")) continue;
    throw new Error(
      `PostgreSQL did not start in ${cluster.dir}: ${complaints} (see ${log.file}). Mend that, ` +
        "or set DATABASE_URL to a PostgreSQL of your own.",
    );
  }
}

/** What no caller may change: who can connect, and what `complaints` reads. */
function fixedSettings(port: number): Record<string, string> {
  return {
    port: String(port),
    listen_addresses: "127.0.0.1",
    // No socket: its path would be limited to 107 bytes and collide in a shared directory.
    unix_socket_directories: "",
    logging_collector: "off",
    log_destination: "stderr",
    lc_messages: "C",
  };
}

/** Resolves with nothing when it is ready, else with what pg_ctl says. */
async function pgCtlStart(
  cluster: Cluster,
  log: ServerLog,
  settings: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const { dir, account, binaries } = cluster;
  const flags = Object.entries(settings).map(([name, value]) => `-c ${quote(`${name}=${value}`)}`);
  const args = ["start", "-w", "-t", String(START_SECONDS), "-l", "postgres.log"];
  // The directory goes in as PGDATA and as a quoted option, the log as a bare name: what pg_ctl is
  // told with -D and -l it hands to a shell between double quotes, where a $ in a path expands.
  args.push("-o", [`-D ${quote(dir)}`, ...flags].join(" "));
  const { code, stdout, stderr } = await run(binaries.pg_ctl, args, {
    account,
    cwd: dirname(log.file),
    env: { PGDATA: dir },
    timeoutMs: (START_SECONDS + 10) * 1_000,
    signal,
  });
  if (code === 0) return undefined;
  // Still in recovery: a start that has failed must not succeed later behind our back.
  const late = await findOrphan(cluster);
  if (late) await stopPostmaster(late, cluster);
  return [stderr, stdout].join(" ").replaceAll(/\s+/g, " ").trim();
}

function quote(text: string): string {
  return process.platform === "win32" ? `"${text}"` : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A free port of 127.0.0.1, as the system picks it. */
async function freePort(): Promise<number> {
  const server = createServer();
  return await new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/**
 * Stops PostgreSQL and resolves when its process is gone, after a fraction of a second as a rule
 * and ten seconds at worst. One that does not end in time is stopped without a checkpoint and then
 * killed, which loses nothing either: its log brings everything back.
 *
 * @throws {Error} when it cannot be killed.
 */
export async function stopPostmaster(
  postmaster: ProcessIdentity,
  { dir, account, binaries }: Cluster,
): Promise<void> {
  for (const [mode, seconds] of Object.entries(STOP_SECONDS)) {
    if (!isRunning(postmaster)) return;
    // It only gives the signal (-W). Its own waiting takes a zombie for a running process, and is
    // ended by a second, impatient Ctrl-C unless it is detached.
    const { code } = await run(binaries.pg_ctl, ["stop", "-m", mode, "-W"], {
      account,
      env: { PGDATA: dir },
      detached: true,
    });
    // It fails when PostgreSQL is just ending, or its data directory was deleted.
    if (await ended(postmaster, code === 0 ? seconds : 0.2)) return;
  }
  let cause: unknown;
  try {
    process.kill(postmaster.pid, "SIGKILL");
  } catch (error) {
    cause = error;
  }
  if (await ended(postmaster, 1)) return;
  throw new Error(`PostgreSQL (pid ${postmaster.pid}) in ${dir} cannot be stopped.`, { cause });
}

async function ended(postmaster: ProcessIdentity, seconds: number): Promise<boolean> {
  for (const end = performance.now() + seconds * 1_000; performance.now() < end; ) {
    if (!isRunning(postmaster)) return true;
    await delay(20);
  }
  return !isRunning(postmaster);
}
