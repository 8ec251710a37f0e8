import { randomBytes } from "node:crypto";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

async function createJob(): Promise<string> {
  const rows = await database.query<{ id: string }>(
    "insert into jobcast.jobs (owner_id, type) values ('ada', 't') returning id",
  );
  return rows[0]?.id ?? "";
}

async function statuses(id: string): Promise<string[]> {
  const rows = await database.query<{ status: string }>(
    "select status from jobcast.status_history where job_id = $1 order by version",
    [id],
  );
  return rows.map(({ status }) => status);
}

describe("a role with nothing but UPDATE on jobs", () => {
  const role = `jobcast_writer_${randomBytes(4).toString("hex")}`;
  let session: Client;
  beforeAll(async () => {
    await database.query(`create role ${role}`);
    await database.query(`grant usage on schema jobcast to ${role}`);
    await database.query(`grant select, update on jobcast.jobs to ${role}`);
    session = await database.connect();
    await session.query(`set role ${role}`);
  });
  afterAll(async () => {
    await session.query("reset role");
    await database.query(`drop owned by ${role}`);
    await database.query(`drop role ${role}`);
  });

  it("updates, and history is written for it", async () => {
    const id = await createJob();
    await session.query("update jobcast.jobs set progress = 10 where id = $1", [id]);
    await session.query("select jobcast.complete_job($1)", [id]);
    expect(await statuses(id)).toEqual(["pending", "processing", "completed"]);
  });

  it("cannot write history itself", async () => {
    const id = await createJob();
    for (const statement of [
      "insert into jobcast.status_history select * from jobcast.status_history where job_id = $1",
      "update jobcast.status_history set status = 'failed' where job_id = $1",
      "delete from jobcast.status_history where job_id = $1",
    ]) {
      await expect(session.query(statement, [id])).rejects.toMatchObject({ code: "42501" });
    }
  });
});

describe("objects of the same names elsewhere", () => {
  it("are not used by the rules, however the search path is set", async () => {
    const [id, other] = [await createJob(), await createJob()];
    const session = await database.connect();
    // Whatever is called by mistake fails.
    const trap = (signature: string, returns: string) => `
      create function public.${signature} returns ${returns} language plpgsql
      as $$ begin raise exception 'the trap ${signature}'; end $$`;
    await session.query(trap("clock_timestamp()", "timestamptz"));
    await session.query(trap("pg_current_xact_id()", "xid8"));
    await session.query(trap("pg_try_advisory_lock(bigint)", "boolean"));
    await session.query(trap("pg_notify(text, text)", "void"));
    await session.query(trap("current_setting(text, boolean)", "text"));
    await session.query(trap("set_config(text, text, boolean)", "text"));
    await session.query(trap("is_final(text)", "boolean"));
    await session.query(trap("trap_text(text, text)", "boolean"));
    await session.query(trap("trap_float(float8, float8)", "boolean"));
    for (const operator of ["=", "<>"]) {
      await session.query(
        `create operator public.${operator} (leftarg = text, rightarg = text, function = public.trap_text)`,
      );
    }
    await session.query(
      "create operator public.< (leftarg = float8, rightarg = float8, function = public.trap_float)",
    );
    for (const table of ["jobs", "status_history", "before", "after", "inserted", "old", "new"]) {
      await session.query(`create temp table ${table} (trap integer)`);
    }

    await session.query("set search_path = pg_temp, public, pg_catalog");
    await session.query("update jobcast.jobs set status = 'queued' where id = $1", [id]);
    await session.query("select jobcast.report_progress($1, 50)", [id]);
    await session.query("select jobcast.update_jobs($1)", [
      JSON.stringify([
        { id, progress: 60 },
        { id: other, status: "failed" },
      ]),
    ]);
    await session.query("select jobcast.retry_job($1)", [other]);
    await session.query("select jobcast.create_job('ada', 'trapped')");
    expect(await statuses(id)).toEqual(["pending", "queued", "processing", "processing"]);
    expect(await statuses(other)).toEqual(["pending", "failed", "pending"]);
  });
});
