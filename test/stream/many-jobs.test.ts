import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { formatCursor } from "../../src/change/cursor.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { type Edge, isState, startEdge } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

/** An owner of the test's own, so that tests do not see each other's jobs. */
let owners = 0;
function newOwner() {
  owners += 1;
  const sub = `owner-${owners}`;
  const token = edge.server.token({ sub, scope: "" });
  const open = (path = "/v1/events", lastEventId?: string) =>
    edge.open(path, { token, ...(lastEventId !== undefined && { lastEventId }) });
  return { sub, token, open, newJob: () => edge.newJob(sub) };
}

/** `job:version` of each state, in order. */
function statesOf(events: readonly StreamEvent[]): string[] {
  return events
    .filter(({ type }) => type === "status")
    .map(({ data }) => JSON.parse(data))
    .map(({ jobId, version }) => `${jobId}:${version}`);
}

async function epochOf(stream: StreamClient): Promise<string> {
  const { lastEventId } = stream.events.find((event) => event.lastEventId) ?? (await stream.next());
  return lastEventId.split("-")[0] ?? "";
}

describe("a stream over many jobs", () => {
  it("of named jobs tells their states first, ended ones too, then what changes", async () => {
    const { newJob, open } = newOwner();
    const [a, b, other] = [await newJob(), await newJob(), await newJob()];
    await edge.complete(b);
    const stream = await open(`/v1/events?jobs=${a},${b.toUpperCase()},${a}`);
    await stream.take(2);
    expect(statesOf(stream.events).sort()).toEqual([`${a}:1`, `${b}:2`].sort());
    await edge.report(other, 10);
    await edge.report(a, 10);
    await stream.next();
    expect(statesOf(stream.events).at(-1)).toBe(`${a}:2`);
    expect(stream.events).toHaveLength(3);
    await stream.close();
  });

  it("of an owner tells the unfinished ones first, then every job, new ones too", async () => {
    const { newJob, open } = newOwner();
    const [a, b] = [await newJob(), await newJob()];
    await edge.complete(b);
    await edge.newJob("somebody else");
    const stream = await open();
    await stream.next();
    const c = await newJob();
    await stream.next();
    await edge.complete(c);
    await stream.next();
    expect(statesOf(stream.events)).toEqual([`${a}:1`, `${c}:1`, `${c}:2`]);
    await stream.close();
  });

  it("of a batch tells all its jobs first, then what changes in it", async () => {
    const { sub, newJob, open } = newOwner();
    const other = await newJob();
    const [batch] = await edge.db.query<{ id: string }>(
      `select id from jobcast.create_batch($1, 'three', '[{"type":"a"},{"type":"b"},{"type":"c"}]')`,
      [sub],
    );
    const jobs = await edge.db.query<{ id: string }>(
      "select id from jobcast.jobs where batch_id = $1",
      [batch?.id],
    );
    const stream = await open(`/v1/events?batch=${batch?.id}`);
    await stream.take(3);
    expect(statesOf(stream.events).sort()).toEqual(jobs.map(({ id }) => `${id}:1`).sort());
    await edge.report(other, 10);
    await edge.complete(jobs[1]?.id ?? "");
    await stream.next();
    expect(statesOf(stream.events).at(-1)).toBe(`${jobs[1]?.id}:2`);
    expect(stream.events).toHaveLength(4);
    await stream.close();
  });

  it("moves the last id only with the last event of what was read together", async () => {
    const { sub, newJob, open } = newOwner();
    await Promise.all([newJob(), newJob(), newJob()]);
    const stream = await open();
    const states = await stream.take(3);
    const first = states[2]?.lastEventId ?? "";
    expect(states.map(({ lastEventId }) => lastEventId)).toEqual(["", "", first]);
    await edge.db.query("update jobcast.jobs set progress = 10 where owner_id = $1", [sub]);
    const changes = await stream.take(3);
    const second = changes[2]?.lastEventId;
    expect(changes.map(({ lastEventId }) => lastEventId)).toEqual([first, first, second]);
    expect(second).not.toBe(first);
    expect(second).toMatch(/^[0-9a-z.-]{1,64}$/);
    expect(stream.idOnlyBlocks).toBe(0);
    await stream.close();
  });

  it("has an id from the beginning, even when there is nothing to tell yet", async () => {
    const { open, newJob } = newOwner();
    const away = await open();
    const ready = await away.next();
    expect(ready).toMatchObject({ type: "ready", data: "{}" });
    await away.close();
    // Begins and ends while nobody looks: without an id there would be no way to miss it.
    const id = await newJob();
    await edge.complete(id);
    const back = await open("/v1/events", ready.lastEventId);
    await back.take(2);
    expect(statesOf(back.events)).toEqual([`${id}:1`, `${id}:2`]);
    await back.close();
  });

  it("resumes with exactly what was missed, whatever the order of the commits", async () => {
    const { newJob, open } = newOwner();
    const jobs = await Promise.all(Array.from({ length: 4 }, () => newJob()));
    const [a = "", b = "", c = "", d = ""] = jobs;
    const late = await edge.db.connect();
    await late.query("begin");
    // Takes its transaction id before all the others and commits after them.
    await late.query("select jobcast.report_progress($1, 10)", [a]);
    const first = await open();
    await first.take(4);
    await edge.report(b, 10);
    await first.next();
    await first.close();
    await edge.report(c, 10);
    const second = await open("/v1/events", first.lastEventId);
    await second.next();
    expect(statesOf(second.events)).toEqual([`${c}:2`]);
    await late.query("commit");
    await second.next();
    await edge.report(d, 10);
    await second.next();
    expect(statesOf(second.events)).toEqual([`${c}:2`, `${a}:2`, `${d}:2`]);
    await second.close();
    const third = await open("/v1/events", first.lastEventId);
    await third.take(3);
    expect(statesOf(third.events).sort()).toEqual([`${a}:2`, `${c}:2`, `${d}:2`].sort());
    await third.close();
    const fourth = await open("/v1/events", third.lastEventId);
    expect(await fourth.next()).toMatchObject({ type: "ready" });
    await fourth.close();
  });
});

describe("a last id on a stream over many jobs", () => {
  it.each([
    ["of another database", (id: string) => `zzzzzz-${id.split("-")[1]}`],
    ["of the future", (id: string) => `${id.split("-")[0]}-zzzzzzz.0`],
    ["of a stream of one job", () => "7"],
    ["without a meaning", () => "what?"],
    ["of transactions in disorder", (id: string) => `${id.split("-")[0]}-5.9.4.0`],
    ["of 8 KB", (id: string) => `${id}.${"1".repeat(8_000)}`],
  ])("%s resets the client to the present states, at once", async (_, toId) => {
    const { newJob, open } = newOwner();
    const job = await newJob();
    const first = await open();
    const { lastEventId } = await first.next();
    await first.close();
    const asked = performance.now();
    const stream = await open("/v1/events", toId(lastEventId));
    const [reset, state] = await stream.take(2);
    expect(performance.now() - asked).toBeLessThan(2_000);
    // The reset itself moves nothing: cut here, the client is reset again.
    expect(reset).toEqual({
      type: "reset",
      data: '{"reason":"unknown_cursor"}',
      lastEventId: toId(lastEventId),
    });
    expect(statesOf(stream.events)).toEqual([`${job}:1`]);
    expect(state?.lastEventId.split("-")[0]).toBe(lastEventId.split("-")[0]);
    await edge.report(job, 10);
    await stream.next();
    expect(statesOf(stream.events)).toEqual([`${job}:1`, `${job}:2`]);
    await stream.close();
  });

  it("that means nothing gives a new one even to who has no jobs", async () => {
    const { open } = newOwner();
    const stream = await open("/v1/events", "what?");
    const reset = await stream.next();
    expect(reset).toMatchObject({ type: "reset", lastEventId: expect.stringMatching(/^\w+-/) });
    await stream.close();
  });

  it("that lies behind more than is worth telling resets the client", async () => {
    const { sub, newJob, open } = newOwner();
    const first = await open();
    const { lastEventId } = await first.next();
    await first.close();
    await newJob();
    await edge.db.query(
      `do $$ begin
         insert into jobcast.jobs (owner_id, type)
           select '${sub}', 'x' from generate_series(1, 199);
         for i in 1..51 loop
           update jobcast.jobs set message = i::text where owner_id = '${sub}';
         end loop;
       end $$`,
    );
    const second = await open("/v1/events", lastEventId);
    expect(await second.next()).toMatchObject({ type: "reset" });
    const states = await second.take(200);
    expect(new Set(statesOf(states)).size).toBe(200);
    expect(states.every(({ data }) => JSON.parse(data).version === 52)).toBe(true);
    await second.close();
  });

  it("that was made up shows nobody else's jobs and breaks nothing", async () => {
    const { newJob, open } = newOwner();
    const mine = await newJob();
    const others = await edge.db.query<{ id: string }>(
      "select id from jobcast.jobs where id <> $1",
      [mine],
    );
    const first = await open();
    const epoch = await epochOf(first);
    await first.close();
    const part = fc.oneof(fc.nat(40), fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 70n }));
    const forged = fc
      .array(part, { minLength: 1, maxLength: 6 })
      .map((parts) => `${epoch}-${parts.map((value) => value.toString(36)).join(".")}`);
    await fc.assert(
      fc.asyncProperty(forged, async (cursor) => {
        const stream = await open("/v1/events", cursor);
        expect(stream.status).toBe(200);
        await stream.next();
        await stream.close();
        const text = await stream.body();
        expect(others.filter(({ id }) => text.includes(id))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it("is the same cursor whoever made it", () => {
    const snapshot = { xmin: 1_000, xmax: 1_004, xip: [1_000, 1_002] };
    expect(formatCursor("abc", snapshot)).toBe("abc-rs.4.0.2");
  });
});

describe("what cannot be streamed", () => {
  it.each([
    ["jobs and a batch", "jobs=00000000-0000-7000-8000-000000000000&batch=x", 400],
    ["more jobs than a URL should name", "", 400],
    ["something that is no id", "jobs=1,2", 404],
    ["no ids at all", "jobs=", 404],
    ["a batch that is no id", "batch=1", 404],
    ["two batches", `batch=${crypto.randomUUID()}&batch=${crypto.randomUUID()}`, 404],
  ])("%s is refused at once", async (_, query, status) => {
    const ids = Array.from({ length: 101 }, () => crypto.randomUUID()).join(",");
    const asked = performance.now();
    const stream = await newOwner().open(`/v1/events?${query || `jobs=${ids}`}`);
    expect(stream.status).toBe(status);
    await stream.ended;
    expect(performance.now() - asked).toBeLessThan(2_000);
  });
});

it("never has two things to say with one id, nor an id with nothing to say", async () => {
  const { sub, newJob, open } = newOwner();
  await Promise.all(Array.from({ length: 5 }, () => newJob()));
  const stream = await open();
  await stream.take(5, isState);
  for (let round = 1; round <= 20; round += 1) {
    await edge.db.query("update jobcast.jobs set progress = $1 where owner_id = $2", [round, sub]);
  }
  await stream.take(100, isState);
  await stream.close();
  expect(stream.parser.idOnlyBlocks).toEqual([]);
  expect([stream.parser.emptyBlocks, stream.parser.idlessEvents]).toEqual([0, 0]);
  const moves = stream.events.map(({ lastEventId }) => lastEventId).filter(Boolean);
  // Snapshots only grow: an id that has been left never comes back.
  const runs = moves.filter((id, index) => id !== moves[index - 1]);
  expect(new Set(runs).size).toBe(runs.length);
});
