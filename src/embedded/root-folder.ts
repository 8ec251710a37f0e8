import { chmod, lstat, mkdir, realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode } from "./command.ts";

/**
 * What root keeps where the user that PostgreSQL runs as can get to. Not /var/lib/jobcast, which is
 * a likely DATA_DIR and, as a StateDirectory of systemd, would be given away with all that is in it.
 */
export const ROOT_FOLDER = "/var/lib/jobcast-postgres";

/**
 * Makes a folder, if it is missing, that everybody may enter and only root may write to.
 *
 * @throws {Error} when what lies there is something else.
 */
export async function openRootFolder(path: string): Promise<void> {
  await mkdir(path, { mode: 0o755 }).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
  });
  await assertRootFolder(path);
  // Not left to the umask, which may be 077.
  await chmod(path, 0o755);
}

/** Whether nobody but root can put anything into a folder, or another one in its place. */
export async function isRootsAlone(path: string): Promise<boolean> {
  let folder = await realpath(path);
  for (;;) {
    const { uid, mode } = await lstat(folder);
    // In a sticky folder, such as /tmp, everybody moves his own.
    const isOpen = (mode & 0o022) !== 0 && (folder === path || (mode & 0o1000) === 0);
    if (uid !== 0 || isOpen) return false;
    if (folder === dirname(folder)) return true;
    folder = dirname(folder);
  }
}

/** Checks that nobody but root can have put anything into a folder, or have put it there. */
export async function assertRootFolder(path: string): Promise<void> {
  const status = await lstat(path);
  if (status.isDirectory() && status.uid === 0 && (status.mode & 0o022) === 0) return;
  throw new Error(`${path} is not a folder that belongs to root and that only root may write to`);
}
