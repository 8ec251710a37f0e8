import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { until } from "../support/deadline.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { type Edge, startEdge, versionsOf } from "./edge.ts";

/*
 * The database may hold anything that PostgreSQL takes: rows are older than the rules, restored, or
 * written around them. None of them may keep anybody from the others.
 */

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge.stop());

/** Writes what the rules of the tables would refuse. */
async function writeUnchecked(...statements: string[]): Promise<void> {
  const session = await edge.db.connect();
  await session.query("set session_replication_role = replica");
  for (const statement of statements) await session.query(statement);
  await session.end();
}

const nested = (levels: number) => `${'{"a":['.repeat(levels / 2)}1${"]}".repeat(levels / 2)}`;
const json = (value: string) => `'${value}'::jsonb`;

/** What is written into one job, and into its history, before the service sees it. */
const ROWS: Readonly<Record<string, { set: string; omitted?: string[]; job?: object }>> = {
  "a result nested 5,000 deep": { set: `result = ${json(nested(5_000))}` },
  "params nested 5,000 deep": { set: `params = ${json(nested(5_000))}` },
  "a result of 6 MB": { set: "result = to_jsonb(repeat('x', 6000000))", omitted: ["result"] },
  "a result of 1 GB that is stored in two": {
    set: `result = to_jsonb(repeat(E'\\x01', 180000000))`,
    omitted: ["result"],
  },
  "a message of 6 MB": { set: "message = repeat('ä', 3000000)", omitted: ["message"] },
  "everything at once": {
    set: `message = repeat('m', 5000000), stage = repeat('s', 5000000),
      result = to_jsonb(repeat('r', 5000000)), error = jsonb_build_object('code', 'e', 'message', repeat('e', 5000000))`,
    omitted: ["stage", "message", "result", "error"],
  },
  "a creation at infinity": {
    set: "created_at = 'infinity'",
    job: { createdAt: "9999-12-31T23:59:59.999Z" },
  },
  "a creation before all time": {
    set: "created_at = '-infinity', started_at = '-infinity'",
    job: { createdAt: "0001-01-01T00:00:00.000Z", startedAt: "0001-01-01T00:00:00.000Z" },
  },
  "a deadline at infinity": {
    set: "timeout_at = 'infinity'",
    job: { timeoutAt: null },
  },
  "a deadline in the year 290000": {
    set: "timeout_at = '290000-01-01 00:00+00'",
    job: { timeoutAt: "9999-12-31T23:59:59.999Z" },
  },
  "an update before Christ": {
    set: "updated_at = '4000-01-01 00:00+00 BC', created_at = '4713-01-01 00:00+00 BC'",
    job: { updatedAt: "0001-01-01T00:00:00.000Z" },
  },
  "a message of line breaks": { set: `message = E'a\\r\\n\\ndata: x\\u2028\\u0001"\\\\'` },
};

const HISTORY = ["status", "progress", "stage", "message", "counts", "result", "error"];

/** A job of `alice` in a batch, beside a good one. Its history and it hold the same. */
async function createHostile(set: string): Promise<{ good: string; bad: string; batch: string }> {
  const [made] = await edge.db.query<{ batch: string }>(
    `select id as batch from jobcast.create_batch('alice', 'b', '[{"type":"good"},{"type":"bad"}]')`,
  );
  const batch = made?.batch ?? "";
  const rows = await edge.db.query<{ id: string; type: string }>(
    "select id, type from jobcast.jobs where batch_id = $1",
    [batch],
  );
  const idOf = (type: string) => rows.find((row) => row.type === type)?.id ?? "";
  const [good, bad] = [idOf("good"), idOf("bad")];
  await writeUnchecked(
    `update jobcast.jobs set ${set} where id = '${bad}'`,
    `update jobcast.status_history h set (${HISTORY}, bytes) =
       (select ${HISTORY.map((name) => `j.${name}`)}, null::integer from jobcast.jobs j where j.id = h.job_id)
     where h.job_id = '${bad}'`,
  );
  return { good, bad, batch };
}

const read = (path: string) => edge.server.call("GET", path);

/** Both jobs, each as its newest event says. */
async function expectBoth(stream: StreamClient, ids: readonly string[]): Promise<void> {
  await stream.take(2, ({ type }) => type === "status");
  const told = stream.events.filter(({ type }) => type === "status");
  expect(told.map(({ data }) => JSON.parse(data).jobId).sort()).toEqual([...ids].sort());
}

describe.each(Object.entries(ROWS))("%s", (_, { set, omitted = [], job: expected = {} }) => {
  let good: string;
  let bad: string;
  let batch: string;

  beforeAll(async () => {
    ({ good, bad, batch } = await createHostile(set));
  });
  // The list of the next ones is theirs.
  afterAll(() => writeUnchecked(`delete from jobcast.jobs where batch_id = '${batch}'`));

  it("is in every answer about jobs, and so are the others", async () => {
    const { status, body } = await read(`/v1/jobs/${bad}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: bad, ...expected });
    expect((body.omitted ?? []).toSorted()).toEqual(omitted.toSorted());
    for (const path of ["/v1/jobs?owner=alice", "/v1/jobs", `/v1/jobs?batch=${batch}`]) {
      const list = await read(path);
      expect(list.status).toBe(200);
      expect(list.body.items.map(({ id }: { id: string }) => id)).toEqual(
        expect.arrayContaining([good, bad]),
      );
    }
    const history = await read(`/v1/jobs/${bad}/history`);
    expect(history.body.items.map(({ version }: { version: number }) => version)).toEqual([1]);
    expect(history.body.items[0].omitted ?? []).toEqual(omitted);
  });

  it("is walked over page by page", async () => {
    const seen: string[] = [];
    for (let cursor = ""; ; ) {
      const { status, body } = await read(`/v1/jobs?batch=${batch}&limit=1${cursor}`);
      expect(status).toBe(200);
      seen.push(...body.items.map(({ id }: { id: string }) => id));
      if (body.nextCursor === null) break;
      cursor = `&cursor=${body.nextCursor}`;
    }
    expect(seen.sort()).toEqual([good, bad].sort());
  });

  it("is told to its viewers, and the others to theirs", async () => {
    const stream = await edge.openJob(bad, { lastEventId: "0" });
    const event = JSON.parse((await stream.next(({ type }) => type === "status")).data);
    expect(event).toMatchObject({ jobId: bad, version: 1 });
    expect(event.omitted ?? []).toEqual(omitted);
    for (const name of omitted) expect(event[name]).toBeNull();
    await expectBoth(await edge.open("/v1/events"), [good, bad]);
    await expectBoth(await edge.open(`/v1/events?batch=${batch}`), [good, bad]);
    await expectBoth(await edge.open(`/v1/events?jobs=${good},${bad}`), [good, bad]);
    const poll = await read(`/v1/jobs/${bad}/events?after=0&wait=0`);
    expect(poll.body.events).toHaveLength(1);
    const polled = new Set<string>();
    for (let after = ""; polled.size < 2; ) {
      const { status, body } = await read(`/v1/events?batch=${batch}&wait=0${after}`);
      expect(status).toBe(200);
      for (const { jobId } of body.events) polled.add(jobId);
      after = `&after=${body.cursor}`;
    }
  });

  it("goes on while it is watched, without a hole, and ends", async () => {
    const streams = [await edge.openJob(bad), await edge.open(`/v1/events?batch=${batch}`)];
    await streams[0]?.next();
    await streams[1]?.take(2, ({ type }) => type === "status");
    await edge.db.query("update jobcast.jobs set stage = 'on' where id = $1", [bad]);
    await edge.report(good, 50);
    const cancelled = await edge.server.call("POST", `/v1/jobs/${bad}/cancel`);
    expect([cancelled.status, cancelled.body.status]).toEqual([200, "cancelled"]);
    const [ofJob, ofBatch] = streams as [StreamClient, StreamClient];
    await ofJob.ended;
    expect(versionsOf(ofJob.events)).toEqual([1, 2, 3]);
    await ofBatch.take(3, ({ type }) => type === "status");
    const later = ofBatch.events.map(({ data }) => JSON.parse(data));
    expect(later.filter(({ jobId }) => jobId === bad).map(({ version }) => version)).toEqual([
      1, 2, 3,
    ]);
    const again = await edge.openJob(bad, { lastEventId: "1" });
    await again.ended;
    expect(versionsOf(again.events)).toEqual([2, 3]);
  });
});

describe("the sweeper", () => {
  it("ends whom it can, whatever the deadlines of the others", async () => {
    const deadlines = ["-infinity", "4000-01-01 00:00+00 BC", "infinity", "290000-01-01 00:00+00"];
    const jobs = await Promise.all(deadlines.map(() => edge.newJob()));
    await writeUnchecked(
      ...jobs.map(
        (id, index) =>
          `update jobcast.jobs set timeout_at = '${deadlines[index]}' where id = '${id}'`,
      ),
    );
    const overdue = await edge.newJob();
    await writeUnchecked(
      `update jobcast.jobs set timeout_at = now() - interval '1 s' where id = '${overdue}'`,
    );
    const statuses = async () => {
      const ids = [overdue, ...jobs];
      const answers = await Promise.all(ids.map((id) => read(`/v1/jobs/${id}`)));
      return answers.map(({ body }) => body.status).join(" ");
    };
    const expected = "timeout timeout timeout pending pending";
    await until(
      async () => (await statuses()) === expected,
      10_000,
      "those that are overdue to end",
    );
  });
});

describe("the process", () => {
  it("has survived all of it, and has nothing to say about it", async () => {
    expect((await fetch(`${edge.server.url}/readyz`)).status).toBe(200);
    const errors = edge.server.logged.filter((line) => /"level":(50|60)/.test(line));
    expect(errors).toEqual([]);
  });
});
