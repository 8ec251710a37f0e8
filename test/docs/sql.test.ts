import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { jobs } from "../../src/jobs/jobs.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { codeBlocks } from "../support/markdown.ts";

let database: TestDatabase;
let client: pg.Client;

beforeEach(async () => {
  database = await createTestDatabase();
  client = await database.connect();
});

afterEach(async () => {
  await client.end();
  await database.drop();
});

async function createMesh(): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select id from jobcast.create_job(owner_id => 'alice', type => 'mesh')",
  );
  return job?.id ?? "";
}

const life = (id: string) =>
  database.query<{ status: string; progress: number; stage: string; result: unknown }>(
    "select status, progress, stage, result from jobcast.status_history where job_id = $1 order by version",
    [id],
  );

const RESULT = { url: "https://example.com/mesh.glb" };

describe("docs/sql.md", () => {
  it("holds statements that run, for a role that has just the grants it names", async () => {
    const role = `worker_${randomBytes(4).toString("hex")}`;
    const [grants = "", ...statements] = await codeBlocks("docs/sql.md", "sql");
    await client.query(grants.replaceAll("worker", role));
    try {
      const [created = "", update = "", types = ""] = statements;
      await client.query(`set role ${role}`);
      expect((await client.query(created)).rows).toMatchObject([{ status: "pending", version: 1 }]);
      expect((await client.query(update)).rowCount).toBe(1);
      // The functions of the package need no more.
      const { id } = await jobs.create(client, { ownerId: "alice", type: "mesh" });
      await jobs.progress(client, id, 40);
      const done = await jobs.complete(client, id, RESULT);
      expect(done).toMatchObject({ status: "completed", version: 3, result: RESULT });
      expect(await jobs.get(client, id)).toMatchObject({ version: 3, result: RESULT });
      await client.query("reset role");
      expect((await client.query(types)).rowCount).toBe(1);
      expect(statements).toHaveLength(3);
    } finally {
      await client.query(`reset role; drop owned by ${role}; drop role ${role}`);
    }
  });

  it("names every function that a producer can call, with its parameters in their order", async () => {
    const document = await readFile("docs/sql.md", "utf8");
    const functions = await database.query<{ name: string; parameters: string[] }>(
      `select p.proname as name, p.proargnames[1:p.pronargs] as parameters
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname = 'jobcast' and p.proname ~ '_(job|jobs|progress|batch)$' and p.prorettype <> 'trigger'::regtype
         and p.proname not in ('apply_callback', 'effective_progress', 'first_jobs', 'insert_jobs')`,
    );
    expect(functions.length).toBeGreaterThan(10);
    for (const { name, parameters } of functions) {
      const call = new RegExp(`\`jobcast\\.${name}\\(([^)]*)\\)`).exec(document);
      expect(call, `docs/sql.md does not tell of ${name}`).not.toBeNull();
      const told = (call?.[1] ?? "").split(", ").filter((word) => word !== "..." && word !== "");
      expect(parameters.slice(0, told.length), name).toEqual(told);
    }
  });
});

describe("docs/workers.md", () => {
  it("takes a job through its life with the SQL of the psql worker", async () => {
    const id = await createMesh();
    const [script = ""] = await codeBlocks("docs/workers.md", "sql");
    const [claim = "", reports = ""] = script.split("\\gset");
    const { rows } = await client.query(claim);
    expect(rows).toMatchObject([{ id, attempt: 1 }]);
    // What psql puts in for :'id' and :attempt.
    await client.query(reports.replaceAll(":'id'", `'${id}'`).replaceAll(":attempt", "1"));
    expect(await life(id)).toMatchObject([
      { status: "pending" },
      { status: "processing", stage: "loading" },
      { progress: 40, stage: "inference" },
      { status: "completed", progress: 100, result: RESULT },
    ]);
  });

  it("takes a job through its life with the SQL of the Python worker", async () => {
    const id = await createMesh();
    const [program = ""] = await codeBlocks("docs/workers.md", "python");
    const statement = (name: string) => {
      const sql = new RegExp(`^${name} = """([\\s\\S]*?)"""`, "m").exec(program)?.[1] ?? "";
      // psycopg sends %(name)s as $1, $2, ...
      const names = [...sql.matchAll(/%\((\w+)\)s/g)].map(([, key = ""]) => key);
      const text = names.reduce(
        (out, key, index) => out.replace(`%(${key})s`, `$${index + 1}`),
        sql,
      );
      return (values: Record<string, unknown>) =>
        client.query(
          text,
          names.map((key) => values[key]),
        );
    };
    expect((await statement("CLAIM")({ type: "mesh" })).rows).toMatchObject([{ id, attempt: 1 }]);
    await statement("PROGRESS")({ id, progress: 40, stage: "inference", attempt: 1 });
    await statement("COMPLETE")({ id, result: JSON.stringify(RESULT), attempt: 1 });
    expect((await life(id)).at(-1)).toMatchObject({ status: "completed", result: RESULT });

    const other = await createMesh();
    await statement("CLAIM")({ type: "mesh" });
    await statement("FAIL")({ id: other, code: "model_error", message: "no", attempt: 1 });
    expect((await life(other)).at(-1)).toMatchObject({ status: "failed" });
  });

  it("takes a job through its life with the SQL of the Go worker", async () => {
    const id = await createMesh();
    const [program = ""] = await codeBlocks("docs/workers.md", "go");
    const statement = (name: string) =>
      new RegExp(`${name}\\s*= \`([\\s\\S]*?)\``).exec(program)?.[1] ?? "";
    const { rows } = await client.query(statement("claim"), ["mesh"]);
    expect(rows).toMatchObject([{ id, attempt: 1 }]);
    await client.query(statement("progress"), [id, 40, "inference", 1]);
    await client.query(statement("complete"), [id, JSON.stringify(RESULT), 1]);
    expect((await life(id)).at(-1)).toMatchObject({ status: "completed", result: RESULT });
  });

  it("goes on with the loop in Node, over a lost connection and a job that fails", async () => {
    const [program = ""] = await codeBlocks("docs/workers.md", "js");
    const folder = await mkdtemp(join(tmpdir(), "jobcast-worker-"));
    const modules = new URL("../../node_modules", import.meta.url).pathname;
    await symlink(modules, join(folder, "node_modules"));
    const failing = program.replace('await report(40, "inference");', 'await report("much", "x");');
    expect(failing).not.toBe(program);
    const run = async (code: string) => {
      await writeFile(join(folder, "worker.mjs"), code);
      const url = new URL(database.url);
      url.searchParams.set("application_name", "the worker");
      const env = { ...process.env, DATABASE_URL: url.href };
      return spawn(process.execPath, [join(folder, "worker.mjs")], { env, stdio: "ignore" });
    };
    const ends = async (id: string, status: string) =>
      until(
        async () => (await life(id)).at(-1)?.status === status,
        20_000,
        () => `the end of ${id}`,
      );
    const worker = await run(program);
    try {
      await ends(await createMesh(), "completed");
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'the worker'",
      );
      await ends(await createMesh(), "completed");
    } finally {
      worker.kill("SIGKILL");
    }
    const other = await run(failing);
    await ends(await createMesh(), "failed").finally(() => other.kill("SIGKILL"));
    await rm(folder, { recursive: true, force: true });
  });

  it("gives a type a timeout that reports extend", async () => {
    const [, sql = ""] = await codeBlocks("docs/workers.md", "sql");
    await client.query(sql);
    const id = await createMesh();
    const [job] = await database.query(
      "select timeout_seconds, timeout_extends from jobcast.jobs where id = $1",
      [id],
    );
    expect(job).toEqual({ timeout_seconds: 120, timeout_extends: true });
  });
});
