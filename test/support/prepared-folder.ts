import { randomUUID } from "node:crypto";
import { access, constants, lstat, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

export type PreparedFolder = {
  /** Where the folder is to be; its parent exists. */
  path: string;
  /** What lies in it when it is complete, as paths relative to it. */
  contents: readonly string[];
  /** Fills an empty folder, given by its path, that will be renamed to `path` as the last step. */
  fill(fresh: string): Promise<void>;
};

/**
 * Makes a folder that is dear to fill, once for this user and this machine.
 *
 * Processes may ask for it at the same time: each fills a folder of its own and renames it as the
 * last step, so whoever finds the folder finds it whole.
 *
 * @throws {Error} when something lies there that other users could have put there or changed.
 */
export async function prepareFolder({ path, contents, fill }: PreparedFolder): Promise<void> {
  if (await isComplete(path, contents)) return;
  const fresh = `${path}.${randomUUID()}`;
  await mkdir(fresh, { mode: 0o700 });
  try {
    await fill(fresh);
    await moveInto(fresh, path, contents);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function isComplete(path: string, contents: readonly string[]): Promise<boolean> {
  const status = await lstat(path).catch(ifMissing);
  if (status === undefined) return false;
  // In a temporary folder, which is everybody's, the name can be guessed: never run what another
  // user has laid there.
  if (!status.isDirectory() || status.uid !== process.getuid?.() || (status.mode & 0o022) !== 0) {
    throw new Error(`${path} is not a folder that only this user can write to: remove it.`);
  }
  // A cleaner of temporary files may have taken some of it.
  const checks = contents.map((name) => access(join(path, name), constants.R_OK));
  return (await Promise.allSettled(checks)).every(({ status }) => status === "fulfilled");
}

async function moveInto(fresh: string, path: string, contents: readonly string[]): Promise<void> {
  try {
    await rename(fresh, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    // Another process was faster; or what lies there lacks something and makes way.
    if (await isComplete(path, contents)) return;
    await rm(path, { recursive: true, force: true });
    await rename(fresh, path);
  }
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
