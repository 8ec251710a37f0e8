import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { expectOneListener, readyz, untilAsleep } from "./listener.ts";
import { change, changesOf, createJobs, openWatch, type Watch } from "./watch.ts";

let db: TestDatabase;
let server: TestServer;
let jobs: string[];
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  jobs = await createJobs(db, 2);
  watch = await openWatch(server, db, jobs);
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.drop();
});

const payloads = [
  ...["", "not json", "null", "[]", "{}", "undefined", '{"job_id":{}}', "9007199254740993"],
  "é".repeat(3_950), // 7.9 kB; PostgreSQL takes 7,999 bytes
];

for (const payload of payloads) {
  it(`is woken by a notification of ${JSON.stringify(payload.slice(0, 20))}, and by nothing more`, async () => {
    await db.query("select pg_notify('jobcast', $1)", [payload]);
    for (const id of jobs) await change(db, id);
    await db.query("select pg_notify('jobcast', $1)", [payload]);

    await watch.expectAll();
    expect(await readyz(server)).toMatchObject({ status: 200, feed: "asleep" });
    expect(server.logged.filter((line) => JSON.parse(line).level > 30)).toEqual([]);
    await expectOneListener(db);
  });
}

it("shows nobody what a forged notification says", async () => {
  const [job = ""] = jobs;
  const role = `forger_${db.name}`;
  await db.query(`create role ${role}`);
  const forger = await db.connect();
  await forger.query(`set role ${role}`);
  const forged = { job_id: job, jobId: job, version: 2, status: "completed", progress: 100 };
  await forger.query("select pg_notify('jobcast', $1)", [JSON.stringify(forged)]);
  await forger.end();
  await db.query(`drop role ${role}`);
  await change(db, job);

  await watch.expectAll();
  const statuses = [watch.all, ...watch.jobs.values()].flatMap(({ events }) =>
    events.map(({ data }) => JSON.parse(data).status),
  );
  expect(statuses).not.toContain("completed");
  expect(changesOf(watch.jobs.get(job) ?? watch.all)).toEqual([
    [job, 1],
    [job, 2],
  ]);
});

it("keeps up with rings that come faster than it can read", async () => {
  const flood = db.query("select pg_notify('jobcast', n::text) from generate_series(1, 20000) n");
  for (let round = 0; round < 10; round += 1) for (const id of jobs) await change(db, id);
  await flood;
  await watch.expectAll();
  await untilAsleep(server);
  await expectOneListener(db);
});
