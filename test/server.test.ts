import { connect, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLog } from "../src/log.ts";
import { loadConfig } from "../src/service/config.ts";
import { type RunningServer, startServer } from "../src/service/server.ts";
import { StartError } from "../src/service/start-error.ts";
import { createTestDatabase, type TestDatabase } from "./support/database.ts";
import { until } from "./support/deadline.ts";
import { signToken, TEST_SECRET } from "./support/tokens.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

function start(env: Record<string, string> = {}): Promise<RunningServer> {
  const config = loadConfig({
    PORT: "0",
    DATABASE_URL: database.url,
    JWT_SECRET: TEST_SECRET,
    ...env,
  });
  return startServer({
    config,
    log: createLog("silent"),
    signal: new AbortController().signal,
    onFatal: (error) => {
      throw error;
    },
  });
}

/** Sessions of ours in the database. */
async function sessions(): Promise<number> {
  const sql = `select count(*) as count from pg_stat_activity
    where datname = $1 and application_name like 'jobcast%' and application_name <> 'jobcast tests'`;
  const [row] = await database.query<{ count: number }>(sql, [database.name]);
  return row?.count ?? Number.NaN;
}

async function isWaiting(): Promise<boolean> {
  const sql = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1";
  return (await database.query(sql, [database.name])).length > 0;
}

describe("a server", () => {
  it("is stopped when stop() resolves, and by one stop however often it is asked", async () => {
    const server = await start();
    const { status, headers } = await fetch(`${server.url}/healthz`);
    expect(status).toBe(200);
    expect(headers.get("strict-transport-security")).toBe("max-age=31536000; includeSubDomains");
    const stops = [server.stop(), server.stop({ drainSeconds: 60 })];
    await Promise.all(stops);
    await server.stop();
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
    await until(async () => (await sessions()) === 0, 5_000, "the end of all sessions");
  });

  it("does not wait for a client that keeps its connection, or one that never ends its request", async () => {
    const server = await start();
    const { port } = new URL(server.url);
    const idle = connect(Number(port), "127.0.0.1");
    const slow = connect(Number(port), "127.0.0.1");
    await Promise.all(
      [idle, slow].map((socket) => new Promise((open) => socket.once("connect", open))),
    );
    for (const socket of [idle, slow]) socket.on("error", () => undefined);
    const head = `POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${signToken({ sub: "ann", scope: "jobs:create" })}\r\n`;
    slow.write(`${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`);
    const at = performance.now();
    await server.stop();
    expect(performance.now() - at).toBeLessThan(10_000);
    for (const socket of [idle, slow]) socket.destroy();
  });

  it("closes the connection of a request that ends while it stops", async () => {
    const sql = "select id from jobcast.create_job('ann', 'export')";
    const [job] = await database.query<{ id: string }>(sql);
    const writer = await database.connect();
    await writer.query("begin");
    await writer.query("select from jobcast.jobs where id = $1 for update", [job?.id]);
    const server = await start();
    const cancelling = fetch(`${server.url}/v1/jobs/${job?.id}/cancel`, {
      method: "POST",
      headers: { authorization: `Bearer ${signToken({ sub: "ann" })}` },
    });
    await until(() => isWaiting(), 10_000, "the request to wait for the lock");
    const at = performance.now();
    const stopping = server.stop();
    await writer.query("commit");
    expect((await cancelling).status).toBe(200);
    await stopping;
    // After five seconds everything would be cut.
    expect(performance.now() - at).toBeLessThan(4_000);
  });

  it("tells how it is reached from this machine, wherever it listens", async () => {
    const addresses: [string, RegExp][] = [
      ["0.0.0.0", /^http:\/\/127\.0\.0\.1:\d+$/],
      ["localhost", /^http:\/\/localhost:\d+$/],
    ];
    for (const [host, url] of addresses) {
      const server = await start({ HOST: host });
      expect(server.url).toMatch(url);
      expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
      await server.stop();
    }
  });

  it("keeps an idle connection for longer than a load balancer does", async () => {
    const server = await start();
    const response = await fetch(`${server.url}/healthz`);
    expect(response.headers.get("keep-alive")).toBe("timeout=75");
    await server.stop();
  });
});

describe("a server that cannot start", () => {
  it("leaves nothing behind", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      taken.listen(0, "127.0.0.1", resolve);
    });
    const { port } = taken.address() as { port: number };
    await expect(start({ PORT: String(port) })).rejects.toThrow(StartError);
    await until(async () => (await sessions()) === 0, 5_000, "the end of all sessions");
    taken.close();
  });

  it("says what is wrong with its address", async () => {
    await expect(start({ HOST: "192.0.2.1" })).rejects.toThrow(
      "This machine has no address 192.0.2.1",
    );
  });

  it("says what is wrong with its database", async () => {
    const url = new URL(database.url);
    url.pathname = "/no_such_database";
    await expect(start({ DATABASE_URL: url.href })).rejects.toThrow(
      'The database cannot be used: database "no_such_database" does not exist',
    );
  });
});
