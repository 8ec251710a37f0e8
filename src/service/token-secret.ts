import { randomBytes, randomUUID } from "node:crypto";
import { link, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "./config.ts";
import { fail, StartError } from "./start-error.ts";

/**
 * The secret that was configured, or in development one that is made once and kept, so that tokens
 * outlive a restart.
 * @throws {StartError}
 */
export async function tokenSecret({
  jwt,
  isProduction,
  dataDir,
}: Config): Promise<string | undefined> {
  if (isProduction || jwt.secret !== undefined || jwt.jwksUrl !== undefined) return jwt.secret;
  const file = join(dataDir, "jwt-secret");
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const draft = `${file}.${randomUUID()}`;
    await writeFile(draft, `${randomBytes(48).toString("base64url")}\n`, {
      mode: 0o600,
      flag: "wx",
    });
    // Unlike a rename it does not replace what another process may have made meanwhile, and unlike
    // writing in place it never shows half a secret.
    await link(draft, file)
      .catch(ignoreExisting)
      .finally(() => rm(draft));
    const secret = (await readFile(file, "utf8")).trim();
    if (secret.length >= 32) return secret;
  } catch (error) {
    fail("The secret of development cannot be kept; set DATA_DIR or JWT_SECRET: ", error);
  }
  throw new StartError(`${file} holds no secret of 32 bytes: delete it to have one made.`);
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}
