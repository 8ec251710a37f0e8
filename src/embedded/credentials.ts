import { randomBytes } from "node:crypto";
import { chown, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Cluster, setPassword } from "./cluster.ts";
import { systemCode } from "./command.ts";

const passwordFile = (dataDir: string) => join(dataDir, "postgres-password");

/** For a new cluster in the place of one that was removed, whose password it does not know. */
export async function forgetPassword(dataDir: string): Promise<void> {
  await rm(passwordFile(dataDir), { force: true });
}

/** The superuser's password: made at the first start, and anew if somebody deleted its file. */
export async function loadPassword(dataDir: string, cluster: Cluster): Promise<string> {
  const file = passwordFile(dataDir);
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
  const password = randomBytes(24).toString("hex");
  await setPassword(cluster, password);
  await writeSecret(file, `${password}\n`, cluster);
  return password;
}

/** The port of the last run, which a URL in somebody's psql history still has. */
export async function readPort(urlFile: string): Promise<number | undefined> {
  try {
    return Number(new URL((await readFile(urlFile, "utf8")).trim()).port) || undefined;
  } catch {
    // The first start, or a file that somebody edited: any port will do.
    return undefined;
  }
}

/** Never readable by others, not even for a moment, and never half written. */
export async function writeSecret(
  file: string,
  content: string,
  { account }: Cluster,
): Promise<void> {
  await writeFile(`${file}.new`, content, { mode: 0o600 });
  // Root may have come to the directory of a user who comes back.
  if (account) await chown(`${file}.new`, account.uid, account.gid);
  await rename(`${file}.new`, file);
}
