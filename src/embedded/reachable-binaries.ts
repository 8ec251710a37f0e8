import { constants } from "node:fs";
import { access, lstat, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { assertReachable, findBarrier, unreachable } from "./account.ts";
import { type Account, run, systemCode } from "./command.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";
import { assertRootFolder, openRootFolder, ROOT_FOLDER } from "./root-folder.ts";

/**
 * The binaries, or copies of them where the account may not enter the folder that npm has put them
 * in, such as a clone in /root.
 *
 * @throws {Error} saying which folder that is, and why there is no copy.
 */
export async function reachableBinaries(
  binaries: PostgresBinaries,
  account: Account | undefined,
): Promise<PostgresBinaries> {
  const { postgres } = binaries;
  const barrier = await findBarrier(postgres, account);
  if (barrier === undefined || !account) return binaries;
  try {
    const bin = join(await openCopy(dirname(dirname(postgres))), "bin");
    await assertReachable(join(bin, "postgres"), account);
    return {
      initdb: join(bin, "initdb"),
      pg_ctl: join(bin, "pg_ctl"),
      postgres: join(bin, "postgres"),
    };
  } catch (cause) {
    throw unreachable(postgres, barrier, account, cause);
  }
}

/** One copy (60 MB) for each version, which every clone on this machine uses. */
async function openCopy(native: string): Promise<string> {
  const { name, version } = JSON.parse(
    await readFile(join(dirname(native), "package.json"), "utf8"),
  ) as { name: string; version: string };
  const copy = join(await openFolder(), `${basename(name)}-${version}`);
  if (!(await isWhole(copy, native))) await makeCopy(copy, native);
  return copy;
}

async function openFolder(): Promise<string> {
  try {
    await openRootFolder(ROOT_FOLDER);
    await access(ROOT_FOLDER, constants.W_OK);
    return ROOT_FOLDER;
  } catch (error) {
    // A folder that somebody else has laid there is a reason to stop, a read-only disk is none.
    if (systemCode(error) === undefined) throw error;
    const temporary = join(tmpdir(), basename(ROOT_FOLDER));
    await openRootFolder(temporary);
    return temporary;
  }
}

/**
 * Processes may do so at the same time: each fills a folder of its own and renames it as the last
 * step, so nobody finds half a copy.
 */
async function makeCopy(copy: string, native: string): Promise<void> {
  const aside = await mkdtemp(`${copy}.`);
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

/** Owned by root and open to all, whoever owns the clone and whatever the umask is. */
async function copyTree(from: string, to: string): Promise<void> {
  for (const [command = "", ...args] of [
    ["cp", "-RP", from, to],
    ["chmod", "-R", "u=rwX,go=rX", to],
  ]) {
    const { code, stderr } = await run(command, args, { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(stderr.trim() || `${command} ended with code ${code}`);
  }
}

/** A machine that lost its power, or a cleaner of temporary files, may have left less. */
async function isWhole(copy: string, native: string): Promise<boolean> {
  const [found, wanted] = await Promise.all([listFiles(copy), listFiles(native)]);
  if (found === undefined) return false;
  await assertRootFolder(copy);
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
