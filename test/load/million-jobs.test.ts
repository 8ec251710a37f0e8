import { Kysely, PostgresDialect } from "kysely";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type JobFilter, type JobPage, listJobs } from "../../src/db/job-list.ts";
import type { DB } from "../../src/db/tables.ts";
import { createTestDatabase, openTestPool, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

const JOBS = 1_000_000;
const FIRST_PAGE_MS = 20;
const ROUNDS = 3;
const REQUESTS = 100;

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await createTestDatabase();
  const client = await database.connect();
  // As a restore fills it: without the triggers, which would take minutes. Owner 0 has a tenth of all.
  await client.query({
    text: `
      set session_replication_role = replica;
      insert into jobcast.jobs (id, owner_id, type, status, progress, created_at, finished_at)
      select jobcast.uuid_v7(),
        'owner-' || case when n % 10 = 0 then 0 else n % 997 end,
        (array['image', 'video', 'mesh', 'export'])[1 + n % 4],
        s.status, 50,
        timestamptz '2026-01-01' + n * interval '10 seconds',
        case when jobcast.is_final(s.status) then timestamptz '2026-01-01' + n * interval '11 seconds' end
      from generate_series(1, ${JOBS}) n,
        lateral (select (array['completed', 'completed', 'completed', 'failed', 'cancelled', 'processing', 'pending'])[1 + n % 7] as status) s;
      insert into jobcast.status_history (job_id, version, attempt, status, progress, source)
      select id, 1, 1, status, progress, 'sql' from jobcast.jobs;
      set session_replication_role = origin;
      analyze jobcast.jobs, jobcast.status_history;`,
    query_timeout: 300_000,
  } as pg.QueryConfig);
  await client.end();
  server = await startTestServer({ databaseUrl: database.url });
}, 300_000);

afterAll(async () => {
  await server?.stop();
  await database?.drop();
});

const FIRST_PAGES = [
  "",
  "?status=failed",
  "?type=mesh",
  "?status=processing&type=video",
  "?from=2026-03-01&to=2026-03-02",
  "?limit=100",
];

/** Milliseconds that the slowest of a hundred took, in the quietest of some rounds. */
async function p99(path: string, claims: { sub: string; scope?: string }): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const times: number[] = [];
    for (let request = 0; request < REQUESTS; request += 1) {
      const start = performance.now();
      const { status, body } = await server.call("GET", `/v1/jobs${path}`, undefined, claims);
      times.push(performance.now() - start);
      expect(status).toBe(200);
      expect(body.items.length).toBeGreaterThan(0);
    }
    times.sort((a, b) => a - b);
    rounds.push(times[Math.ceil(REQUESTS * 0.99) - 1] ?? Number.POSITIVE_INFINITY);
  }
  return Math.min(...rounds);
}

describe("GET /v1/jobs among a million jobs", () => {
  it.each(FIRST_PAGES)(
    `answers an owner's first page %s with a p99 under ${FIRST_PAGE_MS} ms`,
    async (path) => {
      expect(await p99(path, { sub: "owner-7", scope: "" })).toBeLessThan(FIRST_PAGE_MS);
      expect(await p99(path, { sub: "owner-0", scope: "" })).toBeLessThan(FIRST_PAGE_MS);
    },
    120_000,
  );

  it.each(FIRST_PAGES)(
    `answers everybody's first page %s with a p99 under ${FIRST_PAGE_MS} ms`,
    async (path) => {
      expect(await p99(path, { sub: "admin", scope: "jobs:read" })).toBeLessThan(FIRST_PAGE_MS);
    },
    120_000,
  );

  it("goes through all pages of an owner by cursor, without a hole or a repeat", async () => {
    const seen = new Set<string>();
    let cursor: string | null = "";
    while (cursor !== null) {
      const next = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const { body } = await server.call("GET", `/v1/jobs?limit=100${next}`, undefined, {
        sub: "owner-7",
        scope: "",
      });
      for (const { id } of body.items) seen.add(id);
      cursor = body.nextCursor;
    }
    const [row] = await database.query<{ count: number }>(
      "select count(*)::int as count from jobcast.jobs where owner_id = 'owner-7'",
    );
    expect(seen.size).toBe(row?.count);
  });
});

describe("the plans of the list", () => {
  const filters: [string, JobFilter, Partial<JobPage>][] = [
    ["an owner's", { ownerId: "owner-7" }, {}],
    ["an owner's by status", { ownerId: "owner-0", statuses: ["failed"] }, {}],
    ["an owner's by type", { ownerId: "owner-0", type: "mesh" }, {}],
    ["an owner's with a total", { ownerId: "owner-7" }, { offset: 50 }],
    [
      "an owner's after a cursor",
      { ownerId: "owner-0" },
      { after: { createdAt: "2026-02-01T00:00:00Z", id: "01a00000-0000-7000-8000-000000000000" } },
    ],
    ["everybody's", {}, {}],
    ["everybody's by status", { statuses: ["failed"] }, {}],
    ["everybody's by date", { from: "2026-03-01", to: "2026-03-02" }, {}],
  ];

  it.each(filters)("have no sequential scan: %s", async (_, filter, page) => {
    const pool = openTestPool(database.url, { max: 2 });
    const queries: { sql: string; parameters: readonly unknown[] }[] = [];
    const db = new Kysely<DB>({
      dialect: new PostgresDialect({ pool }),
      log: ({ query }) => void queries.push(query),
    });
    await listJobs(db, filter, { limit: 50, ...page });
    expect(queries.length).toBeGreaterThan(0);
    for (const { sql, parameters } of queries) {
      const { rows } = await pool.query(`explain ${sql}`, [...parameters]);
      const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
      console.log(plan);
      expect(plan).toMatch(/Index (Only )?Scan/);
      expect(plan).not.toMatch(/Seq Scan/);
    }
    await pool.end();
  });
});
