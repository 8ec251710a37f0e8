import { writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { createJobcast } from "../../src/jobcast.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { TEST_SECRET } from "../support/tokens.ts";
import { createEmbeddedDatabase, type EmbeddedDatabase } from "./embedded-database.ts";
import { readyz, untilAsleep, untilListener } from "./listener.ts";
import { startPgProxy } from "./pg-proxy.ts";
import { change, createJobs, type Sql } from "./watch.ts";

let server: TestServer | undefined;
const undo: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  await server?.stop();
  server = undefined;
  for (const step of undo.splice(0).reverse()) await step();
});

async function newDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  undo.push(() => database.drop());
  return database;
}

async function open(path: string, lastEventId?: string): Promise<StreamClient> {
  const { url, token } = server as TestServer;
  const stream = await openStream({
    url,
    path,
    token: token(),
    deadlineMs: 30_000,
    ...(lastEventId !== undefined && { lastEventId }),
  });
  undo.push(() => stream.close());
  return stream;
}

/** The stream was ended because what it told does not hold any more. */
async function expectDatabaseChanged(stream: StreamClient): Promise<void> {
  const close = await stream.next(({ type }) => type === "close", 20_000);
  expect(JSON.parse(close.data)).toMatchObject({ reason: "database_changed" });
}

describe("two URLs that lead to two databases", () => {
  it("stop the start, and are both named, without their passwords", async () => {
    const [one, other] = [await newDatabase(), await newDatabase()];
    const jobcast = createJobcast({
      databaseUrl: one.url,
      listenDatabaseUrl: other.url,
      jwt: { secret: TEST_SECRET },
    });
    const [first, second] = [one, other].map(({ url }) => new URL(url));
    const started = jobcast.start();
    await expect(started).rejects.toThrow(
      `DATABASE_URL (${first?.host}${first?.pathname}) and LISTEN_DATABASE_URL ` +
        `(${second?.host}${second?.pathname}) lead to different databases`,
    );
    await expect(started).rejects.not.toThrow(String(first?.password));
    await jobcast.stop();
  });
});

describe("an endpoint that moved, while nobody cut what led to where it was", () => {
  let before: EmbeddedDatabase;
  let after: EmbeddedDatabase;
  let proxy: TcpProxy;

  beforeEach(async () => {
    [before, after] = await Promise.all([createEmbeddedDatabase(), createEmbeddedDatabase()]);
    undo.push(
      () => before.remove(),
      () => after.remove(),
    );
    // As a copy has the roles of the original.
    const { password, port } = new URL(before.url);
    await after.query(`alter role jobcast password '${password}'`);
    const copy = new URL(after.url);
    copy.password = password;
    await migrate({ connectionString: copy.href });
    proxy = await startTcpProxy(Number(port));
    undo.push(() => proxy.close());
    const url = new URL(before.url);
    url.port = String(proxy.port);
    server = await startTestServer({ databaseUrl: url.href });
    await untilAsleep(server);
  });

  it("takes everything with it as soon as one connection has moved", async () => {
    const [job = ""] = await createJobs(before, 1);
    const stream = await open(`/v1/jobs/${job}/events`);
    await stream.next();
    proxy.retarget(Number(new URL(after.url).port));
    const cut = (database: Sql) =>
      database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobcast service'",
      );
    await cut(before);
    await expectDatabaseChanged(stream);
    await untilListener(server as TestServer, ({ status }) => status === 200, 20_000);
    const [moved = ""] = await createJobs(after, 1);
    const again = await open(`/v1/jobs/${moved}/events`);
    await again.next();
    await change(after, moved);
    await again.next();
    const listeners = `select from pg_stat_activity
      where application_name in ('jobcast feed', 'jobcast doorbell')`;
    const areGone = async () => (await before.query(listeners)).length === 0;
    await until(areGone, 20_000, "nobody to listen where it was");
  });
});

describe("a pooler whose server was changed under open sessions", () => {
  it("ends the streams of before, and none is silent", async () => {
    const [before, after] = await Promise.all([createEmbeddedDatabase(), createEmbeddedDatabase()]);
    undo.push(
      () => before.remove(),
      () => after.remove(),
    );
    await migrate({ connectionString: after.url });
    const [hba] = await after.query<{ setting: string }>(
      "select setting from pg_settings where name = 'hba_file'",
    );
    await writeFile(hba?.setting ?? "", "host all all 127.0.0.1/32 trust\n");
    await after.query("select pg_reload_conf()");
    const pooler = await startPgProxy(Number(new URL(before.url).port));
    undo.push(() => pooler.close());
    pooler.isSilent = true;
    const url = new URL(before.url);
    url.port = String(pooler.port);
    server = await startTestServer({ databaseUrl: url.href, feed: "poll" });
    const [job = ""] = await createJobs(before, 1);
    const streams = [await open(`/v1/jobs/${job}/events`), await open("/v1/events")];
    for (const stream of streams) await stream.next();
    pooler.retarget(Number(new URL(after.url).port));
    for (const stream of streams) await expectDatabaseChanged(stream);
    await untilListener(server, ({ status }) => status === 200, 20_000);
    const [other = ""] = await createJobs(after, 1);
    const back = await open("/v1/events", streams[1]?.lastEventId);
    expect((await back.next()).type).toBe("reset");
    await back.next(({ data }) => data.includes(other));
    await change(after, other);
    await back.next(({ data }) => data.includes('"version":2'));
  });
});

describe("a schema that is gone", () => {
  it("and was made again by somebody else ends the streams of before", async () => {
    const database = await newDatabase();
    server = await startTestServer({ databaseUrl: database.url });
    const [job = ""] = await createJobs(database, 1);
    const streams = [await open(`/v1/jobs/${job}/events`), await open("/v1/events")];
    for (const stream of streams) await stream.next();
    await database.query("drop schema jobcast cascade");
    await migrate({ connectionString: database.url });
    for (const stream of streams) await expectDatabaseChanged(stream);
    await untilListener(server, ({ status }) => status === 200, 20_000);
    expect((await open(`/v1/jobs/${job}/events`)).status).toBe(404);
    const [other = ""] = await createJobs(database, 1);
    const back = await open("/v1/events", streams[1]?.lastEventId);
    expect((await back.next()).type).toBe("reset");
    expect(JSON.parse((await back.next()).data)).toMatchObject({ jobId: other });
  });

  it("is made again by the service, which says so", async () => {
    const database = await newDatabase();
    server = await startTestServer({ databaseUrl: database.url });
    const [job = ""] = await createJobs(database, 1);
    const stream = await open(`/v1/jobs/${job}/events`);
    await stream.next();
    await database.query("drop schema jobcast cascade");
    await expectDatabaseChanged(stream);
    await untilListener(server, ({ status }) => status === 200, 20_000);
    expect(server.logged.join("")).toContain("the schema is gone");
    const { status } = await server.call("POST", "/v1/jobs", { type: "t" });
    expect(status).toBe(201);
  });
});

describe("a service that is not ready", () => {
  it("says why", async () => {
    const database = await newDatabase();
    const proxy = await startTcpProxy(Number(new URL(database.url).port));
    undo.push(() => proxy.close());
    const url = new URL(database.url);
    url.port = String(proxy.port);
    server = await startTestServer({ databaseUrl: url.href });
    await untilAsleep(server);
    expect(await readyz(server)).not.toHaveProperty("why");
    proxy.refuse();
    proxy.cut();
    const reason = "the feed has no session: ECONNREFUSED";
    const { status } = await untilListener(server, ({ why }) => why?.includes(reason) === true);
    expect(status).toBe(503);
    await proxy.accept();
    await untilAsleep(server, 20_000);
  });
});
