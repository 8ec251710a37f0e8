import type { Stats } from "node:fs";
import { chmod, lstat, mkdtemp, readlink, realpath, rmdir, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { findBarrier, isRoot, postgresAccount, unreachable } from "./account.ts";
import { isAbsentOrEmpty } from "./cluster.ts";
import { systemCode } from "./command.ts";
import { assertRootFolder, openRootFolder, ROOT_FOLDER } from "./root-folder.ts";

type Log = { info(o: object, msg: string): void };

const CLUSTERS = join(ROOT_FOLDER, "clusters");

/**
 * The folder that the cluster of a data directory lies in, as `postgres`, or will lie in: the data
 * directory, or else a folder of its own, which `<dataDir>/postgres` then is a link to.
 *
 * That is for root, whose PostgreSQL runs as a user who may not enter, say, a clone in /root. Once
 * made, the link counts, wherever the data directory is moved to; without it there are no data: a
 * new data directory in the place of one that was deleted starts with none.
 *
 * @throws {Error} when the link is not ours or leads nowhere, or no such folder can be made.
 */
export async function openClusterHome(dataDir: string, log: Log): Promise<string> {
  const home = await findClusterHome(dataDir);
  if (!isRoot || home !== dataDir) return home;
  const link = join(dataDir, "postgres");
  if (!(await isAbsentOrEmpty(link))) return dataDir;
  const account = await postgresAccount();
  const barrier = await findBarrier(dataDir, account);
  if (barrier === undefined || !account) return dataDir;
  try {
    log.info(
      { dataDir, folder: CLUSTERS },
      "making a folder for the cluster, which root may not run",
    );
    return await makeClusterHome(dataDir, link);
  } catch (cause) {
    throw unreachable(dataDir, barrier, account, cause);
  }
}

/** The same of a data directory as it is, without making anything. */
export async function findClusterHome(dataDir: string): Promise<string> {
  const link = join(dataDir, "postgres");
  const status = await lstat(link).catch(ifMissing);
  return isRoot && status?.isSymbolicLink() ? await followLink(link, status) : dataDir;
}

/**
 * Whoever may write to the data directory could have us run another's cluster, and set its
 * password, by a link: so we follow none but root's own, and to nowhere but where we lay clusters.
 */
async function followLink(link: string, { uid }: Stats): Promise<string> {
  const target = await readlink(link);
  const home = dirname(target);
  if (uid !== 0 || target !== join(CLUSTERS, basename(home), "postgres")) {
    throw new Error(
      `${link} is a link to ${target} that jobcast has not made, and root follows no other: ` +
        "remove it, or set DATA_DIR to the folder that holds the cluster itself.",
    );
  }
  for (const folder of [ROOT_FOLDER, CLUSTERS, home]) {
    await assertRootFolder(folder).catch((cause: unknown) => {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(
        `${link} leads to a cluster that cannot be used: ${why}. Mend that, or remove the link ` +
          "to start without the data.",
        { cause },
      );
    });
  }
  return home;
}

async function makeClusterHome(dataDir: string, link: string): Promise<string> {
  for (const folder of [ROOT_FOLDER, CLUSTERS]) await openRootFolder(folder);
  // For whoever finds it and wonders; no more than file systems allow in a name.
  const name = (await realpath(dataDir)).replaceAll(/[^\w.]+/g, "-").slice(-80);
  const home = await mkdtemp(join(CLUSTERS, `${name.replace(/^[-.]+/, "")}-`));
  await chmod(home, 0o711);
  await rmdir(link).catch(ifMissing);
  await symlink(join(home, "postgres"), link);
  return home;
}

function ifMissing(error: unknown): undefined {
  if (systemCode(error) !== "ENOENT") throw error;
}
