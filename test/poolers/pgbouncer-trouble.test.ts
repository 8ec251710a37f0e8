import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { waitForDatabase } from "../../src/db/wait-for-database.ts";
import { createJobs, openWatch } from "../feed/watch.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { isInstalled, type PgBouncer, startPgBouncer, THROUGH_PGBOUNCER } from "./pgbouncer.ts";

/* When PgBouncer has few connections, none, or takes one away. */

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe.skipIf(!isInstalled)(THROUGH_PGBOUNCER, () => {
  describe("with four connections", () => {
    let db: TestDatabase;
    let bouncer: PgBouncer;
    let server: TestServer;

    beforeAll(async () => {
      db = await createTestDatabase();
      bouncer = await startPgBouncer(db.url, "transaction", { default_pool_size: 4 });
      server = await startTestServer({ databaseUrl: bouncer.url, listenDatabaseUrl: db.url });
    });
    afterAll(async () => {
      await server?.stop();
      await bouncer?.stop();
      await db?.drop();
    });

    it("answers many at once, and tells of all that was done", async () => {
      const watch = await openWatch(server, db, await createJobs(db, 3));
      const [job = ""] = watch.jobs.keys();
      const ask = (index: number) => {
        const claims = { sub: index % 2 === 0 ? "alice" : `owner ${index % 20}` };
        if (index % 3 === 0) return server.call("POST", "/v1/jobs", { type: "many" }, claims);
        if (index % 3 === 1) return server.call("GET", "/v1/jobs?limit=5", undefined, claims);
        return server.call("PATCH", `/v1/jobs/${job}`, { message: `number ${index}` });
      };
      const answers = await within(
        Promise.all(Array.from({ length: 400 }, (_, index) => ask(index))),
        30_000,
        "400 answers",
      );
      const refused = answers.filter(({ status }) => status >= 300);
      // What docs/errors.md lets a busy service say.
      for (const { status, body } of refused) {
        expect([status, body.code]).toEqual([503, "overloaded"]);
      }
      expect(refused.length).toBeLessThan(answers.length / 2);
      await watch.expectAll(20_000);
      await watch.close();
    });

    it("says that a write may have been done when the pooler ends it at its commit", async () => {
      const { body: job } = await server.call("POST", "/v1/jobs", { type: "slow" });
      await db.query(`
        create function public.linger() returns trigger language plpgsql as
          $$ begin perform pg_catalog.pg_sleep(1); return null; end $$;
        create constraint trigger linger after update on jobcast.jobs
          deferrable initially deferred for each row execute function public.linger()`);
      const commits = async () => {
        const active = "select from pg_stat_activity where datname = $1 and state = 'active'";
        return (await db.query(`${active} and query = 'commit'`, [db.name])).length;
      };
      const patching = server.call("PATCH", `/v1/jobs/${job.id}`, { message: "done" });
      await until(async () => (await commits()) === 1, 10_000, "the commit");
      await bouncer.command(`kill ${db.name}`);
      await bouncer.command(`resume ${db.name}`);
      const { status, body } = await patching;
      expect([status, body.code]).toEqual([503, "database_unavailable"]);
      await until(async () => (await commits()) === 0, 10_000, "the end of the commit");
      const written = await db.query("select message from jobcast.jobs where id = $1", [job.id]);
      expect(written).toEqual([{ message: "done" }]);
      expect(body.outcome).toBe("unknown");
    });
  });

  it("waits, if it was told to, for a database that the pooler does not reach yet", async () => {
    const db = await createTestDatabase();
    onTestFinished(() => db.drop());
    const proxy = await startTcpProxy(Number(new URL(db.url).port));
    onTestFinished(() => proxy.close());
    proxy.refuse();
    const url = new URL(db.url);
    url.port = String(proxy.port);
    const bouncer = await startPgBouncer(url.href, "transaction", { server_login_retry: 1 });
    onTestFinished(() => bouncer.stop());
    const told: object[] = [];
    let isOver = false;
    const waiting = waitForDatabase([bouncer.url], {
      seconds: 40,
      signal: new AbortController().signal,
      log: { warn: (details) => void told.push(details) },
    }).finally(() => {
      isOver = true;
    });
    await until(() => isOver || told.length > 0, 20_000, "the word that it waits");
    expect(isOver).toBe(false);
    await proxy.accept();
    await within(waiting, 30_000, "the database");
  });
});
