import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { batchSchema } from "../../src/protocol/batch.ts";
import { batchPollSchema } from "../../src/protocol/poll-answer.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { type Edge, idOf, startEdge } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

async function newBatch(count: number) {
  const jobs = JSON.stringify(Array.from({ length: count }, () => ({ type: "x" })));
  const [batch] = await edge.db.query<{ id: string }>(
    "select id from jobcast.create_batch('alice', 'some', $1)",
    [jobs],
  );
  const rows = await edge.db.query<{ id: string }>(
    "select id from jobcast.jobs where batch_id = $1 order by id",
    [batch?.id],
  );
  return { path: `/v1/batches/${batch?.id}/events`, jobs: rows.map(({ id }) => id) };
}

const stateOf = ({ data }: StreamEvent) => batchSchema.parse(JSON.parse(data));
const isState = ({ type }: StreamEvent) => type === "batch" || type === "reset";

/** Each state is newer than the one before, and has its version as its id. */
function expectAscending(events: readonly StreamEvent[]): void {
  const versions = events.filter(isState).map((event) => {
    expect(event.lastEventId).toEqual(idOf(stateOf(event).version));
    return stateOf(event).version;
  });
  expect(versions).toEqual([...new Set(versions)].sort((one, other) => one - other));
}

describe("a stream of a batch", () => {
  it("tells its state first, then whenever one of its jobs changed, and ends with it", async () => {
    const { path, jobs } = await newBatch(3);
    const stream = await edge.open(path);
    const first = await stream.next();
    expect(first.type).toBe("batch");
    expect(stateOf(first)).toMatchObject({
      total: 3,
      completed: 0,
      progress: 0,
      status: "pending",
    });
    await edge.report(jobs[0] ?? "", 30);
    expect(stateOf(await stream.next())).toMatchObject({ progress: 10, status: "processing" });
    await edge.report(await edge.newJob(), 50); // of no batch
    for (const job of jobs) await edge.complete(job);
    await stream.ended;
    const last = stateOf(stream.events.at(-1) ?? first);
    expect(last).toMatchObject({ completed: 3, progress: 100, status: "completed" });
    expect(stream.ending).toBe("complete");
    expectAscending(stream.events);
    const back = await edge.open(path, { lastEventId: stream.lastEventId });
    expect(back.status).toBe(204);
  });

  it("goes on from its last id, and is reset by one that means nothing", async () => {
    const { path, jobs } = await newBatch(2);
    const first = await edge.open(path);
    const { lastEventId } = await first.next();
    await first.close();
    const same = await edge.open(path, { lastEventId });
    await edge.report(jobs[0] ?? "", 50);
    const event = await same.next(isState);
    expect(event.type).toBe("batch");
    expect(stateOf(event).version).toBeGreaterThan(Number.parseInt(lastEventId, 10));
    for (const id of ["99", "x", "-1", `${lastEventId}.0`]) {
      const reset = await edge.open(path, { lastEventId: id });
      expect(await reset.next()).toMatchObject({ type: "reset", lastEventId: event.lastEventId });
      await reset.close();
    }
  });

  it("may skip states that come faster than they are read, and never the last", async () => {
    const { path, jobs } = await newBatch(20);
    const stream = await edge.open(path);
    await stream.next();
    await Promise.all(
      jobs.map(async (job) => {
        await edge.report(job, 10, 20, 30);
        await edge.complete(job);
      }),
    );
    await stream.ended;
    expectAscending(stream.events);
    expect(stateOf(stream.events.at(-1) as StreamEvent)).toMatchObject({
      completed: 20,
      status: "completed",
    });
  });

  it("is polled with the same cursor", async () => {
    const { path, jobs } = await newBatch(1);
    const poll = async (query: string) => {
      const answer = await edge.open(`${path}?${query}`, {
        headers: { accept: "application/json" },
      });
      return batchPollSchema.parse(JSON.parse(await answer.body()));
    };
    const first = await poll("wait=30");
    expect(first).toMatchObject({ events: [{ total: 1 }], done: false });
    expect(await poll(`after=${first.cursor}&wait=0`)).toEqual({
      events: [],
      cursor: first.cursor,
      done: false,
    });
    const waiting = poll(`after=${first.cursor}&wait=30`);
    await edge.complete(jobs[0] ?? "");
    const second = await waiting;
    expect(second).toMatchObject({ events: [{ completed: 1 }], done: true });
    const stream = await edge.open(path, { lastEventId: second.cursor });
    expect(stream.status).toBe(204);
    expect(await poll("after=x&wait=30")).toMatchObject({ reset: true, done: true });
  });

  it("answers HEAD, and a token of single jobs like anybody who may not see it", async () => {
    const { path, jobs } = await newBatch(1);
    const minted = await edge.server.call("POST", "/v1/stream-tokens", { jobs }, { scope: "" });
    const limited = await edge.open(path, { token: minted.body.token });
    expect(limited.status).toBe(404);
    const head = await fetch(new URL(path, edge.server.url), {
      method: "HEAD",
      headers: { authorization: `Bearer ${edge.server.token({ scope: "" })}` },
    });
    expect([head.status, head.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
  });
});
