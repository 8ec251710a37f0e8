import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "../proxies/proxy.ts";
import { until, within } from "../support/deadline.ts";

/** Where Debian has it. */
const PROGRAM = "/usr/sbin/pgbouncer";

/** It refuses to run as root; who is not root starts it as himself. */
const ACCOUNT = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

const START_MS = 10_000;

export const isInstalled = spawnSync("test", ["-x", PROGRAM]).status === 0;

/** What its tests are about, and where they are skipped, why. */
export const THROUGH_PGBOUNCER = `through PgBouncer${isInstalled ? "" : ", which is not installed"}`;

export type PoolMode = "transaction" | "session";

export type PgBouncer = {
  /** The database through it, for the same role. */
  readonly url: string;
  /** At once, as a crash ends it, or as its operator does: then it has last words for its clients. */
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<void>;
  start(): Promise<void>;
  /** A command of its console, which is a database of its own. */
  command(text: string): Promise<readonly Record<string, unknown>[]>;
  stop(): Promise<void>;
};

/** Runs PgBouncer on a free port before the database of this URL, as the documentation installs it. */
export async function startPgBouncer(
  databaseUrl: string,
  mode: PoolMode,
  settings: Readonly<Record<string, string | number>> = {},
): Promise<PgBouncer> {
  const target = new URL(databaseUrl);
  const { username, password } = target;
  const folder = await mkdtemp(join(tmpdir(), "jobcast-pgbouncer-"));
  await chmod(folder, 0o755); // for the account that it runs as
  const port = await freePort();
  const users = join(folder, "users.txt");
  await writeFile(users, `"${username}" "${decodeURIComponent(password)}"\n`);
  const all = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "scram-sha-256",
    auth_file: users,
    admin_users: username,
    pool_mode: mode,
    ...settings,
  };
  const file = join(folder, "pgbouncer.ini");
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  const database = `* = host=${target.hostname} port=${target.port}`;
  await writeFile(file, ["[databases]", database, "[pgbouncer]", ...lines, ""].join("\n"));

  const through = new URL(databaseUrl);
  through.hostname = "127.0.0.1";
  through.port = String(port);
  const url = through.href;
  through.pathname = "/pgbouncer";
  const consoleUrl = through.href;

  let child: ChildProcess | undefined;
  let ended: Promise<unknown> = Promise.resolve();
  let log = "";

  async function command(text: string) {
    const client = new pg.Client({ connectionString: consoleUrl, connectionTimeoutMillis: 2_000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }

  async function start(): Promise<void> {
    const fresh = spawn(PROGRAM, [file], { ...ACCOUNT, stdio: ["ignore", "ignore", "pipe"] });
    fresh.stderr.on("data", (chunk: Buffer) => {
      log += chunk;
    });
    child = fresh;
    ended = once(fresh, "close");
    const isUp = () =>
      command("show version").then(
        () => true,
        () => false,
      );
    await until(isUp, START_MS, () => `PgBouncer to answer: ${log}`);
  }

  async function kill(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    child?.kill(signal);
    await within(ended, START_MS, () => `the end of PgBouncer: ${log}`);
    child = undefined;
  }

  await start();
  return {
    url,
    kill,
    start,
    command,
    async stop() {
      if (child) await kill("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    },
  };
}
