import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { statusEventSchema } from "../../src/protocol/event.ts";
import { type Edge, idOf, startEdge, upTo, versionsOf } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

describe("a stream of one job", () => {
  it("tells the current state first, then every change as it is committed", async () => {
    const id = await edge.newJob();
    await edge.report(id, 10, 20);
    const stream = await edge.openJob(id);
    expect(stream.status).toBe(200);
    const first = await stream.next();
    expect(first).toMatchObject({ type: "status", lastEventId: idOf(3) });
    expect(statusEventSchema.parse(JSON.parse(first.data))).toMatchObject({
      jobId: id,
      version: 3,
      status: "processing",
      progress: 20,
      source: "sql",
    });
    await edge.report(id, 30, 40);
    await stream.take(2);
    expect(versionsOf(stream.events)).toEqual([3, 4, 5]);
    await stream.close();
  });

  it("is an event stream that nothing on the way may keep, hold back or change", async () => {
    const stream = await edge.openJob(await edge.newJob());
    expect(stream.headers).toMatchObject({
      "content-type": "text/event-stream",
      "cache-control": "no-store, no-transform",
      "x-accel-buffering": "no",
    });
    expect(stream.headers).not.toHaveProperty("etag");
    expect(stream.headers).not.toHaveProperty("content-encoding");
    await stream.close();
  });

  it("shows a change only once its transaction has committed, and never one rolled back", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    const writer = await edge.db.connect();
    await writer.query("begin");
    await writer.query("select jobcast.report_progress($1, 10)", [id]);
    await writer.query("rollback");
    await writer.query("begin");
    await writer.query("select jobcast.report_progress($1, 20)", [id]);
    expect(stream.events).toHaveLength(1);
    await writer.query("commit");
    const event = await stream.next();
    expect(JSON.parse(event.data)).toMatchObject({ version: 2, progress: 20 });
    await stream.close();
  });

  it("tells each version of a transaction that made several", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    const writer = await edge.db.connect();
    await writer.query("begin");
    for (const progress of [10, 20, 30]) {
      await writer.query("select jobcast.report_progress($1, $2)", [id, progress]);
    }
    await writer.query("commit");
    await stream.take(3);
    expect(versionsOf(stream.events)).toEqual([1, 2, 3, 4]);
    await stream.close();
  });

  it("takes an id in capital letters, and one that is no RFC 9562 UUID", async () => {
    const id = "ABCDEF00-0000-0000-0000-00000000FFFF";
    await edge.db.query("insert into jobcast.jobs (id, owner_id, type) values ($1, 'alice', 'x')", [
      id,
    ]);
    const stream = await edge.openJob(id);
    expect(stream.status).toBe(200);
    const { data } = await stream.next();
    expect(JSON.parse(data).jobId).toBe(id.toLowerCase());
    await stream.close();
  });
});

describe("the end of a job", () => {
  it("is told, and then the server closes in good order", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await edge.report(id, 50);
    await edge.complete(id, { url: "https://example.com/a.png" });
    await stream.ended;
    expect(stream.ending).toBe("complete");
    expect(versionsOf(stream.events)).toEqual([1, 2, 3]);
    const last = JSON.parse(stream.events.at(-1)?.data ?? "");
    expect(last).toMatchObject({
      status: "completed",
      result: { url: "https://example.com/a.png" },
    });
  });

  it("answers 204 to who has seen it, so that an EventSource stays away", async () => {
    const id = await edge.newJob();
    await edge.complete(id);
    const stream = await edge.openJob(id, { lastEventId: "2" });
    expect(stream.status).toBe(204);
    expect(await stream.body()).toBe("");
    const byQuery = await edge.open(`/v1/jobs/${id}/events?lastEventId=2`);
    expect(byQuery.status).toBe(204);
  });

  it("is told to who connects for the first time, or before the end, instead of a 204", async () => {
    const id = await edge.newJob();
    await edge.report(id, 50);
    await edge.complete(id);
    for (const [lastEventId, versions] of [
      [undefined, [3]],
      ["2", [3]],
      ["1", [2, 3]],
      ["0", [1, 2, 3]],
    ] as const) {
      const stream = await edge.openJob(id, lastEventId === undefined ? {} : { lastEventId });
      await stream.ended;
      expect([stream.status, stream.ending]).toEqual([200, "complete"]);
      expect(versionsOf(stream.events)).toEqual(versions);
    }
  });

  it("is not the end of the story: after a retry a returning client goes on", async () => {
    const id = await edge.newJob();
    await edge.db.query("select jobcast.fail_job($1)", [id]);
    const first = await edge.openJob(id);
    await first.ended;
    expect(first.lastEventId).toEqual(idOf(2));
    await edge.db.query("select jobcast.retry_job($1)", [id]);
    const second = await edge.openJob(id, { lastEventId: first.lastEventId });
    const { data } = await second.next();
    expect(JSON.parse(data)).toMatchObject({ version: 3, attempt: 2, status: "pending" });
    await edge.report(id, 10);
    await second.next();
    // The whole history has an end in its middle, which is no reason to stop there.
    const whole = await edge.openJob(id, { lastEventId: "0" });
    await whole.take(4);
    expect(versionsOf(whole.events)).toEqual([1, 2, 3, 4]);
    await Promise.all([second.close(), whole.close()]);
  });

  it("and a retry in one transaction: the end is told, the next connect goes on", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    const writer = await edge.db.connect();
    await writer.query("begin");
    await writer.query("select jobcast.fail_job($1)", [id]);
    await writer.query("select jobcast.retry_job($1)", [id]);
    await writer.query("commit");
    await stream.ended;
    const next = await edge.openJob(id, { lastEventId: stream.lastEventId });
    await next.next();
    expect(versionsOf([...stream.events, ...next.events])).toEqual([1, 2, 3]);
    await next.close();
  });

  it("comes after a history of many pages, without a gap", async () => {
    const id = await edge.newJob();
    await edge.db.query(
      `do $$ begin for i in 1..700 loop
         update jobcast.jobs set message = i::text where id = '${id}'; end loop; end $$`,
    );
    await edge.complete(id);
    const stream = await edge.openJob(id, { lastEventId: "0" });
    await stream.ended;
    expect(versionsOf(stream.events)).toEqual(upTo(702));
  });
});
