import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Readyz, untilListener } from "../feed/listener.ts";
import { change, createJobs, openWatch } from "../feed/watch.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";
import {
  isInstalled,
  type PgBouncer,
  type PoolMode,
  startPgBouncer,
  THROUGH_PGBOUNCER,
} from "./pgbouncer.ts";

/* Through the real program, where it is installed, each way that docs/operations.md names. */

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

type Way = {
  readonly name: string;
  readonly mode: PoolMode;
  readonly feed: "auto" | "poll";
  readonly listensDirectly?: boolean;
  /** What /readyz says when all has settled. */
  readonly state: Pick<Readyz, "status" | "feed" | "bell">;
};

const WELL = { status: 200, feed: "asleep", bell: true };

const WAYS: readonly Way[] = [
  {
    name: "in transaction mode, with LISTEN_DATABASE_URL",
    mode: "transaction",
    feed: "auto",
    listensDirectly: true,
    state: WELL,
  },
  {
    name: "in transaction mode, with FEED=poll",
    mode: "transaction",
    feed: "poll",
    state: { status: 200, feed: "awake", bell: null },
  },
  {
    name: "in transaction mode alone",
    mode: "transaction",
    feed: "auto",
    state: { status: 503, feed: "awake", bell: false },
  },
  { name: "in session mode", mode: "session", feed: "auto", state: WELL },
];

/** What the database is set to, and what a write must be carried out under all the same. */
const SETTINGS: Readonly<Record<string, readonly [theirs: string, ours: string]>> = {
  DateStyle: ["German, DMY", "ISO, MDY"],
  IntervalStyle: ["sql_standard", "postgres"],
  TimeZone: ["Asia/Kathmandu", "UTC"],
  lock_timeout: ["20", "50"],
  plan_cache_mode: ["force_generic_plan", "auto"],
  statement_timeout: ["900", "8000"],
  synchronous_commit: ["off", "on"],
};

const READ_SETTINGS =
  "select name, setting from pg_catalog.pg_settings where name in " +
  `(${Object.keys(SETTINGS).map((name) => `'${name}'`)})`;

/** Keeps what the statement that makes a job is carried out under. */
const KEEP_SETTINGS = `
  create table public.seen (name text, setting text);
  grant insert on public.seen to public;
  create function public.see() returns trigger language plpgsql as
    $$ begin insert into public.seen ${READ_SETTINGS}; return null; end $$;
  create trigger see after insert on jobcast.jobs
    when (pg_catalog.current_setting('application_name') like 'jobcast %writes')
    execute function public.see()`;

const settingsAs = (which: 0 | 1) =>
  new Map(Object.entries(SETTINGS).map(([name, values]) => [name, values[which]]));
const toMap = (rows: readonly { name: string; setting: string }[]) =>
  new Map(rows.map(({ name, setting }) => [name, setting]));

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe.skipIf(!isInstalled)(THROUGH_PGBOUNCER, () => {
  describe.each(WAYS)("$name", ({ mode, feed, listensDirectly, state }) => {
    let db: TestDatabase;
    let bouncer: PgBouncer;
    let server: TestServer;

    const settled = () =>
      untilListener(
        server,
        (now) => now.status === state.status && now.feed === state.feed && now.bell === state.bell,
        30_000,
      );

    beforeAll(async () => {
      db = await createTestDatabase();
      await db.query("drop schema jobcast cascade");
      for (const [name, [theirs]] of Object.entries(SETTINGS)) {
        await db.query(`alter database ${db.name} set ${name} = '${theirs}'`);
      }
      bouncer = await startPgBouncer(db.url, mode);
      server = await startTestServer({
        databaseUrl: bouncer.url,
        ...(listensDirectly && { listenDatabaseUrl: db.url }),
        feed,
      });
    });
    afterAll(async () => {
      await server?.stop();
      await bouncer?.stop();
      await db?.drop();
    });

    it("migrates an empty database, and says what becomes of the bell", async () => {
      expect(server.logged.join("")).toContain("the database was migrated");
      await settled();
      if (state.bell !== false) return;
      const why = () =>
        server.logged.join("").includes("does not work through a transaction pooler");
      await until(why, 20_000, () => server.logged.join(""));
      const { why: reasons } = await untilListener(server, ({ status }) => status === 503);
      expect(reasons).toEqual(["the bell was not heard"]);
    });

    it("streams what is created over HTTP and in SQL, and replays it", async () => {
      const { url } = server;
      const token = server.token();
      const all = await openStream({ url, path: "/v1/events", token });
      await all.next();
      const created = await server.call("POST", "/v1/jobs", { type: "http" });
      expect(created.status).toBe(201);
      const [inSql = ""] = await createJobs(db, 1);
      for (const id of [created.body.id, inSql]) {
        const event = await all.next(({ type }) => type === "status");
        expect(JSON.parse(event.data)).toMatchObject({ jobId: id, version: 1 });
      }
      const { lastEventId } = all;
      await all.close();
      await change(db, inSql);
      await change(db, created.body.id);
      const again = await openStream({ url, path: "/v1/events", token, lastEventId });
      const missed = await again.take(2, ({ type }) => type === "status");
      const changes = missed.map(({ data }) => JSON.parse(data));
      expect(changes.map(({ version }) => version)).toEqual([2, 2]);
      // Of two jobs nobody promises which comes first.
      const ids = changes.map(({ jobId }) => jobId);
      expect(new Set(ids)).toEqual(new Set([inSql, created.body.id]));
      await again.close();
    });

    it("reads and writes under its own settings, and leaves the pooler's sessions theirs", async () => {
      await db.query(KEEP_SETTINGS);
      const { body: job } = await server.call("POST", "/v1/jobs", { type: "set" });
      expect(toMap(await db.query("select * from public.seen"))).toEqual(settingsAs(1));
      const patched = await server.call("PATCH", `/v1/jobs/${job.id}`, { progress: 100 / 3 });
      expect(patched).toMatchObject({ status: 200, body: { progress: 100 / 3, version: 2 } });
      const listed = await server.call("GET", "/v1/jobs?type=set");
      expect(listed.body.items).toEqual([patched.body]);
      expect(patched.body.updatedAt).toMatch(MOMENT);
      await db.query("drop trigger see on jobcast.jobs");

      const other = new pg.Client({ connectionString: bouncer.url });
      await other.connect();
      const { rows } = await other.query<{ name: string; setting: string }>(READ_SETTINGS);
      await other.end();
      expect(toMap(rows)).toEqual(settingsAs(0));
    });

    it.each(["SIGKILL", "SIGTERM"] as const)("loses nothing by its end (%s)", async (signal) => {
      const watch = await openWatch(server, db, await createJobs(db, 3));
      const writeAll = async () => {
        for (const id of watch.jobs.keys()) await change(db, id);
      };
      await writeAll();
      await bouncer.kill(signal);
      await writeAll();
      // A lane is away when it has had no answer for ten seconds.
      await untilListener(server, ({ status }) => status === 503, 30_000);
      await writeAll();
      await bouncer.start();
      await writeAll();
      await watch.expectAll(30_000);
      const created = await server.call("POST", "/v1/jobs", { type: "after" });
      expect(created.status).toBe(201);
      await settled();
      await watch.close();
    });
  });
});
