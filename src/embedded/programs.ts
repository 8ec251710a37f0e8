import { constants } from "node:fs";
import {
  access,
  chmod,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { assertReachable, findBarrier, isRoot, unreachable } from "./account.ts";
import { type Account, systemCode } from "./command.ts";
import { checkPostgresBinaries, type PostgresBinaries } from "./postgres-binaries.ts";
import { assertRootFolder, isRootsAlone, openRootFolder, ROOT_FOLDER } from "./root-folder.ts";

const PREFIX = "postgres-programs-";
const UNFINISHED = "postgres-programs.copying-";

type Log = { info(o: object, msg: string): void; warn(o: object, msg: string): void };

type Wanted = {
  /** The folder that the cluster lies in. */
  readonly home: string;
  readonly account: Account | undefined;
  readonly log: Log;
};

/**
 * The programs for a cluster of their own major version: those that npm has installed, or the copy
 * of them that is kept beside the cluster, where the account may not enter npm's folder, such as a
 * clone in /root.
 *
 * They are kept for the day on which another major version is installed, which cannot read the
 * cluster. That costs links, or 60 MB where there can be none.
 *
 * @throws {Error} saying which folder the account may not enter, and why there is no copy.
 */
export async function keepPrograms(
  installed: PostgresBinaries,
  { home, account, log }: Wanted,
): Promise<PostgresBinaries> {
  const { postgres } = installed;
  const barrier = await findBarrier(postgres, account);
  try {
    const copy = programsIn(await openCopy(dirname(dirname(postgres)), home, log));
    if (barrier === undefined) return installed;
    await assertReachable(copy.postgres, account);
    return copy;
  } catch (cause) {
    if (barrier !== undefined && account) throw unreachable(postgres, barrier, account, cause);
    log.warn({ err: cause, home }, "the programs of PostgreSQL are not kept beside its data");
    return installed;
  }
}

/**
 * The programs of another major version that a jobcast before has kept. Undefined: there are none.
 *
 * @throws {Error} when they do not run, or when somebody else may have laid them there.
 */
export async function keptPrograms(
  major: string,
  { home, account }: Wanted,
): Promise<PostgresBinaries | undefined> {
  const folder = await folderOfCopies(home);
  const names = await readdir(folder);
  const name = names.find((each) => each.startsWith(`${PREFIX}${major}.`));
  if (name === undefined) return undefined;
  const copy = join(folder, name);
  if (isRoot) await assertRootFolder(copy);
  const kept = programsIn(copy);
  await checkPostgresBinaries(kept);
  await assertReachable(kept.postgres, account);
  return kept;
}

function programsIn(native: string): PostgresBinaries {
  const [initdb, pg_ctl, postgres] = ["initdb", "pg_ctl", "postgres"].map((name) =>
    join(native, "bin", name),
  ) as [string, string, string];
  return { initdb, pg_ctl, postgres };
}

/**
 * Beside the cluster. Root runs none that somebody else could have put in their place: in a data
 * directory that is not root's they are kept elsewhere, once for this machine.
 */
async function folderOfCopies(home: string): Promise<string> {
  if (!isRoot || (await isRootsAlone(home))) return home;
  await openRootFolder(ROOT_FOLDER);
  return ROOT_FOLDER;
}

async function openCopy(native: string, home: string, log: Log): Promise<string> {
  const { name, version } = JSON.parse(
    await readFile(join(dirname(native), "package.json"), "utf8"),
  ) as { name: string; version: string };
  const folder = await folderOfCopies(home);
  const copy = join(folder, `${PREFIX}${version}-${basename(name)}`);
  if (await isWhole(copy, native)) return copy;
  await access(folder, constants.W_OK);
  if (folder === ROOT_FOLDER) log.info({ copy }, "copying the programs of PostgreSQL, 60 MB");
  await makeCopy(copy, native);
  if (folder === home) await removeOthers(copy, version);
  return copy;
}

/** Minor versions before, and what a process that was killed had begun to copy. */
async function removeOthers(copy: string, version: string): Promise<void> {
  const sameMajor = PREFIX + version.slice(0, version.indexOf(".") + 1);
  for (const name of await readdir(dirname(copy))) {
    if (name === basename(copy)) continue;
    if (!name.startsWith(sameMajor) && !name.startsWith(UNFINISHED)) continue;
    await rm(join(dirname(copy), name), { recursive: true, force: true, maxRetries: 3 });
  }
}

/**
 * Processes may do so at the same time: each fills a folder of its own and renames it as the last
 * step, so nobody finds half a copy.
 */
async function makeCopy(copy: string, native: string): Promise<void> {
  const aside = await mkdtemp(join(dirname(copy), UNFINISHED));
  const fresh = join(aside, "fresh");
  try {
    await copyTree(native, fresh);
    for (let round = 0; !(await isRenamed(fresh, copy)); round++) {
      // Another process was faster; or what lies there lacks something and makes way.
      if (await isWhole(copy, native)) return;
      await rename(copy, join(aside, `broken-${round}`)).catch(ifMissing);
    }
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

async function isRenamed(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOTEMPTY" || systemCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** For root owned by root and open to all, whoever owns the clone and whatever the umask is. */
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await copyTree(source, target);
    else if (entry.isSymbolicLink()) await symlink(await readlink(source), target);
    else if (isRoot || !(await isLinked(source, target))) await copyProgram(source, target);
  }
}

/** A link costs nothing, and what npm removes or replaces stays behind it as it was. */
async function isLinked(source: string, target: string): Promise<boolean> {
  try {
    await link(source, target);
    return true;
  } catch {
    return false; // another file system, or one without links
  }
}

async function copyProgram(source: string, target: string): Promise<void> {
  await copyFile(source, target, constants.COPYFILE_FICLONE);
  const { mode } = await lstat(source);
  await chmod(target, (mode & 0o100) === 0 ? 0o644 : 0o755);
}

/** A machine that lost its power, or a cleaner of temporary files, may have left less. */
async function isWhole(copy: string, native: string): Promise<boolean> {
  const [found, wanted] = await Promise.all([listFiles(copy), listFiles(native)]);
  if (found === undefined) return false;
  if (isRoot) await assertRootFolder(copy);
  return found === wanted;
}

/** The names and sizes of all that lies in a folder; undefined if it is missing. */
async function listFiles(folder: string): Promise<string | undefined> {
  try {
    const names = await readdir(folder, { recursive: true });
    const lines = names.map(async (name) => {
      const status = await lstat(join(folder, name));
      return `${name} ${status.isDirectory() ? "" : status.size}`;
    });
    return (await Promise.all(lines)).sort().join("\n");
  } catch (error) {
    return ifMissing(error);
  }
}

function ifMissing(error: unknown): undefined {
  if (systemCode(error) !== "ENOENT") throw error;
}
