import { afterAll, beforeAll, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const JOBS = 4_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

/** Rows that one statement makes its triggers compare, by what the executor counted. */
async function comparisonsOf(session: Awaited<ReturnType<TestDatabase["connect"]>>, sql: string) {
  const notices: string[] = [];
  session.on("notice", ({ message }) => notices.push(message ?? ""));
  await session.query("load 'auto_explain'");
  await session.query(`set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on; set auto_explain.log_timing = off; set auto_explain.log_level = notice;
    set auto_explain.log_format = json`);
  await session.query(sql);
  await session.query("set auto_explain.log_min_duration = -1");
  const rows = notices.flatMap((text) =>
    [...text.matchAll(/"(?:Rows Removed by (?:Join )?Filter|Actual Rows)": ([\d.]+)/g)].map(
      ([, count]) => Number(count),
    ),
  );
  return Math.max(...rows);
}

it.each([
  ["jobs", ""],
  ["jobs of a batch, with credits", "credits"],
])("an update of many %s is not quadratic, whatever plan the session keeps", async (_, kind) => {
  const owner = `many ${kind}`;
  await database.query("select jobcast.grant_credits($1, 1000000)", [owner]);
  const batch = kind
    ? (
        await database.query<{ id: string }>(
          `select (jobcast.create_batch($1, 'b', '[{"type":"t"}]')).id`,
          [owner],
        )
      )[0]?.id
    : null;
  await database.query(
    `insert into jobcast.jobs (owner_id, type, batch_id, credits)
     select $1, 't', $2, $3 from generate_series(1, $4)`,
    [owner, batch, kind ? 1 : 0, JOBS],
  );
  const session = await database.connect();
  const ids = (
    await session.query("select id from jobcast.jobs where owner_id = $1 limit 10", [owner])
  ).rows;
  // The plans of the triggers are made, and kept, for statements of one row.
  for (const { id } of ids) {
    await session.query("update jobcast.jobs set progress = 10 where id = $1", [id]);
    await session.query("update jobcast.jobs set status = 'cancelled' where id = $1", [id]);
  }
  for (const change of ["progress = 20", "status = 'failed'"]) {
    const most = await comparisonsOf(
      session,
      `update jobcast.jobs set ${change} where owner_id = '${owner}' and status <> 'cancelled'`,
    );
    expect(most).toBeGreaterThanOrEqual(JOBS - 10);
    expect(most).toBeLessThan(JOBS * 10);
  }
  await session.end();
});
