import { readFile, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { run, systemCode } from "./command.ts";
import { identify, type ProcessIdentity } from "./process-identity.ts";

/**
 * The PostgreSQL that a killed process of ours left running in this cluster, if there is one. Call
 * it only as the owner of the data directory.
 *
 * Also clears what would keep PostgreSQL from starting: its pid file, when the number in it belongs
 * by now to a stranger or a zombie. Should that go wrong, PostgreSQL still refuses a second start
 * for the shared memory of the first.
 */
export async function findOrphan(cluster: Cluster): Promise<ProcessIdentity | undefined> {
  const process = await readPostmaster(cluster.dir);
  if (process && (await isPostmasterOf(process.pid, cluster))) return process;
  const pid = await readPid(cluster.dir);
  if (pid !== undefined) await rm(join(cluster.dir, "postmaster.pid"), { force: true });
  return undefined;
}

/** Who runs under the number in the pid file: PostgreSQL, if it was started a moment ago. */
export async function readPostmaster(dir: string): Promise<ProcessIdentity | undefined> {
  const pid = await readPid(dir);
  return pid === undefined ? undefined : identify(pid);
}

async function readPid(dir: string): Promise<number | undefined> {
  try {
    const pid = Number.parseInt(await readFile(join(dir, "postmaster.pid"), "utf8"), 10);
    return pid > 0 ? pid : undefined;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** A postmaster works in its data directory; asked as its own user, who alone may look. */
async function isPostmasterOf(pid: number, { dir, account }: Cluster): Promise<boolean> {
  if (process.platform === "win32") return true;
  if (process.platform === "linux") {
    const { stdout } = await run("readlink", [`/proc/${pid}/cwd`], { account });
    return stdout.trimEnd() === (await realpath(dir));
  }
  const { stdout } = await run("ps", ["-ww", "-o", "command=", "-p", String(pid)], { account });
  return stdout.includes("postgres") && stdout.includes(dir);
}
