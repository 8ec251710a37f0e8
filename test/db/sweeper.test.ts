import { afterEach, beforeEach, expect, it } from "vitest";
import { Lane } from "../../src/db/lane.ts";
import { createSweeper, type Sweeper } from "../../src/db/sweeper.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";

let database: TestDatabase;
let lane: Lane;
let sweeper: Sweeper;
let warnings: object[];

beforeEach(async () => {
  database = await createTestDatabase();
  const name = "jobcast sweeper test";
  lane = new Lane({
    connectionString: database.url,
    name,
    work: "service",
    size: 2,
    onError: () => undefined,
  });
  warnings = [];
  sweeper = createSweeper(lane, { warn: (details) => warnings.push(details) });
});
afterEach(async () => {
  await sweeper.stop();
  await lane.end();
  await database.drop();
});

const makeOverdue = (type: string, count: number) =>
  database.query(
    `insert into jobcast.jobs (owner_id, type, timeout_at)
     select 'ada', $1, now() - make_interval(secs => $2 - n) from generate_series(1, $2::integer) n`,
    [type, count],
  );

const countOf = async (type: string, status: string) => {
  const [row] = await database.query<{ count: number }>(
    "select count(*) from jobcast.jobs where type = $1 and status = $2",
    [type, status],
  );
  return row?.count;
};

/** What an application may have hung on our table. */
async function refuseEnds(trigger: string): Promise<void> {
  await database.query(`
    create function public.refuse() returns trigger language plpgsql as $$
    begin raise exception 'not this one'; end $$;
    ${trigger}`);
}

it("goes on behind more jobs that cannot be ended than it takes at once", async () => {
  await refuseEnds(`create trigger refuse before update on jobcast.jobs for each row
    when (new.type = 'stuck') execute function public.refuse()`);
  await makeOverdue("stuck", 1_100);
  await makeOverdue("free", 2);
  sweeper.start();
  await until(async () => (await countOf("free", "timeout")) === 2, 20_000, "the others' end");
  expect(await countOf("stuck", "pending")).toBe(1_100);
  expect(warnings[0]).toMatchObject({ problem: "P0001: not this one", count: 1_000 });
}, 30_000);

it("goes on behind one whose end cannot be committed", async () => {
  await refuseEnds(`create constraint trigger refuse after update on jobcast.jobs
    deferrable initially deferred for each row
    when (new.type = 'stuck') execute function public.refuse()`);
  await makeOverdue("stuck", 1);
  await makeOverdue("free", 200);
  sweeper.start();
  await until(async () => (await countOf("free", "timeout")) === 200, 20_000, "the others' end");
  expect(await countOf("stuck", "pending")).toBe(1);
  expect(warnings).toEqual([expect.objectContaining({ problem: "not this one", count: 1 })]);
}, 30_000);
