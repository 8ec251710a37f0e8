import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type pg from "pg";
import { afterEach, beforeEach, expect, inject, it } from "vitest";
import { loadMigrations } from "../../src/db/migrations.ts";
import { openTestPool } from "../support/database.ts";
import { databaseUrl, withAdmin } from "../support/database-server.ts";
import { within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";
import { untilAsleep } from "./listener.ts";
import { change, changesOf, createJobs, type Sql } from "./watch.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

let name: string;
let url: string;
let pool: pg.Pool;
let db: Sql;

beforeEach(async () => {
  const { serverUrl, template } = inject("database");
  // Empty, and named so that it goes with the others when the run is killed.
  name = `${template}_${randomBytes(4).toString("hex")}`;
  await withAdmin(serverUrl, (admin) => admin.query(`create database ${name}`));
  url = databaseUrl(serverUrl, name);
  pool = openTestPool(url, { max: 2 });
  db = {
    query: async <Row extends pg.QueryResultRow>(sql: string, params?: unknown[]) =>
      (await pool.query<Row>(sql, params)).rows,
  };
});

afterEach(async () => {
  await pool.end();
  const { serverUrl } = inject("database");
  await withAdmin(serverUrl, (admin) => admin.query(`drop database ${name} with (force)`));
});

/** Everybody is told of one change, once. */
async function expectDelivered(urls: readonly string[], token: string): Promise<void> {
  const [job = ""] = await createJobs(db, 1);
  const path = `/v1/jobs/${job}/events`;
  const streams = await Promise.all(urls.map((each) => openStream({ url: each, path, token })));
  await Promise.all(streams.map((stream) => stream.next()));
  await change(db, job);
  await Promise.all(streams.map((stream) => stream.next()));
  for (const stream of streams) {
    expect(changesOf(stream)).toEqual([
      [job, 1],
      [job, 2],
    ]);
    await stream.close();
  }
}

async function expectMigratedOnce(): Promise<void> {
  const rows = await db.query("select name from jobcast.migrations order by id");
  expect(rows.map((row) => row["name"])).toEqual((await loadMigrations()).map((each) => each.name));
}

it("comes up ten times at once on an empty database", async () => {
  const starts = Array.from({ length: 10 }, () => startTestServer({ databaseUrl: url }));
  const started = await Promise.allSettled(starts);
  const servers = started.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
  try {
    expect(started.filter(({ status }) => status === "rejected")).toEqual([]);
    await Promise.all(servers.map((server) => untilAsleep(server)));
    await expectMigratedOnce();
    const [first] = servers as [TestServer];
    await expectDelivered(
      servers.map((server) => server.url),
      first.token(),
    );
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
});

/** A process of its own, and where it listens. */
async function startProcess(): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(process.execPath, [MAIN], {
    cwd: tmpdir(),
    env: {
      ...{ PATH: process.env["PATH"], NODE_ENV: "production", HOST: "127.0.0.1", PORT: "0" },
      ...{ DATABASE_URL: url, JWT_SECRET: TEST_SECRET, DRAIN_SECONDS: "0" },
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const port = (async () => {
    for await (const line of lines) {
      const { msg, port } = JSON.parse(line);
      if (msg === "listening") return port as number;
    }
    throw new Error("the process ended before it listened");
  })();
  return { child, url: `http://127.0.0.1:${await within(port, 40_000, "a process to listen")}` };
}

it("comes up in several processes at once on an empty database", async () => {
  const started = await Promise.all(Array.from({ length: 4 }, () => startProcess()));
  try {
    await expectMigratedOnce();
    const token = signToken({ sub: "alice" });
    await expectDelivered(
      started.map((each) => each.url),
      token,
    );
  } finally {
    const ends = started.map(({ child }) => once(child, "exit"));
    for (const { child } of started) child.kill("SIGTERM");
    expect(await within(Promise.all(ends), 20_000, "the ends")).toEqual(ends.map(() => [0, null]));
  }
}, 90_000);
