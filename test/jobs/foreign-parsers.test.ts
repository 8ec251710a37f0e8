import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jobs } from "../../src/jobs/jobs.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/*
 * What applications do to the driver that they share with us: for the whole process, before they
 * mount anything.
 */
const { builtins } = pg.types;
for (const oid of [
  builtins.TIMESTAMPTZ,
  builtins.TIMESTAMP,
  builtins.JSONB,
  builtins.JSON,
  builtins.UUID,
]) {
  pg.types.setTypeParser(oid, (text) => `theirs: ${text}`);
}
pg.types.setTypeParser(builtins.INT8, (text) => BigInt(text));
pg.types.setTypeParser(builtins.INT4, (text) => `int ${text}`);
pg.types.setTypeParser(builtins.FLOAT8, (text) => `float ${text}`);
pg.types.setTypeParser(builtins.BOOL, (text) => `bool ${text}`);
pg.types.setTypeParser(builtins.TEXT, (text) => text);

let database: TestDatabase;
let server: TestServer;
let pool: pg.Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
  pool = new pg.Pool({ connectionString: database.url });
});
afterAll(async () => {
  await pool.end();
  await server.stop();
  await database.drop();
});

describe("an application with parsers of its own", () => {
  it("does not change what the service reads", async () => {
    const { body } = await server.call("POST", "/v1/jobs", { type: "t", params: { a: 1 } });
    const stream = await openStream({
      url: server.url,
      path: `/v1/events?jobs=${body.id}`,
      token: server.token(),
    });
    await stream.next();
    await server.call("PATCH", `/v1/jobs/${body.id}`, { progress: 33.5 });
    const event = JSON.parse((await stream.next()).data);
    expect(event).toMatchObject({ version: 2, progress: 33.5 });
    expect(event.occurredAt).toMatch(/^\d{4}-.*Z$/);
    await stream.close();
    const { body: list } = await server.call("GET", "/v1/jobs");
    expect(list.items[0]).toMatchObject({ id: body.id, version: 2, params: { a: 1 } });
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
  });

  it.each(["a pool of node-postgres", "a client in a transaction", "Kysely"])(
    "gets jobs as they are from %s",
    async (kind) => {
      const kysely = new Kysely<object>({ dialect: new PostgresDialect({ pool }) });
      const client = kind === "a client in a transaction" ? await pool.connect() : undefined;
      await client?.query("begin");
      const given = client ?? (kind === "Kysely" ? kysely : pool);
      const job = await jobs.create(given, {
        ownerId: "alice",
        type: "t",
        params: { seed: 2 ** 53 - 1, list: [null, 1.5] },
        timeoutSeconds: 60,
      });
      expect(job).toMatchObject({
        version: 1,
        attempt: 1,
        progress: 0,
        credits: { charged: 0, refunded: 0 },
        params: { seed: 2 ** 53 - 1, list: [null, 1.5] },
        batchId: null,
      });
      expect(Date.parse(job.timeoutAt ?? "") - Date.parse(job.createdAt)).toBe(60_000);
      const reported = await jobs.progress(given, job.id, 12.25, {
        counts: { total: 4, completed: 1, failed: 0 },
      });
      expect(reported).toMatchObject({
        version: 2,
        progress: 12.25,
        counts: { total: 4, completed: 1, failed: 0 },
        source: "app",
      });
      expect(await jobs.get(given, job.id)).toEqual(reported);
      expect((await jobs.complete(given, job.id, { ok: true })).result).toEqual({ ok: true });
      await client?.query("commit");
      client?.release();
    },
  );

  it("and functions that would be found before PostgreSQL's gets them as they are", async () => {
    await database.query(`
      create schema theirs;
      create function theirs.to_jsonb(timestamp) returns jsonb language sql as $$ select '"theirs"'::jsonb $$;
      create function theirs.pg_column_size(jsonb) returns integer language sql as $$ select 1 / 0 $$;
      create function theirs.pg_column_compression(jsonb) returns text language sql as $$ select (1 / 0)::text $$;
      create function theirs.octet_length(text) returns integer language sql as $$ select 1 / 0 $$;
      create function theirs.encode(bytea, text) returns text language sql as $$ select 'theirs' $$;
      create function theirs.float8send(float8) returns bytea language sql as $$ select ''::bytea $$;
      grant usage on schema theirs to public`);
    const client = await pool.connect();
    await client.query("begin; set local search_path = theirs, pg_catalog");
    const params = { text: "x".repeat(10_000) };
    const { id } = await jobs.create(client, { ownerId: "alice", type: "t", params });
    const job = await jobs.progress(client, id, 12.5, { message: "m" });
    expect(job).toMatchObject({ progress: 12.5, params, message: "m" });
    expect(job.createdAt).toMatch(/^\d{4}-.*Z$/);
    await client.query("rollback");
    client.release();
  });
});
