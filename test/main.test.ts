import { execFile } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import jwt from "jsonwebtoken";
import pg from "pg";
import { afterEach, describe, expect, it, vi } from "vitest";
import { endAll, type MainProcess, makeFolder, runMain } from "./main-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/database.ts";
import { until, within } from "./support/deadline.ts";
import { openStream } from "./support/stream-client.ts";
import { startTcpProxy } from "./support/tcp-proxy.ts";
import { signToken, TEST_SECRET } from "./support/tokens.ts";

const run = promisify(execFile);

const PRODUCTION = {
  NODE_ENV: "production",
  HOST: "127.0.0.1",
  JWT_SECRET: TEST_SECRET,
  DRAIN_SECONDS: "0",
};

// Several of these make a database from nothing, on a machine that may be busy with other tests.
vi.setConfig({ testTimeout: 120_000 });

const databases: TestDatabase[] = [];

afterEach(async () => {
  await endAll();
  for (const database of databases.splice(0)) await database.drop();
});

/** Starts one in production mode, on a database of the test's own. */
async function runInProduction(env: Record<string, string> = {}) {
  const database = await createTestDatabase();
  databases.push(database);
  const main = runMain({ ...PRODUCTION, DATABASE_URL: database.url, ...env });
  return { main, database, url: await main.url() };
}

async function statusOf(url: string, token = signToken({ sub: "ann" })): Promise<number> {
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${token}`, accept: "application/json" },
  });
  await response.arrayBuffer();
  return response.status;
}

function ending(main: MainProcess) {
  return within(main.ended, 20_000, () => `the end of the process\n${main.stderr()}`);
}

describe("the command", () => {
  const command = (...args: string[]) =>
    run(process.execPath, ["src/main.ts", ...args]).then(
      ({ stdout }) => ({ stdout, stderr: "", code: 0 }),
      (error: { stdout: string; stderr: string; code: number }) => error,
    );

  it("says what it is, and which one, without starting anything", async () => {
    expect((await command("--help")).stdout).toMatch(/^jobcast: .*\n\nUsage: jobcast /);
    const { version } = JSON.parse(readFileSync("package.json", "utf8"));
    expect((await command("--version")).stdout).toBe(`${version}\n`);
  });

  it.each([
    ["--prot=80", "Unknown option '--prot'. See jobcast --help.\n"],
    ["migarte", "Unknown command 'migarte'. See jobcast --help.\n"],
  ])("does not take for a start what it does not know: %s", async (word, message) => {
    const { code, stderr } = await command(word);
    expect([code, stderr]).toEqual([1, message]);
  });

  it("migrates, needs no more than the database for it, and leaves the start to others", async () => {
    const database = await createTestDatabase();
    databases.push(database);
    await database.query("drop schema jobcast cascade");
    const env = { DATABASE_URL: database.url, NODE_ENV: "production", MIGRATE: "off" };

    const early = runMain({ ...PRODUCTION, ...env });
    expect(await ending(early)).toBe(1);
    expect(JSON.parse(early.stderr()).msg).toMatch(
      /has not had migration 000000_\S+ and MIGRATE is off: run "jobcast migrate" first/,
    );

    const first = runMain(env, undefined, { args: ["migrate"] });
    expect(await ending(first)).toBe(0);
    expect(first.stdout()).toMatch(/^000000_schema\.sql\n([\w.]+\n)+0000\d\d_\w+\.sql\n$/);
    const second = runMain(env, undefined, { args: ["migrate"] });
    expect(await ending(second)).toBe(0);
    expect(second.stdout()).toBe("There is nothing to migrate.\n");

    await runMain({ ...PRODUCTION, ...env }).url();
  });

  it("says what a migration lacks", async () => {
    const main = runMain({}, undefined, { args: ["migrate"] });
    expect(await ending(main)).toBe(1);
    expect(main.stderr()).toContain("  DATABASE_URL: expected ");
  });
});

describe("a start that cannot succeed", () => {
  it("names every setting that is wrong at once, without a stack", async () => {
    const main = runMain({
      NODE_ENV: "test",
      PORT: "http",
      FEED: "push",
      DATABASE_URL: "mysql://u:hunter2@db/x",
      JWT_SECRET: "hunter2",
    });
    expect(await ending(main)).toBe(1);
    const lines = main.stderr().trimEnd().split("\n");
    expect(lines.slice(1).map((line) => /^ {2}([A-Z_]+): expected /.exec(line)?.[1])).toEqual([
      "PORT",
      "DATABASE_URL",
      "FEED",
      "JWT_SECRET",
    ]);
    expect(main.stderr()).not.toContain("hunter2");
    expect(main.stdout()).toBe("");
  });

  it("is a line of the log in production", async () => {
    const main = runMain({ NODE_ENV: "production", PORT: "http", JWT_SECRET: "hunter2" });
    expect(await ending(main)).toBe(1);
    const { level, msg, problems } = JSON.parse(main.stderr());
    expect([level, msg]).toEqual([60, expect.stringContaining("cannot start with these settings")]);
    expect(problems.map(({ key }: { key: string }) => key)).toEqual(["PORT", "JWT_SECRET"]);
    expect(main.stderr()).not.toContain("hunter2");
  });

  it("says in one line that the port is taken", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      taken.listen(0, "127.0.0.1", resolve);
    });
    const { port } = taken.address() as { port: number };
    const database = await createTestDatabase();
    databases.push(database);
    const main = runMain({ ...PRODUCTION, DATABASE_URL: database.url, PORT: String(port) });
    expect(await ending(main)).toBe(1);
    expect(JSON.parse(main.stderr()).msg).toBe(
      `Port ${port} of 127.0.0.1 is taken: set PORT to another one, or to 0.`,
    );
    taken.close();
  });

  it("says in one line that the database cannot be reached", async () => {
    for (const host of ["127.0.0.1", "localhost"]) {
      const main = runMain({ ...PRODUCTION, DATABASE_URL: `postgres://u:hunter2@${host}:1/x` });
      expect(await ending(main)).toBe(1);
      const { msg } = JSON.parse(main.stderr());
      expect(msg).toMatch(/^The database cannot be used: .*ECONNREFUSED.*\. Does it run there\?/);
      expect(main.stderr()).not.toContain("hunter2");
    }
  });
});

describe("a start that comes before its database", () => {
  it("waits for it, if it was told to, and says so", async () => {
    const database = await createTestDatabase();
    databases.push(database);
    const url = new URL(database.url);
    const proxy = await startTcpProxy(Number(url.port));
    proxy.refuse();
    url.port = String(proxy.port);
    const main = runMain({ ...PRODUCTION, DATABASE_URL: url.href, DATABASE_WAIT_SECONDS: "60" });
    await main.says(/"trouble":"ECONNREFUSED".*"msg":"waiting for the database"/);
    await proxy.accept();
    expect(await statusOf(`${await main.url()}/v1/jobs`)).toBe(200);
    main.kill("SIGTERM");
    await ending(main);
    await proxy.close();
  });
});

describe("a start whose database does not answer", () => {
  /** Something that takes connections and says nothing, however long one waits. */
  async function listenInSilence() {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return {
      url: `postgres://jobcast:secret@127.0.0.1:${port}/jobs`,
      sockets,
      close() {
        for (const socket of sockets) socket.destroy();
        server.close();
      },
    };
  }

  it("ends by itself, in one line", async () => {
    const silence = await listenInSilence();
    const main = runMain({ ...PRODUCTION, DATABASE_URL: silence.url });
    expect(await ending(main)).toBe(1);
    expect(JSON.parse(main.stderr()).msg).toMatch(/^The database cannot be used: .*timeout/);
    silence.close();
  });

  it("ends at once when it is told to", async () => {
    const silence = await listenInSilence();
    const main = runMain({ ...PRODUCTION, DATABASE_URL: silence.url });
    await until(() => silence.sockets.size > 0, 20_000, "the first connection");
    main.kill("SIGTERM");
    expect(await ending(main)).toBe(0);
    silence.close();
  });

  it("ends at once when it is told to while somebody is in the way of the migration", async () => {
    const database = await createTestDatabase();
    databases.push(database);
    await database.query("delete from jobcast.migrations where id = 13");
    const stranger = await database.connect();
    await stranger.query("begin; lock table jobcast.migrations in share mode");
    const main = runMain({ ...PRODUCTION, DATABASE_URL: database.url });
    await main.says(/somebody is in the way of the migration/);
    main.kill("SIGTERM");
    expect(await ending(main)).toBe(0);
  });
});

describe("a start in development", () => {
  it("prints a token and lines that work when they are pasted, and ends well", async () => {
    const folder = makeFolder();
    const main = runMain({}, folder);
    await main.says(/-X PATCH/);

    const lines = main.stdout().split("\n");
    const pasted = lines.slice(lines.findIndex((line) => line.startsWith("  TOKEN=")));
    const { stdout } = await run("/bin/sh", ["-c", `${pasted.join("\n")}\nwait`]);
    expect(stdout).toMatch(/event: status\nid: 1-\w+\ndata: {.*"status":"pending"/);
    expect(stdout).toMatch(/event: status\nid: 2-\w+\ndata: {.*"status":"completed"/);

    const token = /TOKEN='(.*)'/.exec(main.stdout())?.[1] ?? "";
    const { sub, exp = 0 } = jwt.decode(token) as jwt.JwtPayload;
    expect(sub).toBe("dev");
    expect(exp * 1000 - Date.now()).toBeGreaterThan(23.9 * 3_600_000);
    expect(statSync(join(folder, ".jobcast/jwt-secret")).mode & 0o777).toBe(0o600);

    const database = new pg.Client(/psql '(.*)'/.exec(main.stdout())?.[1] ?? "");
    await database.connect();
    const { rows } = await database.query("select status from jobcast.jobs");
    expect(rows).toEqual([{ status: "completed" }]);
    await database.end();

    main.kill("SIGTERM");
    expect(await ending(main)).toBe(0);
    await expect(database.connect()).rejects.toThrow();

    const again = runMain({}, folder);
    expect(await statusOf(`${await again.url()}/v1/jobs`, token)).toBe(200);
    again.kill("SIGINT");
    expect(await ending(again)).toBe(0);
  });

  it("ends the process when its PostgreSQL dies", async () => {
    const folder = makeFolder();
    const main = runMain({}, folder);
    await main.url();
    const file = join(folder, ".jobcast/postgres/postmaster.pid");
    process.kill(Number(readFileSync(file, "utf8").split("\n")[0]), "SIGQUIT");
    expect(await ending(main)).toBe(1);
    expect(main.stderr()).toContain("jobcast cannot go on");
  });

  it("that is told to end in its middle comes to its end first, and leaves nothing behind", async () => {
    const folder = makeFolder();
    const main = runMain({}, folder);
    await main.says(/embedded PostgreSQL is ready/);
    expect(existsSync(join(folder, ".jobcast/postgres/postmaster.pid"))).toBe(true);
    main.kill("SIGTERM");
    expect(await ending(main)).toBe(0);
    expect(main.stderr()).toContain('"msg":"stopped"');
    expect(existsSync(join(folder, ".jobcast/postgres/postmaster.pid"))).toBe(false);
  });

  it("reads .env, and the environment before it", async () => {
    const folder = makeFolder();
    writeFileSync(join(folder, ".env"), "FEED=push\nLOG_LEVEL=loud\n");
    const main = runMain({ LOG_LEVEL: "info" }, folder);
    expect(await ending(main)).toBe(1);
    expect(main.stderr()).toContain("FEED: expected");
    expect(main.stderr()).not.toContain("LOG_LEVEL");
  });

  it("takes no secret that somebody spoiled", async () => {
    const { database } = await runInProduction();
    const folder = makeFolder();
    writeFileSync(join(folder, "jwt-secret"), "short\n");
    const main = runMain({ DATABASE_URL: database.url, DATA_DIR: folder });
    expect(await ending(main)).toBe(1);
    expect(main.stderr()).toMatch(/^\S*jwt-secret holds no secret .*\n$/);
  });
});

describe("a process in production", () => {
  it("prints nothing but its log, and no token in it", async () => {
    const { main, url } = await runInProduction({ LOG_LEVEL: "trace" });
    const token = signToken({ sub: "ann" });
    expect(await statusOf(`${url}/v1/events?access_token=${token}`, "garbage")).toBe(401);
    expect(await statusOf(`${url}/v1/jobs/x/events?access_token=${token}`, token)).toBe(404);
    main.kill("SIGTERM");
    expect(await ending(main)).toBe(0);
    const lines = main.stdout().trimEnd().split("\n");
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty("msg");
    expect(main.stdout()).toContain("access_token=[redacted]");
    expect(main.stdout() + main.stderr()).not.toContain(token);
    expect(main.stderr()).toBe("");
  });

  it("says goodbye to streams at SIGTERM, and answers requests until the drain is over", async () => {
    const { main, url } = await runInProduction({ DRAIN_SECONDS: "5" });
    const token = signToken({ sub: "ann" });
    const stream = await openStream({ url, path: "/v1/events", token });
    await stream.next();
    const isReady = async () => (await statusOf(`${url}/readyz`)) === 200;
    await until(isReady, 10_000, "readiness");

    const at = performance.now();
    main.kill("SIGTERM");
    const close = await stream.next((event) => event.type === "close");
    expect(JSON.parse(close.data)).toMatchObject({ reason: "draining" });
    await within(stream.ended, 5_000, "the end of the stream");
    expect(stream.ending).toBe("complete");
    expect(await statusOf(`${url}/readyz`)).toBe(503);
    expect(await statusOf(`${url}/healthz`)).toBe(200);
    expect(await statusOf(`${url}/v1/jobs`)).toBe(200);
    expect(await statusOf(`${url}/v1/events`)).toBe(503);

    expect(await ending(main)).toBe(0);
    expect(performance.now() - at).toBeGreaterThan(4_900);
  });

  it("finishes the request that is under way", async () => {
    const { main, url, database } = await runInProduction();
    const sql = "select id from jobcast.create_job('ann', 'export')";
    const [{ id }] = (await database.query<{ id: string }>(sql)) as [{ id: string }];
    const writer = await database.connect();
    await writer.query("begin");
    await writer.query("select from jobcast.jobs where id = $1 for update", [id]);
    const headers = { authorization: `Bearer ${signToken({ sub: "ann" })}` };
    const cancelling = fetch(`${url}/v1/jobs/${id}/cancel`, { method: "POST", headers });
    await until(
      async () => {
        const sql = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1";
        return (await database.query(sql, [database.name])).length > 0;
      },
      10_000,
      "the request to wait for the lock",
    );
    main.kill("SIGTERM");
    await main.says(/"msg":"draining"/);
    await writer.query("commit");
    expect((await cancelling).status).toBe(200);
    expect(await ending(main)).toBe(0);
  });

  it("ends at once at the second signal, but takes two of one moment for one", async () => {
    const { main, url } = await runInProduction({ DRAIN_SECONDS: "60" });
    main.kill("SIGINT");
    main.kill("SIGTERM"); // as npm passes on what the terminal has sent already
    await main.says(/"msg":"draining"/);
    expect(await statusOf(`${url}/healthz`)).toBe(200);
    await until(
      () => {
        main.kill("SIGTERM");
        return within(main.ended, 50, "its end").catch(() => undefined);
      },
      5_000,
      "the end",
    );
    expect(await main.ended).toBe(1);
  });
});
