import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type PgProxy, startPgProxy } from "../feed/pg-proxy.ts";
import { deliver } from "../http/provider.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** What a database may be set to, and would change what is read, or how, or whether at all. */
const HOSTILE: Readonly<Record<string, string>> = {
  DateStyle: "German",
  IntervalStyle: "sql_standard",
  TimeZone: "Asia/Kathmandu",
  array_nulls: "off",
  bytea_output: "escape",
  extra_float_digits: "-5",
  standard_conforming_strings: "off",
  backslash_quote: "off",
  transform_null_equals: "on",
  search_path: "public, pg_catalog",
  client_encoding: "LATIN1",
  client_min_messages: "debug1",
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on",
  default_transaction_read_only: "on",
  statement_timeout: "20",
  lock_timeout: "20",
  transaction_timeout: "200",
  idle_in_transaction_session_timeout: "200",
  idle_session_timeout: "200",
  synchronous_commit: "off",
  row_security: "off",
  check_function_bodies: "off",
  enable_indexscan: "off",
  enable_nestloop: "off",
  jit_above_cost: "0",
  plan_cache_mode: "force_generic_plan",
  quote_all_identifiers: "on",
  xmloption: "document",
};

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const PROGRESS = 33.333333333333336;

describe.each(["directly", "through a pooler"])(
  "a database that is set otherwise, reached %s",
  (how) => {
    let db: TestDatabase;
    let proxy: PgProxy;
    let server: TestServer;
    const isPooled = how === "through a pooler";

    beforeAll(async () => {
      db = await createTestDatabase();
      proxy = await startPgProxy(Number(new URL(db.url).port));
      proxy.isSilent = isPooled;
      const url = new URL(db.url);
      url.port = String(proxy.port);
      // When the sessions behind a pooler end is the pooler's business.
      const hostile = Object.entries(HOSTILE).filter(
        ([name]) => !isPooled || name !== "idle_session_timeout",
      );
      const settings = hostile.map(
        ([name, value]) =>
          `alter database ${db.name} set ${name} = ${value.includes(",") ? value : `'${value}'`}`,
      );
      await db.query(settings.join("; "));
      // Whoever begins a deferrable transaction waits for the end of this one.
      const open = await db.connect();
      await open.query("set idle_in_transaction_session_timeout = 0; set statement_timeout = 0");
      await open.query(
        "begin isolation level serializable read write; select pg_current_xact_id()",
      );
      await open.query("select count(*) from jobcast.jobs");
      server = await startTestServer({
        databaseUrl: url.href,
        feed: isPooled ? "poll" : "bell",
        callbackSecrets: [`whsec_${Buffer.alloc(32, 7).toString("base64")}`],
      });
    });
    afterAll(async () => {
      await server.stop();
      await proxy.close();
      await db.drop();
    });

    const call = (method: string, path: string, body?: unknown) => server.call(method, path, body);

    async function newJob(body: object = {}) {
      const created = await call("POST", "/v1/jobs", { type: "t", ...body });
      expect(created.status).toBe(201);
      return created.body;
    }

    it("becomes ready and stays so", async () => {
      const readyz = async () => (await fetch(`${server.url}/readyz`)).status;
      await until(async () => (await readyz()) === 200, 10_000, "to be ready");
      const feedOf = async () =>
        (await (await fetch(`${server.url}/readyz`)).json()) as { feed: string };
      if (!isPooled)
        await until(async () => (await feedOf()).feed === "asleep", 10_000, "to sleep");
      expect(await readyz()).toBe(200);
    });

    it("makes jobs, changes them and tells of them, with the same moments and numbers", async () => {
      const params = { list: [null, "NULL", 1e-7, 0.1 + 0.2], text: "ä\\'ö\u2028", none: null };
      const job = await newJob({ params, metadata: params, timeoutSeconds: 3600, title: "\\x41" });
      expect(job).toMatchObject({ params, metadata: params, title: "\\x41", version: 1 });
      const patched = await call("PATCH", `/v1/jobs/${job.id}`, {
        progress: PROGRESS,
        counts: { total: 3, completed: 1, failed: 0 },
        message: null,
      });
      expect(patched.body).toMatchObject({ progress: PROGRESS, status: "processing", version: 2 });
      const read = await call("GET", `/v1/jobs/${job.id}`);
      expect(read.body).toEqual(patched.body);
      for (const name of ["createdAt", "updatedAt", "startedAt", "timeoutAt", "occurredAt"]) {
        expect(read.body[name], name).toMatch(MOMENT);
        const age = Date.now() - Date.parse(read.body[name]);
        expect(Math.abs(age - (name === "timeoutAt" ? -3_600_000 : 0))).toBeLessThan(60_000);
      }
      const history = await call("GET", `/v1/jobs/${job.id}/history`);
      expect(history.body.items.map(({ progress }: { progress: number }) => progress)).toEqual([
        0,
        PROGRESS,
      ]);
      expect(history.body.items[1].occurredAt).toMatch(MOMENT);
    });

    it("lists jobs and batches page by page, and by the moment", async () => {
      const batch = await call("POST", "/v1/batches", { jobs: Array(5).fill({ type: "paged" }) });
      expect(batch.status).toBe(201);
      for (const path of [`/v1/jobs?batch=${batch.body.id}&limit=2`, "/v1/batches?limit=1"]) {
        const seen: string[] = [];
        for (let cursor = ""; ; ) {
          const { status, body } = await call("GET", path + cursor);
          expect(status).toBe(200);
          seen.push(...body.items.map(({ id }: { id: string }) => id));
          if (body.nextCursor === null) break;
          cursor = `&cursor=${body.nextCursor}`;
        }
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen.length).toBe(path.includes("/jobs?") ? 5 : 1);
      }
      const [first] = batch.body.jobs;
      const from = encodeURIComponent(first.createdAt);
      const listed = await call("GET", `/v1/jobs?type=paged&from=${from}`);
      expect(listed.body.items).toHaveLength(5);
    });

    it("grants and tells credits, and stream tokens by its key", async () => {
      const granted = await call("POST", "/v1/credits/grants", { ownerId: "alice", amount: 1_000 });
      expect(granted.status).toBe(201);
      await newJob({ credits: 400 });
      expect((await call("GET", "/v1/credits")).body.balance).toBe(600);
      const { body } = await call("GET", "/v1/credits/transactions");
      expect(body.items[0]).toMatchObject({ amount: -400, balanceAfter: 600 });
      expect(body.items[0].createdAt).toMatch(MOMENT);
      expect((await call("POST", "/v1/stream-tokens", {})).status).toBe(201);
    });

    it("streams, replays and polls, of a job and of many", async () => {
      const job = await newJob();
      const url = server.url;
      const token = server.token();
      const streams = await Promise.all(
        [`/v1/jobs/${job.id}/events`, `/v1/events?jobs=${job.id}`].map((path) =>
          openStream({ url, path, token }),
        ),
      );
      for (const stream of streams) await stream.next();
      await call("PATCH", `/v1/jobs/${job.id}`, { progress: PROGRESS });
      for (const stream of streams) {
        const event = JSON.parse((await stream.next()).data);
        expect(event).toMatchObject({ version: 2, progress: PROGRESS });
        expect(event.occurredAt).toMatch(MOMENT);
        await stream.close();
      }
      await call("PATCH", `/v1/jobs/${job.id}`, { status: "completed", result: { of: PROGRESS } });
      const again = await openStream({
        url,
        token,
        path: `/v1/events?jobs=${job.id}`,
        lastEventId: streams[1]?.lastEventId ?? "",
      });
      expect(JSON.parse((await again.next()).data)).toMatchObject({
        version: 3,
        status: "completed",
      });
      await again.close();
      const polled = await call("GET", `/v1/jobs/${job.id}/events?after=1&wait=0`);
      expect(polled.body.events.map(({ version }: { version: number }) => version)).toEqual([2, 3]);
    });

    it("takes deliveries, and ends what is overdue", async () => {
      const job = await newJob();
      const delivered = await deliver(server, job.links.callback, {
        status: "succeeded",
        output: [1],
      });
      expect(delivered.body).toMatchObject({ applied: true, status: "completed" });
      const late = await newJob({ timeoutSeconds: 1 });
      const statusOf = async () => (await call("GET", `/v1/jobs/${late.id}`)).body.status;
      await until(async () => (await statusOf()) === "timeout", 10_000, "the timeout");
    });

    it("answers every one of many who write the same at once", async () => {
      const job = await newJob();
      const answers = await Promise.all(
        Array.from({ length: 60 }, (_, index) =>
          call("PATCH", `/v1/jobs/${job.id}`, { message: `number ${index}` }),
        ),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect((await call("GET", `/v1/jobs/${job.id}`)).body.version).toBe(61);
    });

    it("has logged nothing that went wrong", () => {
      expect(server.logged.filter((line) => /"level":(40|50|60)/.test(line))).toEqual([]);
    });
  },
);
