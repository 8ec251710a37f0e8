import { chmod, mkdtemp, readdir, readFile, rename, rm, rmdir, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { accountOf, assertReachable, isRoot, postgresAccount } from "./account.ts";
import { type Account, run, systemCode } from "./command.ts";
import { initialiseCluster } from "./initialise-cluster.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";
import { reachableBinaries } from "./reachable-binaries.ts";

/** A finished cluster of our major version, and whom its processes run as. */
export type Cluster = {
  readonly dir: string;
  readonly account: Account | undefined;
  readonly binaries: PostgresBinaries;
};

const UNFINISHED = "postgres.initialising-";

/**
 * Opens `<home>/postgres`, or initialises it if there is none or an empty directory.
 *
 * initdb works in a directory beside it that is renamed when it is complete. So what a killed
 * initdb leaves never looks like a cluster, and what looks like one is never initialised over.
 *
 * @throws {Error} when what is there is no cluster, or not ours, or of another major version.
 */
export async function openCluster(
  home: string,
  binaries: PostgresBinaries,
  major: string,
  signal?: AbortSignal,
): Promise<Cluster> {
  const dir = join(home, "postgres");
  const names = await readdir(home);
  for (const name of names.filter((each) => each.startsWith(UNFINISHED))) {
    await rm(join(home, name), { recursive: true, force: true, maxRetries: 3 });
  }
  if (await isAbsentOrEmpty(dir)) await createCluster(home, dir, binaries, signal);
  else await checkCluster(dir, major);
  const account = accountOf(await stat(dir));
  await assertReachable(dir, account);
  return { dir, account, binaries: await reachableBinaries(binaries, account) };
}

/** Whether there is no cluster yet, nor anything else that must not be lost. */
export async function isAbsentOrEmpty(dir: string): Promise<boolean> {
  try {
    return (await readdir(dir)).length === 0;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return true;
    // Not ours to read: checkCluster tells whose it is.
    if (systemCode(error) === "EACCES") return false;
    throw error;
  }
}

async function checkCluster(dir: string, major: string): Promise<void> {
  const { uid } = await stat(dir);
  const own = process.getuid?.() ?? uid;
  if (isRoot && uid === 0) {
    throw new Error(
      `${dir} belongs to root, and PostgreSQL must not run as root: give it back to the user ` +
        `that made it ("chown -R postgres ${dir}"), or set DATA_DIR to another directory.`,
    );
  }
  if (!isRoot && uid !== own) {
    throw new Error(
      `${dir} belongs to uid ${uid} and this process runs as uid ${own}: run it as the same ` +
        "user as before, or set DATA_DIR to another directory.",
    );
  }
  const version = await readFile(join(dir, "PG_VERSION"), "utf8").catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (version === undefined) {
    throw new Error(
      `${dir} is not empty and is no PostgreSQL database (it has no PG_VERSION); nothing in it ` +
        "was touched: move it away, or set DATA_DIR to another directory.",
    );
  }
  if (version.trim() !== major) {
    throw new Error(
      `${dir} was made by PostgreSQL ${version.trim()}, which PostgreSQL ${major} cannot read; ` +
        `nothing in it was touched: dump it with PostgreSQL ${version.trim()} and restore it ` +
        "into a new DATA_DIR, or install the jobcast that made it.",
    );
  }
}

async function createCluster(
  home: string,
  dir: string,
  binaries: PostgresBinaries,
  signal: AbortSignal | undefined,
): Promise<void> {
  assertHasName();
  const account = await postgresAccount();
  await assertReachable(home, account);
  const reachable = await reachableBinaries(binaries, account);
  const unfinished = await mkdtemp(join(home, UNFINISHED));
  try {
    await chmod(unfinished, 0o711);
    const staged = join(unfinished, "postgres");
    await initialiseCluster(staged, join(unfinished, "password"), reachable, signal);
    await rmdir(dir).catch((error: unknown) => {
      if (systemCode(error) !== "ENOENT") throw error;
    });
    await rename(staged, dir);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** initdb looks up its user's name and gives up without one, as in `docker run --user 12345`. */
function assertHasName(): void {
  try {
    userInfo();
  } catch (cause) {
    throw new Error(
      `The user that runs this process (uid ${process.getuid?.()}) has no entry in /etc/passwd, ` +
        "without which PostgreSQL cannot be initialised: run it as a user that has one, or set " +
        "DATABASE_URL to a PostgreSQL of your own.",
      { cause },
    );
  }
}

/**
 * Sets the password of the superuser while nobody can connect: in PostgreSQL's single-user mode,
 * which listens to nothing.
 *
 * @param password letters and digits only
 */
export async function setPassword(cluster: Cluster, password: string): Promise<void> {
  const { dir, account, binaries } = cluster;
  const { code, stderr } = await run(binaries.postgres, ["--single", "-D", dir, "postgres"], {
    account,
    input: `alter role postgres password '${password}'\n`,
    timeoutMs: 120_000,
  });
  // A statement that fails does not change the exit code.
  const error = /(?:ERROR|FATAL|PANIC): .*/.exec(stderr)?.[0];
  if (code === 0 && !error) return;
  throw new Error(
    `Cannot set the password of the PostgreSQL in ${dir}: ${error ?? `exit code ${code}`}.`,
  );
}
