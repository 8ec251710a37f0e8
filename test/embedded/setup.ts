import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";
import { afterAll, afterEach, beforeAll } from "vitest";
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from "../../src/embedded/embedded-postgres.ts";
import { identify } from "../../src/embedded/process-identity.ts";
import { removeDataDir } from "../support/data-dir.ts";
import { within } from "../support/deadline.ts";

const SETTINGS = { fsync: "off", shared_buffers: "16MB" };
export const asRoot = process.getuid?.() === 0;

const dirs: string[] = [];
const running: EmbeddedPostgres[] = [];
/** Processes that `cleanUp` kills after the test. */
export const children: ChildProcess[] = [];
/** What was logged as a warning during the test. */
export const warnings: string[] = [];
/** What was logged for information during the test. */
export const infos: { details: object; msg: string }[] = [];
export const log = {
  info: (details: object, msg: string) => void infos.push({ details, msg }),
  warn: (_: object, msg: string) => void warnings.push(msg),
};

/** A cluster that every test gets a copy of: making one takes a second. */
let template: string;

/** Where tests make folders. Root's PostgreSQL may not be able to get to what TMPDIR says. */
export const TEMPORARY = asRoot ? "/tmp" : tmpdir();

/** A new directory that is removed after the test, with the PostgreSQL that runs in it. */
export function makeDir(): string {
  const dir = mkdtempSync(join(TEMPORARY, "jobcast-embedded-"));
  dirs.push(dir);
  return dir;
}

/** A data directory, inside of `folders`, with a finished cluster and its table `kept (n int)`. */
export function copyOfTemplate(folders = ""): string {
  const dir = makeDir();
  const dataDir = join(dir, folders, "data");
  mkdirSync(dirname(dataDir), { recursive: true });
  // Root's PostgreSQL runs as somebody else, who has to get to it, whatever the umask is.
  for (const way of [dir, dirname(dataDir)]) chmodSync(way, 0o755);
  execFileSync("cp", ["-a", template, dataDir]);
  return dataDir;
}

export async function start(dataDir: string, onExit?: (reason: string) => void) {
  const options = { dataDir, log, settings: SETTINGS, ...(onExit ? { onExit } : {}) };
  const postgres = await startEmbeddedPostgres(options);
  running.push(postgres);
  return postgres;
}

export async function query<T extends object>(url: string, text: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<T>(text)).rows;
  } finally {
    await client.end();
  }
}

export const postmasterPid = (dataDir: string) =>
  Number.parseInt(readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8"), 10);

const REPOSITORY = new URL("../../", import.meta.url);

/**
 * Starts it in a Node process of its own, which prints the URLs and then does `then`.
 *
 * @param clone where `src` lies
 */
export async function startInChild(dataDir: string, then = "", clone = REPOSITORY) {
  const module = new URL("src/embedded/embedded-postgres.ts", clone).href;
  const source = `
    import pg from "${import.meta.resolve("pg")}";
    import { startEmbeddedPostgres } from "${module}";
    const log = { info() {}, warn() {} };
    const settings = ${JSON.stringify(SETTINGS)};
    const postgres = await startEmbeddedPostgres({ dataDir: process.argv[1], log, settings });
    const keepAlive = setInterval(() => {}, 1000);
    ${then}
    console.log(postgres.url, postgres.superuserUrl);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source, dataDir], {
    detached: true,
    env: { ...process.env, JWT_SECRET: "not for PostgreSQL" },
  });
  children.push(child);
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const ended = once(child, "close");
  const line = async () => String((await within(lines.next(), 20_000, () => stderr)).value);
  const [url = "", superuserUrl = ""] = (await line()).split(" ");
  if (!url.startsWith("postgres:")) throw new Error(`the child did not start: ${stderr}`);
  const kill = async (signal: NodeJS.Signals) => {
    process.kill(child.pid ?? 0, signal);
    await within(ended, 10_000, "the child to end");
  };
  return { child, url, superuserUrl, line, kill, ended, stderr: () => stderr };
}

/** Makes the template before the tests of a file, and leaves nothing running after each. */
export function manageClusters(): void {
  beforeAll(async () => {
    template = join(makeDir(), "data");
    chmodSync(join(template, ".."), 0o755);
    const postgres = await startEmbeddedPostgres({ dataDir: template, log, settings: SETTINGS });
    await query(postgres.url, "create table kept (n int)");
    await postgres.stop();
    // Every copy picks a port of its own.
    rmSync(join(template, "database-url"));
    dirs.length = 0;
  });

  afterAll(async () => {
    await removeDataDir(template);
    rmSync(join(template, ".."), { recursive: true, force: true });
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    await Promise.all(running.splice(0).map((postgres) => postgres.stop()));
    for (const dir of dirs.splice(0)) {
      for (const dataDir of [dir, join(dir, "data")]) {
        if (!existsSync(join(dataDir, "postgres/postmaster.pid"))) continue;
        const pid = postmasterPid(dataDir);
        if (identify(pid)) process.kill(pid, "SIGKILL");
      }
      await removeDataDir(join(dir, "data"));
      await removeDataDir(dir);
    }
    warnings.length = 0;
    infos.length = 0;
  });
}
