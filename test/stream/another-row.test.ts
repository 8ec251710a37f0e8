import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { StreamEvent } from "../support/event-stream.ts";
import { type Edge, idOf, isState, startEdge, versionsOf } from "./edge.ts";

/*
 * An id names a row and not just a version: what a client has seen may have been set back, replaced
 * or pruned while it was away.
 */

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

const POLL = { accept: "application/json" };

/** A job with so many versions, and the ids of all of them. */
async function newJob(versions: number) {
  const id = await edge.newJob();
  for (let version = 2; version <= versions; version += 1) await edge.report(id, version);
  const stream = await edge.openJob(id, { lastEventId: "0" });
  const events = await stream.take(versions, isState);
  await stream.close();
  return { id, ids: ["", ...events.map(({ lastEventId }) => lastEventId)] };
}

/** As after a restore: the same version, and another row. */
async function replace(jobId: string, version: number): Promise<void> {
  await edge.db.query(
    `update jobcast.status_history set occurred_at = occurred_at + interval '1 microsecond'
     where job_id = $1 and version = $2`,
    [jobId, version],
  );
}

async function prune(jobId: string, condition: string): Promise<void> {
  await edge.db.query(`delete from jobcast.status_history where job_id = $1 and ${condition}`, [
    jobId,
  ]);
}

/** The events of a client that comes with this id, up to and with the first state. */
async function first(jobId: string, lastEventId?: string): Promise<StreamEvent> {
  const stream = await edge.openJob(jobId, lastEventId === undefined ? {} : { lastEventId });
  const event = await stream.next();
  await stream.close();
  return event;
}

async function poll(jobId: string, lastEventId: string) {
  const answer = await edge.open(`/v1/jobs/${jobId}/events?wait=0`, { headers: POLL, lastEventId });
  return JSON.parse(await answer.body());
}

describe("an id of a row that is another one by now", () => {
  it("is reset, on both transports", async () => {
    const { id, ids } = await newJob(3);
    await replace(id, 3);
    const event = await first(id, ids[3]);
    expect(event).toMatchObject({ type: "reset", lastEventId: idOf(3) });
    expect(event.lastEventId).not.toBe(ids[3]);
    expect(await poll(id, ids[3] ?? "")).toMatchObject({
      events: [{ version: 3 }],
      cursor: event.lastEventId,
      reset: true,
    });
    await replace(id, 2);
    expect(await first(id, ids[2])).toMatchObject({ type: "reset", lastEventId: idOf(3) });
  });

  it("is not taken for the end of a job that ended otherwise", async () => {
    const { id } = await newJob(1);
    await edge.complete(id);
    const watched = await edge.openJob(id);
    await watched.ended;
    await replace(id, 2);
    const back = await edge.openJob(id, { lastEventId: watched.lastEventId });
    await back.ended;
    expect(back.events).toMatchObject([{ type: "reset", lastEventId: idOf(2) }]);
    const again = await edge.openJob(id, { lastEventId: back.lastEventId });
    expect(again.status).toBe(204);
  });

  it("is none of a plain number, as people type them", async () => {
    const { id } = await newJob(3);
    await replace(id, 2);
    expect(await first(id, "2")).toMatchObject({ type: "status", lastEventId: idOf(3) });
    await edge.complete(id);
    expect((await edge.openJob(id, { lastEventId: "4" })).status).toBe(204);
  });

  it("is reset on a stream of a batch", async () => {
    const [batch] = await edge.db.query<{ id: string }>(
      "select (jobcast.create_batch('alice', 'b', '[{\"type\":\"t\"}]')).id",
    );
    const path = `/v1/batches/${batch?.id}/events`;
    const stream = await edge.open(path);
    const { lastEventId } = await stream.next();
    await stream.close();
    const same = await edge.open(path, { lastEventId });
    expect(await same.next()).toMatchObject({ type: "ping", lastEventId });
    await same.close();
    await edge.db.query(
      "update jobcast.batches set updated_at = updated_at + interval '1 microsecond' where id = $1",
      [batch?.id],
    );
    const other = await edge.open(path, { lastEventId });
    expect(await other.next()).toMatchObject({ type: "reset" });
    await other.close();
  });
});

describe("a client below what is kept", () => {
  it("is reset to the present state", async () => {
    const { id, ids } = await newJob(8);
    await prune(id, "version < 5");
    for (const lastEventId of ["0", "2", ids[2], ids[4]]) {
      expect(await first(id, lastEventId)).toMatchObject({ type: "reset", lastEventId: idOf(8) });
      expect(await poll(id, lastEventId ?? "")).toMatchObject({
        events: [{ version: 8 }],
        cursor: ids[8],
        reset: true,
      });
    }
  });

  it("and one that is not goes on", async () => {
    const { id, ids } = await newJob(8);
    await prune(id, "version < 5");
    for (const lastEventId of ["4", ids[5], "6"]) {
      expect((await first(id, lastEventId)).type).toBe("status");
    }
  });

  it("is reset at a hole in the middle, be it pages away", async () => {
    const id = await edge.newJob();
    await edge.db.query(
      `do $$ begin for i in 1..449 loop
         update jobcast.jobs set message = i::text where id = '${id}'; end loop; end $$`,
    );
    await prune(id, "version between 300 and 310");
    const stream = await edge.openJob(id, { lastEventId: "0" });
    await stream.next(({ type }) => type === "reset");
    expect(versionsOf(stream.events)).toEqual([
      ...Array.from({ length: 200 }, (_, i) => i + 1),
      450,
    ]);
    await edge.report(id, 1);
    expect(await stream.next()).toMatchObject({ type: "status", lastEventId: idOf(451) });
    await stream.close();
  });
});

describe("a job without a history", () => {
  const result = { text: "x".repeat(100_000) };

  it("is told as it stands, on every stream", async () => {
    const { id } = await newJob(2);
    await edge.db.query("update jobcast.jobs set result = $2 where id = $1", [id, result]);
    await prune(id, "true");
    const event = await first(id);
    expect(event).toMatchObject({ type: "status", lastEventId: idOf(3) });
    expect(JSON.parse(event.data)).toMatchObject({ version: 3, progress: 2, result });
    for (const path of [`/v1/events?jobs=${id}`, "/v1/events"]) {
      const many = await edge.open(path);
      const state = await many.next(({ data }) => data.includes(id));
      expect(JSON.parse(state.data)).toEqual(JSON.parse(event.data));
      await many.close();
    }
    expect(await poll(id, "")).toMatchObject({
      events: [{ version: 3 }],
      cursor: event.lastEventId,
    });
    expect(await first(id, event.lastEventId)).toMatchObject({ type: "ping" });
    expect(await first(id, "1")).toMatchObject({ type: "reset", lastEventId: event.lastEventId });
  });

  it("goes on with its next change", async () => {
    const { id } = await newJob(2);
    await prune(id, "true");
    const stream = await edge.openJob(id);
    await stream.next();
    await edge.report(id, 50);
    expect(await stream.next()).toMatchObject({ type: "status", lastEventId: idOf(3) });
    await stream.close();
  });

  it("has an end that is told once", async () => {
    const { id } = await newJob(1);
    await edge.complete(id, result);
    await prune(id, "true");
    const stream = await edge.openJob(id);
    await stream.ended;
    expect(versionsOf(stream.events)).toEqual([2]);
    const back = await edge.openJob(id, { lastEventId: stream.lastEventId });
    expect(back.status).toBe(204);
  });
});
