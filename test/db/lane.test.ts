import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Lane } from "../../src/db/lane.ts";
import type { Work } from "../../src/db/session-settings.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let db: TestDatabase;
let proxy: TcpProxy;
const lanes: Lane[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
  proxy = await startTcpProxy(Number(new URL(db.url).port));
});
afterEach(async () => {
  await Promise.all(lanes.splice(0).map((lane) => lane.end()));
  await proxy.close();
  await db.drop();
});

function openLane(work: Work, size = 2): Lane {
  const url = new URL(db.url);
  url.port = String(proxy.port);
  const lane = new Lane({
    connectionString: url.href,
    name: "jobcast lane test",
    work,
    size,
    onError: () => undefined,
  });
  lanes.push(lane);
  return lane;
}

const pidOf = async (lane: Lane) =>
  (await lane.for({})<{ pid: number }>("select pg_backend_pid() as pid"))[0]?.pid;

async function backends(): Promise<number> {
  const [row] = await db.query<{ count: number }>(
    `select count(*) from pg_stat_activity
     where datname = current_database() and application_name = 'jobcast lane test'`,
  );
  return row?.count ?? -1;
}

describe("a connection that died without a word", () => {
  it("is found out by the first who asks, and so are those beside it", async () => {
    const lane = openLane("read", 3);
    await Promise.all([1, 2, 3].map(() => lane.for({})("select pg_sleep(0.05)")));
    proxy.blackhole();
    proxy.thaw(); // new ones work
    const [row] = await lane.for({})<{ one: number }>("select 1 as one");
    expect(row).toEqual({ one: 1 });
    // Nobody after that meets one of the others: each answer is there at once.
    for (let count = 0; count < 5; count += 1) {
      await within(lane.for({})("select 1"), 1_000, "an answer of a new connection");
    }
  }, 30_000);

  it("is found out while nobody asks", async () => {
    const lane = openLane("write");
    await lane.for({})("select 1");
    proxy.blackhole();
    proxy.thaw();
    await lane.probe(0);
    await within(lane.for({})("select 1"), 1_000, "an answer of a new connection");
  }, 30_000);

  it("leaves in doubt what was to be written, and says so", async () => {
    const lane = openLane("write");
    await lane
      .for({})("create table public.written (n int)")
      .catch(() => undefined);
    await db.query("create table if not exists public.written (n int)");
    await db.query("grant insert on public.written to public");
    await lane.for({})("select 1");
    const writing = lane.for({})("insert into public.written select 1 from pg_sleep(0.5)");
    await until(async () => (await backends()) > 0, 5_000, "the statement");
    setTimeout(() => proxy.blackhole(), 200);
    await expect(writing).rejects.toMatchObject({
      code: "database_unavailable",
      details: { outcome: "unknown" },
    });
    expect(await db.query("select n from public.written")).toEqual([{ n: 1 }]);
  }, 30_000);

  it("is told from a statement that the server refused: nothing of that was done", async () => {
    const lane = openLane("write");
    await expect(lane.for({})("select 1/0")).rejects.toMatchObject({ code: "22012" });
    const before = await pidOf(lane);
    expect(await pidOf(lane)).toBe(before);
  });
});

describe("a connection that is cut while it is used", () => {
  it("is the failure of what was asked on it, and of nothing else", async () => {
    const lane = openLane("write");
    const sleeping = lane
      .for({})("select pg_sleep(5)")
      .catch((error: unknown) => error);
    const isAsleep = async () =>
      (
        await db.query(
          `select from pg_stat_activity where application_name = 'jobcast lane test'
           and datname = current_database() and wait_event = 'PgSleep'`,
        )
      ).length === 1;
    await until(isAsleep, 5_000, "the statement to run");
    // The driver tells of it twice: the statement, and whoever listens to the connection, which
    // nobody in the pool does while it is lent out. Unheard, that would be the end of the process.
    proxy.cut();
    expect(await sleeping).toMatchObject({ code: "database_unavailable" });
    expect(await lane.for({})("select 1 as one")).toEqual([{ one: 1 }]);
  });
});

describe("a statement that was undone", () => {
  it.each(["40001", "40P01", "42804"])("is carried out again: %s", async (code) => {
    await db.query("create sequence tries");
    await db.query(`create function tried() returns bigint language plpgsql security definer as $$
      begin
        if nextval('public.tries') < 3 then raise exception 'undone' using errcode = '${code}'; end if;
        return currval('public.tries');
      end $$`);
    const rows = await openLane("write").for({})("select public.tried() as tries");
    expect(rows).toEqual([{ tries: 3 }]);
  });
});

describe("limits are on the server", () => {
  it.each(["read", "write", "waiting write", "service"] as const)(
    "of a %s lane, below those of the client, whatever the database says",
    async (work) => {
      for (const name of ["statement_timeout", "lock_timeout"]) {
        await db.query(`alter database ${db.name} set ${name} = '1h'`);
      }
      const [limits] = await openLane(work).for({})<Record<string, string>>(
        `select current_setting('statement_timeout') as statement,
           current_setting('lock_timeout') as lock,
           current_setting('idle_in_transaction_session_timeout') as idle`,
      );
      expect(limits).toEqual({
        statement: "8s",
        lock: { service: "5s", read: "2s", write: "50ms", "waiting write": "500ms" }[work],
        idle: "30s",
      });
    },
  );

  it("so that what we gave up is over there too", async () => {
    const lane = openLane("write");
    const sleeping = lane.for({})("select pg_sleep(60)");
    await expect(sleeping).rejects.toMatchObject({ code: "57014" });
    await until(
      async () =>
        (
          await db.query(
            `select from pg_stat_activity where datname = current_database()
             and application_name = 'jobcast lane test' and state = 'active'`,
          )
        ).length === 0,
      1_000,
      "nothing to go on over there",
    );
  }, 20_000);
});

describe("statements that PostgreSQL took back for others' sake", () => {
  it.each(["40001", "40P01"])("are tried again: %s", async (code) => {
    // A sequence goes on although the statement was undone.
    await db.query("create sequence public.attempts; create table public.done (n bigint)");
    await db.query(
      `create function public.write_late(attempts int) returns void language plpgsql security definer as $$
       declare v_attempt bigint := nextval('public.attempts');
       begin
         insert into public.done values (v_attempt);
         if v_attempt < attempts then raise exception 'taken back' using errcode = '${code}'; end if;
       end $$`,
    );
    const lane = openLane("write");
    await lane.for({})("select public.write_late(4)");
    expect(await db.query("select n::int from public.done")).toEqual([{ n: 4 }]);
    // But not for ever.
    await db.query("alter sequence public.attempts restart");
    await expect(lane.for({})("select public.write_late(1000)")).rejects.toMatchObject({ code });
    expect(await db.query("select nextval('public.attempts')::int as n")).toEqual([{ n: 6 }]);
  });
});

describe("the end of a lane", () => {
  it("is soon, also while the server says nothing", async () => {
    const lane = openLane("read");
    await lane.for({})("select 1");
    proxy.freeze();
    const asked = lane
      .for({})("select 1")
      .catch((error: unknown) => error);
    await within(lane.end(), 3_000, "the end");
    expect(await asked).toBeInstanceOf(Error);
    proxy.thaw();
    await until(async () => (await backends()) === 0, 5_000, "no connection to be left");
  });
});
