import { randomBytes } from "node:crypto";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { codeBlocks } from "../support/markdown.ts";

let database: TestDatabase;
const roles: string[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(async () => {
  for (const role of roles) await database.query(`drop owned by ${role}; drop role ${role}`);
  await database.drop();
});

/** A session of a role that was given just this, `worker` standing for its name. */
async function sessionOf(...grants: string[]): Promise<Client> {
  const role = `jobcast_role_${randomBytes(4).toString("hex")}`;
  roles.push(role);
  await database.query(`create role ${role}`);
  for (const grant of grants) {
    if (!/^create role/.test(grant)) await database.query(grant.replace(/\bworker\b/, role));
  }
  const session = await database.connect();
  await session.query(`set role ${role}`);
  return session;
}

/** What docs/sql.md says that a worker needs. */
async function documentedGrants(): Promise<string[]> {
  const [block = ""] = await codeBlocks("docs/sql.md", "sql");
  return block.split(";\n").filter((statement) => statement.trim() !== "");
}

async function createJob(owner = "ada", credits = 0): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select id from jobcast.create_job($1, 't', credits => $2)",
    [owner, credits],
  );
  return job?.id ?? "";
}

describe("functions that run as their owner", () => {
  it("have a search path of their own, and are not everybody's to call", async () => {
    const open = await database.query(
      `select p.oid::regprocedure::text as function
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname = 'jobcast' and p.prosecdef and (
         exists (
           select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           where a.grantee = 0 and a.privilege_type = 'EXECUTE'
         )
         or not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
       )`,
    );
    expect(open).toEqual([]);
  });

  const TRIGGERS = [
    "tg_jobs__on_insert",
    "tg_jobs__append_history",
    "tg_jobs__charge",
    "tg_jobs__settle",
    "tg_jobs__note_batch_changes",
    "tg_jobs__note_deletions",
    "tg_batch_changes__settle",
  ];

  it("are the triggers, and four functions that a producer may be given", async () => {
    const definers = await database.query<{ name: string }>(
      `select p.proname as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname = 'jobcast' and p.prosecdef order by p.oid`,
    );
    expect(definers.map(({ name }) => name).sort()).toEqual(
      [...TRIGGERS, "add_jobs", "adjust_credits", "create_batch", "grant_credits"].sort(),
    );
  });

  it("cannot be attached to a table of one's own by a role with the documented grants", async () => {
    const session = await sessionOf(...(await documentedGrants()));
    await session.query("create temp table mine (like jobcast.jobs including defaults)");
    for (const name of TRIGGERS) {
      const create = `create trigger t after insert on mine referencing new table as after
        for each statement execute function jobcast.${name}()`;
      await expect(session.query(create)).rejects.toMatchObject({ code: "42501" });
    }
  });

  it("do nothing there either, for whoever may execute all functions", async () => {
    const session = await sessionOf(
      "grant usage on schema jobcast to worker",
      "grant select on jobcast.jobs to worker",
      "grant execute on all functions in schema jobcast to worker",
    );
    await session.query("create temp table mine (like jobcast.jobs including defaults)");
    const victim = await createJob("victim");
    for (const name of TRIGGERS) {
      const timing = name === "tg_jobs__on_insert" ? "before" : "after";
      const transition = timing === "after" ? "referencing new table as after" : "";
      const level = timing === "after" ? "statement" : "row";
      await session.query(
        `create or replace trigger t ${timing} insert on mine ${transition}
         for each ${level} execute function jobcast.${name}()`,
      );
      const forged = `insert into mine (id, owner_id, type, status, credits, version, attempt, progress)
        values ('${victim}', 'mallory', 't', 'completed', -1000000, 2, 1, 100)`;
      await expect(session.query(forged), name).rejects.toMatchObject({ code: "42501" });
      await session.query("drop trigger t on mine");
    }
    const minted = `select jobcast.post_credits('[{"owner_id": "mallory", "kind": "grant", "amount": 9}]')`;
    await expect(session.query(minted)).rejects.toMatchObject({ code: "42501" });
    expect(await database.query("select from jobcast.credit_transactions")).toEqual([]);
    expect(
      await database.query("select from jobcast.status_history where job_id = $1", [victim]),
    ).toHaveLength(1);
  });
});

describe("a role that was granted everything on all tables", () => {
  let session: Client;
  beforeAll(async () => {
    session = await sessionOf(
      "grant usage on schema jobcast to worker",
      "grant all on all tables in schema jobcast to worker",
      "grant execute on function jobcast.create_batch to worker",
    );
    await database.query("select jobcast.grant_credits('ada', 100)");
    await database.query(`select jobcast.create_batch('ada', 'b', '[{"type": "t"}]')`);
  });

  it.each([
    [
      "history",
      `insert into jobcast.status_history (job_id, version, attempt, status, progress, source)
       select id, 99, 1, 'completed', 100, 'api' from jobcast.jobs limit 1`,
    ],
    ["history", "update jobcast.status_history set status = 'failed'"],
    ["history", "delete from jobcast.status_history"],
    [
      "history",
      `insert into jobcast.deletions (job_id, version, status, owner_id)
       values (gen_random_uuid(), 1, 'completed', 'ada')`,
    ],
    ["deletions", "delete from jobcast.deletions"],
    ["batches", "insert into jobcast.batches (owner_id) values ('ada')"],
    ["batches", "update jobcast.batches set completed = 1"],
    ["batches", "delete from jobcast.batches"],
    [
      "batches",
      `insert into jobcast.batch_changes
       select id, pg_current_xact_id(), 1, 0, 0, 0, 0, 0 from jobcast.batches`,
    ],
    ["credits", "update jobcast.credit_accounts set updated_at = now()"],
    ["credits", "delete from jobcast.credit_accounts"],
    [
      "credits",
      `insert into jobcast.credit_transactions (owner_id, entry, kind, amount, balance_after)
       values ('ada', 2, 'grant', 9, 109)`,
    ],
    [
      "deliveries",
      "insert into jobcast.webhook_deliveries (job_id, webhook_id) select id, 'x' from jobcast.jobs",
    ],
    ["keys", "update jobcast.signing_keys set name = name"],
    ["keys", "delete from jobcast.signing_keys"],
    ["migrations", "delete from jobcast.migrations"],
    ["migrations", "insert into jobcast.migrations (id, name) values (999999, 'x')"],
  ])("writes no %s by hand: %s", async (_, statement) => {
    await expect(session.query(statement)).rejects.toMatchObject({ code: "42501" });
  });

  it("writes them by the functions, and by changing jobs", async () => {
    const { rows } = await session.query(
      `select id, total from jobcast.create_batch('ada', 'b', '[{"type": "t", "credits": 10}]')`,
    );
    expect(rows).toMatchObject([{ total: 1 }]);
    await session.query("update jobcast.jobs set status = 'failed' where batch_id = $1", [
      rows[0].id,
    ]);
    const ended = await session.query(
      `select b.status, count(h.*)::int as versions, a.balance
       from jobcast.batches b
       join jobcast.jobs j on j.batch_id = b.id
       join jobcast.status_history h on h.job_id = j.id
       join jobcast.credit_accounts a on a.owner_id = b.owner_id
       where b.id = $1 group by b.status, a.balance`,
      [rows[0].id],
    );
    expect(ended.rows).toEqual([{ status: "failed", versions: 2, balance: 100 }]);
  });

  it("truncates nothing", async () => {
    const tables = await database.query<{ name: string }>(
      "select tablename as name from pg_tables where schemaname = 'jobcast'",
    );
    expect(tables.length).toBeGreaterThan(9);
    for (const { name } of tables) {
      await expect(session.query(`truncate jobcast.${name} cascade`), name).rejects.toMatchObject({
        code: "JC005",
      });
    }
  });
});
