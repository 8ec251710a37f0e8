import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jobs } from "../../src/jobs/jobs.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { createRandom } from "../support/random.ts";
import { type Edge, idOf, startEdge, upTo } from "./edge.ts";

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge();
});
afterAll(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

const worker = { sub: "worker", scope: "jobs:write" };

const emit = (id: string, event: unknown, data?: unknown, more: object = {}, claims = worker) =>
  edge.server.call("POST", `/v1/jobs/${id}/events`, { event, data, ...more }, claims);

const emitInSql = (id: string, name: string, data: unknown = null) =>
  edge.db.query("select jobcast.emit($1, $2, $3)", [id, name, JSON.stringify(data)]);

const told = ({ type, data }: StreamEvent) => {
  const { version, event, status } = JSON.parse(data);
  return `${version} ${type} ${event ?? status}`;
};

describe("an event of the producer's own", () => {
  it("has its place among the versions, live, when it was missed, in polls and in the history", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    await edge.report(id, 10);
    const answer = await emit(id, "log", { line: "loading", n: 1 });
    expect([answer.status, answer.body.version, answer.body.progress]).toEqual([201, 3, 10]);
    await emitInSql(id, "preview", "a.png");
    await edge.report(id, 20);
    await edge.complete(id);
    const expected = [
      ...["2 status processing", "3 log log", "4 preview preview"],
      ...["5 status processing", "6 status completed"],
    ];
    const live = await stream.take(5);
    expect(live.map(told)).toEqual(expected);
    expect(JSON.parse(live[1]?.data ?? "")).toEqual({
      ...{ jobId: id, version: 3, attempt: 1, event: "log", data: { line: "loading", n: 1 } },
      ...{ batchId: null, source: "api", occurredAt: expect.any(String) },
      ...{ type: "render", title: null, metadata: null },
    });
    expect(live[1]?.lastEventId).toEqual(idOf(3));
    await stream.ended;

    for (const [lastEventId, from] of [
      ["1", 0],
      [live[1]?.lastEventId ?? "", 2],
      [live[2]?.lastEventId ?? "", 3],
    ] as const) {
      const again = await edge.openJob(id, { lastEventId });
      await again.ended;
      expect(again.events.map(told)).toEqual(expected.slice(from));
    }
    const poll = await edge.server.call("GET", `/v1/jobs/${id}/events?wait=0&after=1`);
    expect(
      poll.body.events.map(({ version, event }: { version: number; event?: string }) => [
        version,
        event,
      ]),
    ).toEqual([
      [2, undefined],
      [3, "log"],
      [4, "preview"],
      [5, undefined],
      [6, undefined],
    ]);
    const { body } = await edge.server.call("GET", `/v1/jobs/${id}/history?after=2&limit=2`);
    expect(body.items).toMatchObject([
      { version: 3, event: "log" },
      { version: 4, event: "preview", data: "a.png" },
    ]);
  });

  it("is told on streams over many jobs, and what is asked for a state is told one", async () => {
    const owner = `owner-${randomUUID()}`;
    const token = edge.server.token({ sub: owner, scope: "" });
    const id = await edge.newJob(owner);
    const stream = await edge.open("/v1/events", { token });
    const { lastEventId } = await stream.next();
    await edge.report(id, 30);
    await emitInSql(id, "log", [1]);
    expect((await stream.take(2)).map(told)).toEqual(["2 status processing", "3 log log"]);
    await stream.close();

    const missed = await edge.open("/v1/events", { token, lastEventId });
    expect((await missed.take(2)).map(told)).toEqual(["2 status processing", "3 log log"]);
    await missed.close();
    // Whoever comes first is told how the job stands, by the version that it has.
    for (const path of ["/v1/events", `/v1/jobs/${id}/events`]) {
      const first = await edge.open(path, { token });
      const state = await first.next();
      expect([told(state), JSON.parse(state.data).progress]).toEqual(["3 status processing", 30]);
      await first.close();
    }
    const job = await edge.server.call("GET", `/v1/jobs/${id}`);
    expect(job.body).toMatchObject({ version: 3, progress: 30, status: "processing" });
  });

  it("comes from an application's own transaction, with its commit", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    const client = await edge.db.connect();
    await client.query("begin");
    await jobs.emit(client, id, "log", { line: 1 });
    await client.query("rollback");
    await client.query("begin");
    await jobs.emit(client, id, "log", { line: 2 }, { attempt: 1 });
    await client.query("commit");
    const { data } = await stream.next();
    expect(JSON.parse(data)).toMatchObject({ version: 2, data: { line: 2 }, source: "app" });
    await stream.close();
  });

  it("is exact in its numbers, and large beside a large state", async () => {
    const id = await edge.newJob();
    const large = "x".repeat(1_000_000);
    await edge.db.query("update jobcast.jobs set message = $2 where id = $1", [id, large]);
    const stream = await edge.openJob(id, { lastEventId: "2" });
    await edge.db.query(
      `select jobcast.emit($1, 'n', '{"n": 750727362669608961, "text": "${"y".repeat(60_000)}"}')`,
      [id],
    );
    const { data } = await stream.next(({ type }) => type === "n");
    expect(data).toContain('"n": 750727362669608961');
    expect(JSON.parse(data).data.text).toHaveLength(60_000);
    expect(data.length).toBeLessThan(70_000);
    await stream.close();
  });

  it("neither counts in a batch nor ends anything", async () => {
    const [batch] = await edge.db.query<{ id: string; version: number }>(
      `select id, version from jobcast.create_batch('alice', 'b', '[{"type":"t"}]')`,
    );
    const [job] = await edge.db.query<{ id: string }>(
      "select id from jobcast.jobs where batch_id = $1",
      [batch?.id],
    );
    await emitInSql(job?.id ?? "", "log");
    const [after] = await edge.db.query<{ version: number }>(
      "select version from jobcast.batches where id = $1",
      [batch?.id],
    );
    expect(after?.version).toBe(batch?.version);
  });
});

describe("what is no event of one's own", () => {
  it.each([
    "status",
    "Reset",
    "deleted",
    "ready",
    "ping",
    "close",
    "batch",
    "message",
    "open",
    "error",
  ])("is %s, which is taken", async (name) => {
    const id = await edge.newJob();
    const { status, body } = await emit(id, name);
    expect([status, body.fields[0].path]).toEqual([400, "body.event"]);
    await expect(emitInSql(id, name)).rejects.toMatchObject({ code: "23514" });
  });

  it.each(["", "1a", "a b", "é", "a\nb", "x".repeat(65), null, 7])(
    "is %j, which is no name",
    async (name) => {
      const id = await edge.newJob();
      expect((await emit(id, name)).status).toBe(400);
    },
  );

  it("is larger than 64 KiB, nested deeper than others, or the thousand and first", async () => {
    const id = await edge.newJob();
    const large = await emit(id, "log", "x".repeat(70_000));
    expect([large.status, large.body.fields]).toEqual([
      400,
      [{ path: "body.data", message: "is larger than 64 KiB" }],
    ]);
    const deep = JSON.parse(`${"[".repeat(70)}${"]".repeat(70)}`);
    expect((await emit(id, "log", deep)).status).toBe(400);
    await expect(emitInSql(id, "log", deep)).rejects.toMatchObject({ code: "23514" });
    await edge.db.query(`do $$ begin for n in 1..1000 loop
      perform jobcast.emit('${id}', 'log', to_jsonb(n)); end loop; end $$`);
    const more = await emit(id, "log");
    expect([more.status, more.body.fields[0].message]).toEqual([
      400,
      "the job has told 1000 events, and may tell no more",
    ]);
    expect((await edge.server.call("GET", `/v1/jobs/${id}`)).body.version).toBe(1_001);
  });

  it("is of a job that has ended, of another attempt, of no job, or from who may not write", async () => {
    const id = await edge.newJob();
    const other = await emit(id, "log", null, { attempt: 2 });
    expect([other.status, other.body.code]).toEqual([409, "attempt_mismatch"]);
    expect((await emit(id, "log", null, {}, { sub: "alice", scope: "jobs:create" })).status).toBe(
      403,
    );
    expect((await emit(randomUUID(), "log")).status).toBe(404);
    await edge.complete(id);
    const late = await emit(id, "log");
    expect([late.status, late.body.code]).toEqual([409, "job_conflict"]);
  });

  it("is written around the function", async () => {
    const id = await edge.newJob();
    await edge.db.query(
      "update jobcast.jobs set event_name = 'log', event_data = '1', events = 7 where id = $1",
      [id],
    );
    const [job] = await edge.db.query(
      "select version, events, event_name, event_data from jobcast.jobs where id = $1",
      [id],
    );
    expect(job).toEqual({ version: 1, events: 0, event_name: null, event_data: null });
  });
});

describe("events and versions under concurrent commits", () => {
  it("are told once, in order, without a hole, also to who is cut in between", async () => {
    const random = createRandom("custom events");
    const id = await edge.newJob();
    const writers = Array.from({ length: 4 }, async (_, writer) => {
      const session = await edge.db.connect();
      for (let count = 0; count < 40; count++) {
        await session.query("begin");
        if (random.next() < 0.5) {
          await session.query("select jobcast.emit($1, 'log', $2)", [id, writer * 100 + count]);
        } else {
          await session.query("update jobcast.jobs set message = $2 where id = $1", [
            id,
            `${writer} ${count}`,
          ]);
        }
        await session.query(random.next() < 0.1 ? "rollback" : "commit");
      }
    });
    const seen: number[] = [];
    let lastEventId: string | undefined;
    const written = Promise.all(writers).then(() => edge.complete(id));
    for (let isOver = false; !isOver; ) {
      const stream = await edge.openJob(id, lastEventId === undefined ? {} : { lastEventId });
      const events = await stream.take(1 + random.below(15)).catch(() => stream.events);
      await stream.close();
      for (const { data } of events) seen.push(JSON.parse(data).version);
      lastEventId = events.at(-1)?.lastEventId ?? lastEventId;
      isOver = events.some(({ data }) => JSON.parse(data).status === "completed");
    }
    await written;
    const first = seen[0] ?? 1;
    const [job] = await edge.db.query<{ version: number }>(
      "select version from jobcast.jobs where id = $1",
      [id],
    );
    expect(seen).toEqual(upTo(job?.version ?? 0, first));
    const logs = await edge.db.query(
      "select from jobcast.status_history where job_id = $1 and event_name = 'log'",
      [id],
    );
    expect(logs.length).toBeGreaterThan(20);
  });
});
