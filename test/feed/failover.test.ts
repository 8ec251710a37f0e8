import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, cp, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, expect, it, vi } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { freePort } from "../proxies/proxy.ts";
import { testConnection } from "../support/connection.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { createEmbeddedDatabase, type EmbeddedDatabase } from "./embedded-database.ts";
import { untilAsleep, untilListener } from "./listener.ts";
import { change, createJobs } from "./watch.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const undo: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function setting(database: EmbeddedDatabase, name: string): Promise<string> {
  const [row] = await database.query<{ setting: string }>(
    "select setting from pg_settings where name = $1",
    [name],
  );
  return row?.setting ?? "";
}

/** A standby that streams from the primary; it has been shut down, copied, and started again. */
async function startStandby(primary: EmbeddedDatabase): Promise<{ url: string }> {
  const from = await setting(primary, "data_directory");
  const hba = await setting(primary, "hba_file");
  const connections = await setting(primary, "max_connections");
  const [row] = await primary.query<{ setting: string }>(
    "select setting from pg_config where name = 'BINDIR'",
  );
  await appendFile(hba, "\nhost replication all 127.0.0.1/32 scram-sha-256\n");
  await primary.stop();
  const home = await mkdtemp(join(tmpdir(), "jobcast-standby-"));
  undo.push(() => rm(home, { recursive: true, force: true }));
  const to = join(home, "data");
  const { uid, gid } = await stat(from);
  await cp(from, to, { recursive: true, preserveTimestamps: true });
  await chownAll(home, uid, gid);
  await primary.start();
  const admin = new URL(primary.adminUrl);
  await writeFile(join(to, "standby.signal"), "");
  const conninfo = `host=127.0.0.1 port=${admin.port} user=${admin.username} password=${admin.password}`;
  await appendFile(join(to, "postgresql.auto.conf"), `\nprimary_conninfo = '${conninfo}'\n`);
  const port = await freePort();
  const child = spawn(
    join(row?.setting ?? "", "postgres"),
    [
      ["-D", to, "-p", String(port)],
      ...["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"].map((one) => [
        "-c",
        one,
      ]),
      ["-c", `max_connections=${connections}`],
    ].flat(),
    { stdio: "ignore", cwd: to, ...(process.getuid?.() === 0 && { uid, gid }) },
  );
  undo.push(() => end(child));
  admin.port = String(port);
  return { url: admin.href };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGQUIT");
  await closed;
}

async function chownAll(home: string, uid: number, gid: number): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const chown = spawn("chown", ["-R", `${uid}:${gid}`, home]);
  await once(chown, "close");
}

/** One statement on a server that may not answer yet. */
async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(testConnection(url));
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query(sql)).rows;
  } catch {
    return [];
  } finally {
    await client.end().catch(() => undefined);
  }
}

it("resets who saw what a failover lost, and goes on with what is there", async () => {
  const primary = await createEmbeddedDatabase();
  undo.push(() => primary.remove());
  const standby = await startStandby(primary);
  const proxy = await startTcpProxy(Number(new URL(primary.url).port));
  undo.push(() => proxy.close());
  const databaseUrl = new URL(primary.url);
  databaseUrl.port = String(proxy.port);
  const server: TestServer = await startTestServer({ databaseUrl: databaseUrl.href });
  undo.push(() => server.stop());
  const open = (path: string, lastEventId = ""): Promise<StreamClient> =>
    openStream({
      url: server.url,
      path,
      token: server.token(),
      deadlineMs: 30_000,
      ...(lastEventId !== "" && { lastEventId }),
    });

  const [job = ""] = await createJobs(primary, 1);
  await change(primary, job);
  const hasCaughtUp = async () =>
    (await ask(standby.url, `select from jobcast.jobs where id = '${job}' and version = 2`))
      .length > 0;
  await until(hasCaughtUp, 30_000, "the standby");
  const start = migrate({ connectionString: standby.url });
  await expect(start).rejects.toThrow(/is a standby.*must lead to the primary/);
  // From here on it is behind.
  await ask(standby.url, "alter system set primary_conninfo = ''");
  await ask(standby.url, "select pg_reload_conf()");
  const isAlone = async () => (await primary.query("select from pg_stat_replication")).length === 0;
  await until(isAlone, 30_000, "the standby to be behind");

  await untilAsleep(server);
  const [one, all] = await Promise.all([open(`/v1/jobs/${job}/events`, "2"), open("/v1/events")]);
  for (let count = 0; count < 20; count += 1) await change(primary, job);
  await one.next(({ lastEventId }) => lastEventId.startsWith("22-"));
  await all.next(({ data }) => data.includes('"version":22'));

  await primary.crash();
  await ask(standby.url, "select pg_promote()");
  proxy.retarget(Number(new URL(standby.url).port));
  proxy.cut();
  for (const stream of [one, all]) {
    const { data } = await stream.next(({ type }) => type === "close", 60_000);
    expect(JSON.parse(data)).toMatchObject({ reason: "database_changed" });
  }
  await untilListener(server, ({ status }) => status === 200, 30_000);

  const back = await open(`/v1/jobs/${job}/events`, one.lastEventId);
  const state = await back.next();
  expect([state.type, JSON.parse(state.data).version]).toEqual(["reset", 2]);
  const many = await open("/v1/events", all.lastEventId);
  expect((await many.next()).type).toBe("reset");
  await many.next(({ type }) => type === "status");
  await ask(standby.url, `update jobcast.jobs set message = 'on' where id = '${job}'`);
  for (const stream of [back, many]) {
    const { data } = await stream.next(({ type }) => type === "status");
    expect(JSON.parse(data)).toMatchObject({ version: 3, message: "on" });
  }
  // A client that comes later with an id of the lost versions is told too: 3 is another row now.
  const third = one.events.find(({ lastEventId }) => lastEventId.startsWith("3-"));
  const late = await open(`/v1/jobs/${job}/events`, third?.lastEventId);
  expect((await late.next()).type).toBe("reset");
  await Promise.all([one, all, back, many, late].map((stream) => stream.close()));
});
