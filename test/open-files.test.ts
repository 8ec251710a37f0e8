import { afterEach, describe, expect, it, vi } from "vitest";
import { shareOpenFiles } from "../src/open-files.ts";
import { endAll, makeFolder, runMain } from "./main-process.ts";
import { createTestDatabase } from "./support/database.ts";
import { until } from "./support/deadline.ts";
import { openStream, type StreamClient } from "./support/stream-client.ts";
import { startTcpProxy } from "./support/tcp-proxy.ts";
import { signToken, TEST_SECRET } from "./support/tokens.ts";

vi.setConfig({ testTimeout: 120_000 });

const undo: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await endAll();
});

describe("the files that a process may open", () => {
  it("are shared out between clients and the database", () => {
    expect(shareOpenFiles(12, 256)).toEqual({ limit: 256, connections: 198, streams: 166 });
    expect(shareOpenFiles(12, 20).streams).toBe(1);
    expect(shareOpenFiles(12).limit).toBeGreaterThan(100);
  });

  it("are enough for the database to come back, however many clients hold on", async () => {
    const database = await createTestDatabase();
    undo.push(() => database.drop());
    const proxy = await startTcpProxy(Number(new URL(database.url).port));
    undo.push(() => proxy.close());
    const databaseUrl = new URL(database.url);
    databaseUrl.port = String(proxy.port);
    const main = runMain(
      {
        NODE_ENV: "production",
        HOST: "127.0.0.1",
        JWT_SECRET: TEST_SECRET,
        DRAIN_SECONDS: "0",
        DATABASE_URL: databaseUrl.href,
        MAX_STREAMS_PER_OWNER: "1000",
      },
      makeFolder(),
      { openFiles: 200 },
    );
    const url = await main.url();
    await main.says(/"maxStreams":110,.*ulimit -n/);
    const token = signToken({ sub: "ann" });
    const streams: StreamClient[] = [];
    undo.push(() => Promise.all(streams.map((stream) => stream.close())));
    for (let count = 0; count < 150; count += 1) {
      const stream = await openStream({ url, path: "/v1/events", token, deadlineMs: 60_000 });
      if (stream.status === 200) await stream.next();
      streams.push(stream);
    }
    const statuses = streams.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(110);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));

    const statusOf = async () => {
      const answer = await fetch(`${url}/readyz`, { headers: { connection: "close" } });
      await answer.arrayBuffer();
      return answer.status;
    };
    proxy.refuse();
    proxy.cut();
    await until(async () => (await statusOf()) === 503, 20_000, "it to notice");
    await proxy.accept();
    await until(async () => (await statusOf()) === 200, 30_000, "it to be ready again");
    expect(streams.filter(({ ending }) => ending === undefined)).toHaveLength(110);
    await database.query("insert into jobcast.jobs (owner_id, type) values ('ann', 't')");
    for (const stream of streams.slice(0, 110)) {
      await stream.next(({ type }) => type === "status");
    }
  });
});
