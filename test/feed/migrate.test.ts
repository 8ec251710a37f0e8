import { afterEach, beforeEach, expect, it } from "vitest";
import {
  assertMigrated,
  DatabaseAheadError,
  type MigrateOptions,
  migrate,
} from "../../src/db/migrate.ts";
import { loadMigrations, type Migration } from "../../src/db/migrations.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

let db: TestDatabase;

beforeEach(async () => {
  db = await createTestDatabase();
});

afterEach(() => db.drop());

const run = (migrations?: readonly Migration[], options: Partial<MigrateOptions> = {}) =>
  migrate({ connectionString: db.url, ...(migrations && { migrations }), ...options });

async function withNext(sql: string): Promise<Migration[]> {
  return [...(await loadMigrations()), { id: 900_000, name: "900000_next.sql", sql }];
}

const applied = () => db.query("select name from jobcast.migrations where id = 900000");

it("takes the time that it takes", async () => {
  expect(await run(await withNext("select pg_sleep(0.5)"))).toEqual(["900000_next.sql"]);
  expect(await applied()).toHaveLength(1);
});

it("waits for another process that takes its time, and finds the work done", async () => {
  const migrations = await withNext("select pg_sleep(0.5)");
  const both = await Promise.all([run(migrations), run(migrations)]);
  expect(both.flat()).toEqual(["900000_next.sql"]);
});

it("is not ended by the timeouts of its role", async () => {
  await db.query(`alter database ${db.name} set statement_timeout = '100ms'`);
  await db.query(`alter database ${db.name} set lock_timeout = '100ms'`);
  const migrations = await withNext("select pg_sleep(0.3)");
  const both = await Promise.all([run(migrations), run(migrations)]);
  expect(both.flat()).toEqual(["900000_next.sql"]);
});

it("gives up before PostgreSQL looks for a deadlock, of which a writer might be the victim", async () => {
  await db.query(`alter database ${db.name} set deadlock_timeout = '100ms'`);
  await run(await withNext("create table jobcast.seen as select current_setting('lock_timeout')"));
  expect(await db.query("select current_setting as lock_timeout from jobcast.seen")).toEqual([
    { lock_timeout: "90ms" },
  ]);
});

it("leaves nothing of a migration that fails, its session included", async () => {
  const broken = await withNext("create table jobcast.half (); select 1 / 0");
  await expect(run(broken)).rejects.toThrow("division by zero");

  expect(await applied()).toEqual([]);
  expect(await db.query("select to_regclass('jobcast.half') as half")).toEqual([{ half: null }]);
  const open =
    "select from pg_stat_activity where datname = $1 and application_name like 'jobcast mig%'";
  await until(async () => (await db.query(open, [db.name])).length === 0, 5_000, "its end");
});

it("keeps what is done when a later one fails, and goes on from there", async () => {
  const later = (sql: string) => ({ id: 900_001, name: "900001_later.sql", sql });
  const migrations = await withNext("create table jobcast.done ()");
  await expect(run([...migrations, later("select 1 / 0")])).rejects.toThrow("division by zero");
  expect(await applied()).toHaveLength(1);
  expect(await run([...migrations, later("select 1")])).toEqual(["900001_later.sql"]);
});

it("refuses a database that a newer one has migrated", async () => {
  await run(await withNext("select 1"));
  await expect(run()).rejects.toThrow(DatabaseAheadError);
});

it("goes on where a newer one has only added, so that a deploy can be rolled back", async () => {
  await run(await withNext("-- additive: nobody misses it\ncreate table jobcast.added ()"));
  const log = createLog();
  expect(await run(undefined, { log })).toEqual([]);
  expect(log.lines).toEqual([{ details: { ahead: 900_000 }, message: expect.any(String) }]);

  await run([
    ...(await withNext("-- additive: nobody misses it")),
    { id: 900_001, name: "900001_breaking.sql", sql: "-- something additive is not enough" },
  ]);
  await expect(run()).rejects.toThrow(DatabaseAheadError);
});

it("says what is missing where somebody else migrates", async () => {
  const options = { connectionString: db.url };
  const migrations = await withNext("select 1");
  await assertMigrated(options);
  await expect(assertMigrated({ ...options, migrations })).rejects.toThrow(
    'has not had migration 900000_next.sql, and MIGRATE is off: run "jobcast migrate" first',
  );
  expect(await applied()).toEqual([]);
});

it("needs a role that owns the schema, and not one that may make it", async () => {
  const role = `${db.name}_owner`;
  await db.query(`create role ${role} login password 'secret'`);
  const url = new URL(db.url);
  url.username = role;
  url.password = "secret";
  try {
    await db.query(`drop schema jobcast cascade; create schema jobcast authorization ${role}`);
    const migrated = await run(undefined, { connectionString: url.href });
    expect(migrated).toEqual((await loadMigrations()).map(({ name }) => name));
  } finally {
    await db.query(`drop owned by ${role} cascade; drop role ${role}`);
  }
});

/** What was logged, one after the other. */
function createLog() {
  const lines: { details: { holders?: string }; message: string }[] = [];
  return {
    lines,
    warn: (details: object, message: string) => void lines.push({ details, message }),
  };
}

const addColumn = () => withNext("alter table jobcast.jobs add column next int");

it("waits for whoever has a table locked, says who it is, and goes on when he is gone", async () => {
  const stranger = await db.connect();
  await stranger.query("set application_name = 'a forgotten console'");
  await stranger.query("begin; select from jobcast.jobs");
  const log = createLog();
  const migrating = run(await addColumn(), { log });
  await until(() => log.lines.length > 0, 10_000, "to be told who is in the way");
  expect(log.lines[0]?.details.holders).toMatch(/^process \d+ of \w+ \(a forgotten console\)$/);
  await stranger.query("commit");
  expect(await migrating).toEqual(["900000_next.sql"]);
}, 20_000);

it("does not wait for ever, and says why", async () => {
  const stranger = await db.connect();
  await stranger.query("set application_name = 'a forgotten console'");
  await stranger.query("begin; select from jobcast.jobs");
  const migrating = run(await addColumn(), { waitMs: 0 });
  await expect(migrating).rejects.toThrow(
    /cannot be migrated, because others have its tables locked: process \d+ of .*a forgotten console/,
  );
  expect(await applied()).toEqual([]);
}, 20_000);

it("lets others read and write between its attempts", async () => {
  const stranger = await db.connect();
  await stranger.query("begin; select from jobcast.jobs");
  const log = createLog();
  const giveUp = new AbortController();
  const migrating = run(await addColumn(), { log, signal: giveUp.signal });
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    await until(() => log.lines.length >= attempt, 10_000, "an attempt to be over");
    await within(
      db.query("select jobcast.create_job('alice', 'x')"),
      5_000,
      "somebody else's write behind the one that waits",
    );
  }
  giveUp.abort();
  await expect(migrating).rejects.toThrow();
}, 30_000);

it("asks nobody who has nothing to do for a lock", async () => {
  const stranger = await db.connect();
  await stranger.query(
    "begin; lock table jobcast.jobs, jobcast.status_history in access exclusive mode",
  );
  expect(await within(run(), 5_000, "a start with nothing to migrate")).toEqual([]);
});

it("is not kept by advisory locks, which anybody may take", async () => {
  const stranger = await db.connect();
  await stranger.query(
    `select pg_advisory_lock(jobcast.bell_lock()), pg_advisory_lock(k)
     from generate_series(0, 1000) k`,
  );
  expect(await run(await withNext("select 1"))).toEqual(["900000_next.sql"]);
});

it("obeys a signal at every moment", async () => {
  const stranger = await db.connect();
  await stranger.query("begin; select from jobcast.jobs");
  for (const sql of ["select pg_sleep(60)", "alter table jobcast.jobs add column next int"]) {
    const giveUp = new AbortController();
    const migrating = run(await withNext(sql), { signal: giveUp.signal });
    const atWork = `select from pg_stat_activity where datname = $1 and application_name = 'jobcast migration'
      and (wait_event_type = 'Lock' or wait_event = 'PgSleep')`;
    await until(
      async () => (await db.query(atWork, [db.name])).length > 0,
      5_000,
      "it to be at work",
    );
    giveUp.abort();
    await expect(within(migrating, 1_000, "its end")).rejects.toThrow("abort");
  }
}, 30_000);

it("does not hang on a connection that died without a word, and lets go of what it held", async () => {
  const proxy = await startTcpProxy(Number(new URL(db.url).port));
  const url = new URL(db.url);
  url.port = String(proxy.port);
  const migrating = run(await withNext("select pg_sleep(2)"), { connectionString: url.href });
  const outcome = migrating.catch((error: unknown) => error);
  const asleep = "select from pg_stat_activity where datname = $1 and wait_event = 'PgSleep'";
  await until(
    async () => (await db.query(asleep, [db.name])).length > 0,
    5_000,
    "it to be at work",
  );
  proxy.blackhole();
  proxy.thaw(); // new ones work
  expect(await within(outcome, 20_000, "its end")).toBeInstanceOf(Error);
  await proxy.close();
  expect(await run(await withNext("select 1"))).toEqual(["900000_next.sql"]);
}, 90_000);

it("goes on where nobody keeps track of what sessions do", async () => {
  await db.query(`alter database ${db.name} set track_activities = off`);
  // Longer than a lost one would be let go.
  expect(await run(await withNext("select pg_sleep(8)"))).toEqual(["900000_next.sql"]);
}, 30_000);

it("makes nothing in a schema of somebody else, who would have it run his code", async () => {
  await db.query(`
    drop schema jobcast cascade;
    create role ${db.name}_eve;
    grant create on database ${db.name} to ${db.name}_eve`);
  const eve = await db.connect();
  await eve.query(`set role ${db.name}_eve`);
  const belongs = /belongs to the role \S+_eve, who could run code of his/;
  try {
    await eve.query("create schema jobcast; grant all on schema jobcast to public");
    await expect(run()).rejects.toThrow(belongs);
    await expect(run(undefined, { connectionString: db.adminUrl })).rejects.toThrow(belongs);
    await db.query(`drop schema jobcast`);
    expect((await run()).length).toBeGreaterThan(10);

    // And in ours, where somebody was let make what we have yet to make, or to read.
    const owner = new URL(db.url).username;
    await db.query(`drop schema jobcast cascade; create schema jobcast authorization ${owner};
      grant all on schema jobcast to public`);
    await eve.query("create view jobcast.migrations as select 0 as id, random() as name");
    await expect(run()).rejects.toThrow(/^jobcast.migrations belongs to the role/);
  } finally {
    await db.query(`drop owned by ${db.name}_eve cascade; drop role ${db.name}_eve`);
  }
});

it("tells a role that may not migrate what it needs", async () => {
  await db.query(`drop role if exists ${db.name}; create role ${db.name} login password 'secret'`);
  const url = new URL(db.url);
  url.username = db.name;
  url.password = "secret";
  try {
    const migrating = () => run(undefined, { connectionString: url.href });
    await expect(migrating()).rejects.toThrow(/must own the schema jobcast and all that is in it/);
    await db.query("drop schema jobcast cascade");
    await expect(migrating()).rejects.toThrow(
      /The role of DATABASE_URL may not migrate the database .*it must own the schema jobcast/,
    );
  } finally {
    await db.query(`drop role ${db.name}`);
  }
});

it("leaves to whom it was granted what a function may be called by, also where it got another signature", async () => {
  const role = `worker_${db.name}`;
  await db.query("drop schema jobcast cascade");
  const all = await loadMigrations();
  await run(all.filter(({ id }) => id <= 22));
  await db.query(`create role ${role}`);
  try {
    for (const name of ["create_job", "retry_job", "create_batch"]) {
      await db.query(`revoke execute on function jobcast.${name} from public`);
    }
    await db.query(`grant usage on schema jobcast to ${role}`);
    await db.query(`grant execute on function jobcast.create_batch, jobcast.retry_job to ${role}`);
    await run(all);
    const may = await db.query(
      `select name, has_function_privilege($1, oid, 'execute') as role,
         has_function_privilege('public', oid, 'execute') as everybody
       from pg_proc p, lateral (select p.proname::text as name) n
       where pronamespace = 'jobcast'::regnamespace and name in ('create_job', 'retry_job', 'create_batch')
       order by name`,
      [role],
    );
    expect(may).toEqual([
      { name: "create_batch", role: true, everybody: false },
      { name: "create_job", role: false, everybody: false },
      { name: "retry_job", role: true, everybody: false },
    ]);
  } finally {
    await db.query(`drop owned by ${role}`);
    await db.query(`drop role ${role}`);
  }
});
