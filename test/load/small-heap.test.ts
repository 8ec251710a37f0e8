import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { endAll, type MainProcess, runMain } from "../main-process.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";

/** Everything that a client, a worker or a provider may do, on one process with a heap of 256 MB. */
const HEAP_MB = 256;

/** The heap, what waits for slow clients, and the process itself. */
const MAX_RSS = (HEAP_MB + 128 + 256) * 1_048_576;

/** How long all of it goes on. */
const ATTACK_MS = 25_000;

const MB = 1_000_000;

let database: TestDatabase;
let main: MainProcess;
let url: string;
const sockets: Socket[] = [];
const streams: StreamClient[] = [];

const token = (sub: string) => signToken({ sub, scope: "jobs:create jobs:write" });

beforeAll(async () => {
  database = await createTestDatabase();
  main = runMain({
    DATABASE_URL: database.url,
    JWT_SECRET: TEST_SECRET,
    NODE_ENV: "production",
    NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}`,
    HEARTBEAT_SECONDS: "2",
    MAX_STREAMS_PER_OWNER: "1000",
    HOST: "127.0.0.1",
  });
  url = await main.url();
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await Promise.all(streams.map((stream) => stream.close()));
  await endAll();
  await database.drop();
});

/** A client that sends bytes and reads nothing. */
function deafClient(bytes: string): Socket {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  sockets.push(socket);
  socket.on("error", () => undefined); // the server may well cut it
  socket.pause();
  socket.write(bytes);
  return socket;
}

function head(path: string, sub: string, more = ""): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token(sub)}\r\n${more}\r\n`;
}

async function call(
  path: string,
  { sub = "ada", method = "GET", body, headers = {} }: Partial<Call> = {},
): Promise<number> {
  const response = await fetch(new URL(path, url), {
    method,
    headers: {
      authorization: `Bearer ${token(sub)}`,
      accept: "application/json",
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  });
  await response.arrayBuffer();
  return response.status;
}
type Call = {
  sub: string;
  method: string;
  body: string | Uint8Array;
  headers: Record<string, string>;
};

async function createJobs(owner: string, count: number, columns = ""): Promise<string[]> {
  const rows = await database.query<{ id: string }>(
    `insert into jobcast.jobs (owner_id, type${columns && ", result, params, status"})
     select $1, 'image' ${columns && `, ${columns}, ${columns}, 'processing'`}
     from generate_series(1, $2) returning id`,
    [owner, count],
  );
  return rows.map(({ id }) => id);
}

const ofSize = (bytes: number) => `to_jsonb(repeat('x', ${bytes}))`;

/** Until the time is up: again and again, each as soon as the one before has its answer. */
async function repeat(times: number, end: AbortSignal, work: () => Promise<unknown>) {
  const once = async () => {
    while (!end.aborted) {
      // Being refused, or cut, is what most of them deserve.
      await work().catch(() => delay(50));
    }
  };
  await Promise.all(Array.from({ length: times }, once));
}

const rss = () =>
  1_024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${main.pid}/status`, "utf8"))?.[1]);

it.runIf(process.platform === "linux")(
  "stays alive while everything is done to it at once, and serves who behaves",
  async () => {
    const heavy = await createJobs("ada", 60, ofSize(MB));
    await createJobs("bob", 1_000, ofSize(20_000));
    const away = await createJobs("cid", 300);
    const many = await createJobs("dan", 6_000);
    const [victim = ""] = await createJobs("eve", 1);
    const [watched = ""] = await createJobs("zoe", 1);

    const well = await openStream({ url, path: `/v1/jobs/${watched}/events`, token: token("zoe") });
    streams.push(well);
    await well.next();
    // Somebody who was here, and comes back when all of his jobs have ended.
    const before = await openStream({ url, path: "/v1/events", token: token("cid") });
    await before.next(({ lastEventId }) => lastEventId !== "");
    await before.close();

    const end = new AbortController();
    const { signal } = end;
    let mostMemory = 0;
    const attacks = [
      repeat(10, signal, () => openAndRead("/v1/events", "ada", signal)),
      repeat(20, signal, () => call("/v1/jobs?limit=100", { sub: "ada" })),
      repeat(20, signal, () => call("/v1/jobs?limit=100", { sub: "bob" })),
      repeat(5, signal, () => call(`/v1/jobs/${heavy[0]}/history?limit=100`)),
      repeat(5, signal, () => openAndRead("/v1/events", "cid", signal, before.lastEventId)),
      // Compressed bombs, unknown keys, deep ones, updates of a thousand times the same.
      repeat(10, signal, () =>
        call("/v1/jobs", {
          method: "POST",
          body: gzipSync(JSON.stringify({ type: "x", params: "y".repeat(1_040_000) })),
          headers: { "content-encoding": "gzip" },
        }),
      ),
      repeat(10, signal, () =>
        call("/v1/jobs", { method: "POST", body: `{${'"a":1,'.repeat(140_000)}"b":1}` }),
      ),
      repeat(10, signal, () =>
        call("/v1/jobs", { method: "POST", body: `{"params":[${"[],".repeat(340_000)}1]}` }),
      ),
      repeat(5, signal, () =>
        call("/v1/jobs", {
          method: "PATCH",
          body: JSON.stringify({
            updates: Array.from({ length: 1_000 }, (_, index) => ({
              id: victim,
              message: `${index} ${"m".repeat(900)}`,
            })),
          }),
        }),
      ),
      repeat(5, signal, () =>
        call(`/v1/callbacks/${victim}`, {
          method: "POST",
          body: JSON.stringify({ progress: `${" ".repeat(40_000)}x` }),
        }),
      ),
      repeat(2, signal, async () => {
        await database.query("update jobcast.jobs set message = $1 where owner_id = 'dan'", [
          `${Math.random()} ${"m".repeat(96_000)}`,
        ]);
      }),
      repeat(1, signal, async () => {
        // Whoever watches ada is sent sixty times a megabyte.
        await database.query(
          "update jobcast.jobs set message = $1::text where owner_id = 'ada' and status = 'processing'",
          [Math.random()],
        );
        await delay(500);
      }),
      repeat(1, signal, async () => {
        mostMemory = Math.max(mostMemory, rss());
        await delay(50);
      }),
    ];
    for (let client = 0; client < 12; client += 1) {
      // Answers, streams and replays that nobody ever reads, and requests behind them.
      deafClient(head(`/v1/jobs/${heavy[client]}`, "ada").repeat(10));
      deafClient(head("/v1/jobs?limit=100", "bob").repeat(10));
      deafClient(head("/v1/events", "ada") + head("/healthz", "ada").repeat(2_000));
      deafClient(head("/v1/events", "dan", `Last-Event-ID: x\r\n`));
      deafClient(head(`/v1/jobs/${heavy[client]}/events`, "ada", "Last-Event-ID: 0\r\n"));
    }
    await database.query(
      `select count(jobcast.complete_job(id, ${ofSize(900_000)})) from jobcast.jobs where id = any ($1)`,
      [away],
    );

    let progress = 0;
    const stop = setTimeout(() => end.abort(), ATTACK_MS);
    while (!signal.aborted) {
      progress += 1;
      await database.query("select jobcast.report_progress($1, $2)", [watched, progress]);
      await well.next(({ data }) => JSON.parse(data).version === progress + 1, 20_000);
      await delay(200);
    }
    clearTimeout(stop);
    await within(Promise.all(attacks), 60_000, "the end of the attacks");

    expect(await call("/readyz")).toBe(200);
    const settled = async () => rss() < MAX_RSS;
    await until(settled, 30_000, () => `less memory than ${rss()}`);
    console.log(`${progress} events, at most ${Math.round(mostMemory / 1e6)} MB`);
    expect(main.stdout()).not.toMatch(/"level":(50|60)/);
    expect(mostMemory).toBeLessThan(MAX_RSS);
    expect(many).toHaveLength(6_000);
  },
  180_000,
);

/** Reads a stream for a moment, and leaves. */
async function openAndRead(path: string, sub: string, end: AbortSignal, lastEventId?: string) {
  const headers = {
    authorization: `Bearer ${token(sub)}`,
    ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
  };
  await new Promise<void>((resolve, reject) => {
    const sent = request(new URL(path, url), { headers, agent: false }, (response) => {
      const timer = setTimeout(() => response.destroy(), 3_000);
      response.on("data", () => end.aborted && response.destroy());
      response.on("error", () => undefined);
      response.on("close", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    sent.on("error", reject);
    sent.end();
  });
}
