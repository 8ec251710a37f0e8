import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { deletedSchema } from "../../src/protocol/event.ts";
import { statusPollSchema } from "../../src/protocol/poll-answer.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { type Edge, isState, startEdge, versionsOf } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

const isDeleted = ({ type }: StreamEvent) => type === "deleted";
const dataOf = ({ data }: StreamEvent) => deletedSchema.parse(JSON.parse(data));

let owners = 0;

/** An owner of his own, so that a stream of all his jobs is quiet. */
function newOwner() {
  const sub = `deleter ${++owners}`;
  const token = edge.server.token({ sub, scope: "" });
  const poll = async (path: string) => {
    const answer = await edge.open(path, { headers: { accept: "application/json" }, token });
    return { status: answer.status, body: JSON.parse(await answer.body()) };
  };
  return {
    sub,
    poll,
    open: (path: string, lastEventId?: string) =>
      edge.open(path, { token, ...(lastEventId !== undefined && { lastEventId }) }),
    async ended() {
      const id = await edge.newJob(sub);
      await edge.complete(id);
      return id;
    },
  };
}

const remove = (id: string) => edge.db.query("delete from jobcast.jobs where id = $1", [id]);

describe("a job that is deleted", () => {
  it("is told to whoever watches many, whatever they watch it by", async () => {
    const { open, ended } = newOwner();
    const [one, other] = [await ended(), await ended()];
    const streams = await Promise.all([
      open("/v1/events"),
      open(`/v1/events?jobs=${one},${other}`),
    ]);
    for (const stream of streams) await stream.next();
    await remove(one);
    for (const stream of streams) {
      const event = await stream.next(isDeleted);
      expect(dataOf(event)).toEqual({ jobId: one, version: 3, deleted: true });
      expect(event.lastEventId).not.toBe("");
      expect(stream.ending).toBeUndefined();
      await stream.close();
    }
    expect((await open(`/v1/events?jobs=${one},${other}`)).status).toBe(404);
  });

  it("is told once to who was away, and in the order of what happened to it", async () => {
    const { open, ended, poll, sub } = newOwner();
    const stream = await open("/v1/events");
    const { lastEventId } = await stream.next();
    const seen = await ended();
    await stream.take(2, isState);
    await stream.close();
    const missed = await ended();
    await remove(seen);
    await remove(missed);
    const kept = await edge.newJob(sub);
    for (const [index, id] of [stream.lastEventId, lastEventId].entries()) {
      const back = await open("/v1/events", id);
      await back.next(isState);
      const told = back.events.map(({ type, data }) => [type, JSON.parse(data).jobId]);
      expect(told.filter(([type]) => type === "deleted").sort()).toEqual(
        [
          ["deleted", seen],
          ["deleted", missed],
        ].sort(),
      );
      expect(told).toContainEqual(["status", kept]);
      await back.close();
      const again = await open("/v1/events", back.lastEventId);
      await edge.report(kept, index * 10 + 10);
      await again.next(isState);
      expect(again.events.some(isDeleted)).toBe(false);
      await again.close();
    }
    const { body } = await poll(`/v1/events?wait=0&after=${lastEventId}`);
    const { events, cursor } = statusPollSchema.parse(body);
    expect(events).toContainEqual({ jobId: seen, version: 3, deleted: true });
    expect((await poll(`/v1/events?wait=0&after=${cursor}`)).body.events).toEqual([]);
  });

  it("wakes a poll for it, which is answered with 404, and one for many", async () => {
    const { ended, poll } = newOwner();
    const id = await ended();
    const { body } = await poll("/v1/events?wait=0");
    const polling = poll(`/v1/events?wait=30&after=${body.cursor}`);
    await remove(id);
    expect((await polling).body.events).toEqual([{ jobId: id, version: 3, deleted: true }]);
    expect((await poll(`/v1/jobs/${id}/events?after=2&wait=30`)).status).toBe(404);
  });

  it("ends a stream of it alone that is still telling its history", async () => {
    const { open, sub } = newOwner();
    const id = await edge.newJob(sub);
    await edge.db.query(
      `do $$ begin for i in 1..2000 loop
         update jobcast.jobs set message = repeat(i::text, 1000) where id = '${id}'; end loop; end $$`,
    );
    await edge.complete(id);
    const stream = await open(`/v1/jobs/${id}/events`, "0");
    stream.pause();
    await remove(id);
    stream.resume();
    await stream.ended;
    expect(stream.events.at(-1)?.type).toBe("deleted");
    expect(versionsOf(stream.events).length).toBeGreaterThan(0);
    expect((await open(`/v1/jobs/${id}/events`)).status).toBe(404);
  });

  it("and made again under its id is another one", async () => {
    const { open, sub } = newOwner();
    const stream = await open("/v1/events");
    await stream.next();
    const id = await edge.newJob(sub);
    await edge.complete(id);
    await stream.take(2, isState);
    await remove(id);
    await stream.next(isDeleted);
    await edge.db.query("insert into jobcast.jobs (id, owner_id, type) values ($1, $2, 't')", [
      id,
      sub,
    ]);
    expect(JSON.parse((await stream.next()).data)).toMatchObject({ jobId: id, version: 1 });
    const alone = await open(`/v1/jobs/${id}/events`);
    await alone.next();
    await edge.complete(id);
    await alone.ended;
    await remove(id);
    await stream.next(isDeleted);
    await stream.close();
  });

  it("is nobody else's business", async () => {
    const { ended, open } = newOwner();
    const stranger = newOwner();
    const stream = await stranger.open("/v1/events");
    const { lastEventId } = await stream.next();
    await remove(await ended());
    const own = await stranger.ended();
    await stream.next(isState);
    expect(stream.events.filter(isDeleted)).toEqual([]);
    await remove(own);
    await stream.next(isDeleted);
    await stream.close();
    const back = await stranger.open("/v1/events", lastEventId);
    await back.next(isDeleted);
    expect(back.events.filter(isDeleted)).toHaveLength(1);
    await back.close();
    await (await open("/v1/events")).close();
  });
});

describe("a batch that is deleted", () => {
  it("is told on its stream, which ends", async () => {
    const { sub, open } = newOwner();
    const [batch] = await edge.db.query<{ id: string }>(
      `select (jobcast.create_batch($1, 'b', '[{"type":"t"},{"type":"t"}]')).id`,
      [sub],
    );
    const stream = await open(`/v1/batches/${batch?.id}/events`);
    await stream.next();
    const writer = await edge.db.connect();
    await writer.query("begin");
    await writer.query("set constraints all immediate");
    const first = "select id from jobcast.jobs where batch_id = $1 order by id limit 1";
    const { rows } = await writer.query(first, [batch?.id]);
    await writer.query("select jobcast.complete_job($1)", [rows[0].id]);
    await writer.query("commit");
    await stream.next();
    const superuser = await edge.db.connect();
    await superuser.query("begin");
    await superuser.query(
      "update jobcast.jobs set status = 'cancelled' where batch_id = $1 and status = 'pending'",
      [batch?.id],
    );
    await superuser.query("delete from jobcast.jobs where batch_id = $1", [batch?.id]);
    await superuser.query("set constraints all immediate");
    await superuser.query("delete from jobcast.batches where id = $1", [batch?.id]);
    await superuser.query("commit");
    await stream.ended;
    expect(JSON.parse(stream.events.at(-1)?.data ?? "")).toEqual({
      batchId: batch?.id,
      deleted: true,
    });
  });
});
