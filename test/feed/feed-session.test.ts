import { afterEach, beforeEach, expect, it } from "vitest";
import { type FeedPage, openFeedSession } from "../../src/db/feed-session.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";

let db: TestDatabase;

beforeEach(async () => {
  db = await createTestDatabase();
});

afterEach(async () => {
  await db.drop();
});

/** Rows of jobs that were ever read; a session tells when it ends. */
async function jobsRead(): Promise<number> {
  const [row] = await db.query<{ rows: number }>(
    `select seq_tup_read + idx_tup_fetch as rows from pg_stat_user_tables
     where schemaname = 'jobcast' and relname = 'jobs'`,
  );
  return row?.rows ?? 0;
}

it("does not read all jobs for some changes, also in a session without settings", async () => {
  const writer = await db.connect();
  await writer.query(
    "insert into jobcast.jobs (owner_id, type) select 'alice', 'test' from generate_series(1, 20000)",
  );
  await writer.query("analyze jobcast.jobs, jobcast.status_history");
  const session = await openFeedSession({
    connectionString: db.url,
    signal: new AbortController().signal,
    isWatched: () => true,
    readValues: () => Promise.reject(new Error("no row here is large")),
    onUnread: (error) => expect.unreachable(String(error)),
  });
  const since = await session.currentSnapshot();
  await writer.query(
    "update jobcast.jobs set message = 'new' where id in (select id from jobcast.jobs order by random() limit 500)",
  );
  await writer.end();
  const before = await jobsRead();
  let changes = 0;
  for await (const page of session.read(since)) changes += page.changes.length;
  session.destroy();

  expect(changes).toBe(500);
  const after = await until(
    async () => {
      const rows = await jobsRead();
      return rows > before && rows;
    },
    5_000,
    "the statistics of the session",
  );
  expect(after - before).toBe(500);
});

it("reads four megabytes of values for everybody, however many pages there are of them", async () => {
  const writer = await db.connect();
  await writer.query(
    "insert into jobcast.jobs (owner_id, type) select 'alice', 'test' from generate_series(1, 3000)",
  );
  let bytes = 0;
  const session = await openFeedSession({
    connectionString: db.url,
    signal: new AbortController().signal,
    isWatched: () => true,
    readValues: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      const rows = await db.query<Row>(text, [...(values ?? [])]);
      bytes += JSON.stringify(rows).length;
      return rows;
    },
    onUnread: (error) => expect.unreachable(String(error)),
  });
  const since = await session.currentSnapshot();
  await writer.query("update jobcast.jobs set message = repeat('m', 50000)");
  let [changes, pages] = [0, 0];
  for await (const page of session.read(since)) {
    changes += page.changes.length;
    pages += 1;
  }
  session.destroy();
  await writer.end();

  expect(changes).toBe(3_000);
  expect(pages).toBe(4);
  await until(
    () => bytes > 3_000_000,
    5_000,
    () => `the values; ${bytes} bytes were read`,
  );
  expect(bytes).toBeLessThan(4.5 * 1_048_576);
});

it("waits for no values that take long, and does not ask for more of them meanwhile", async () => {
  const asked: { finish: () => void }[] = [];
  const session = await openFeedSession({
    connectionString: db.url,
    signal: new AbortController().signal,
    isWatched: () => true,
    readValues: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      await new Promise<void>((finish) => asked.push({ finish }));
      return db.query<Row>(text, [...(values ?? [])]);
    },
    onUnread: (error) => expect.unreachable(String(error)),
  });
  const change = async () => {
    const since = await session.currentSnapshot();
    await db.query(
      "insert into jobcast.jobs (owner_id, type, message) values ('alice', 'test', repeat('x', 50000))",
    );
    const pages: FeedPage[] = [];
    for await (const page of session.read(since)) pages.push(page);
    return pages.flatMap(({ changes }) => changes);
  };
  for (const _ of ["the first", "the second"]) {
    expect(await change()).toEqual([expect.objectContaining({ json: undefined })]);
    expect(asked).toHaveLength(1);
  }
  asked[0]?.finish();
  await until(() => change().then(() => asked.length === 2), 5_000, "the next large value");
  session.destroy();
});
