import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StreamEvent } from "../support/event-stream.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { type Edge, startEdge } from "./edge.ts";

const JOBS = 6_000;

let edge: Edge;
let batch: string;
let ids: string[];

beforeAll(async () => {
  edge = await startEdge();
  const [made] = await edge.db.query<{ id: string }>(
    `select id from jobcast.create_batch('alice', 'large', (
       select jsonb_agg(jsonb_build_object('type', 'render')) from generate_series(1, ${JOBS})
     ))`,
  );
  batch = made?.id ?? "";
  const rows = await edge.db.query<{ id: string }>("select id from jobcast.jobs order by id");
  ids = rows.map(({ id }) => id);
});
afterAll(() => edge.stop());

type Told = { jobId: string; version: number; progress: number };

/** Of each job the versions that it was told, in their order. */
function versionsByJob(events: readonly Told[]): Map<string, number[]> {
  const byJob = new Map<string, number[]>();
  for (const { jobId, version } of events) {
    byJob.set(jobId, [...(byJob.get(jobId) ?? []), version]);
  }
  return byJob;
}

const isStatus = ({ type }: StreamEvent): boolean => type === "status";

const toldBy = (events: readonly StreamEvent[]): Told[] =>
  events.filter(isStatus).map(({ data }) => JSON.parse(data));

/** Polls until nothing is left, as a client does that goes on where it was. */
async function pollAll(path: string, from?: string): Promise<{ events: Told[]; cursor: string }> {
  const events: Told[] = [];
  for (let cursor = from; ; ) {
    const after = cursor === undefined ? "" : `&after=${cursor}`;
    const { status, body } = await edge.server.call("GET", `${path}wait=0${after}`);
    expect(status).toBe(200);
    events.push(...body.events);
    cursor = body.cursor as string;
    if (body.events.length === 0) return { events, cursor };
  }
}

/** Until the event whose id is not the one that the client came with: the last one of a replay. */
async function untilNewId(stream: StreamClient, cursor: string): Promise<void> {
  await stream.next(({ lastEventId }) => lastEventId !== cursor);
}

describe.each([
  ["a batch", () => `/v1/events?batch=${batch}&`],
  ["an owner", () => "/v1/events?"],
])("of %s with 6,000 jobs", (_, pathOf) => {
  it("a stream tells them all, and its id comes with the last", async () => {
    const stream = await edge.open(pathOf());
    await stream.take(JOBS, isStatus);
    expect([...versionsByJob(toldBy(stream.events)).keys()].sort()).toEqual(ids);
    const withId = stream.events.findIndex(({ lastEventId }) => lastEventId !== "");
    expect(withId).toBe(JOBS - 1);
    await stream.close();
  });

  it("long polls tell them all, one page after the other", async () => {
    const { events } = await pollAll(pathOf());
    expect(events).toHaveLength(JOBS);
    expect([...versionsByJob(events).keys()].sort()).toEqual(ids);
  });
});

describe("what was missed of 6,000 jobs", () => {
  it("is told whole, to streams and to polls, each job's versions ascending", async () => {
    const path = `/v1/events?batch=${batch}&`;
    const { cursor } = await pollAll(path);
    await edge.db.query("update jobcast.jobs set message = repeat('m', 200) where batch_id = $1", [
      batch,
    ]);
    await edge.db.query("update jobcast.jobs set progress = 7 where id = any ($1)", [
      ids.slice(0, 3_000),
    ]);
    const expected = new Map(ids.map((id, index) => [id, index < 3_000 ? [2, 3] : [2]]));

    const stream = await edge.open(path, { lastEventId: cursor });
    await untilNewId(stream, cursor);
    expect(versionsByJob(toldBy(stream.events))).toEqual(expected);
    expect(stream.events.map(({ type }) => type)).not.toContain("reset");
    await stream.close();
    expect(versionsByJob((await pollAll(path, cursor)).events)).toEqual(expected);
  });

  it("is the present state when it was more than a stream replays, and says so", async () => {
    const path = `/v1/events?batch=${batch}&`;
    const { cursor } = await pollAll(path);
    for (const message of ["a", "b"]) {
      await edge.db.query("update jobcast.jobs set message = $2 where batch_id = $1", [
        batch,
        message,
      ]);
    }
    const stream = await edge.open(path, { lastEventId: cursor });
    expect((await stream.next()).type).toBe("reset");
    await untilNewId(stream, cursor);
    expect(toldBy(stream.events)).toHaveLength(JOBS);
    await stream.close();
    const { body } = await edge.server.call("GET", `${path}wait=0&after=${cursor}`);
    expect(body.reset).toBe(true);
  });
});

describe("while 6,000 jobs are told to somebody slow", () => {
  it("what happens meanwhile is told after them, once and in order", async () => {
    const stream = await edge.open(`/v1/events?batch=${batch}`);
    stream.pause();
    for (let round = 1; round <= 3; round += 1) {
      await edge.db.query("update jobcast.jobs set progress = $1 where id = any ($2)", [
        10 + round,
        ids.slice(0, 2_000),
      ]);
    }
    const newest = await edge.db.query<{ id: string; version: number }>(
      "select id, version from jobcast.jobs",
    );
    stream.resume();
    const wanted = new Map(newest.map(({ id, version }) => [id, version]));
    while (wanted.size > 0) {
      const { jobId, version } = JSON.parse((await stream.next(isStatus)).data);
      if (wanted.get(jobId) === version) wanted.delete(jobId);
    }
    for (const versions of versionsByJob(toldBy(stream.events)).values()) {
      const first = versions[0] ?? 0;
      expect(versions).toEqual(versions.map((_, index) => first + index));
    }
    await stream.close();
  });

  it("a poll's page is of the moment of its walk, and what came since follows it", async () => {
    const path = `/v1/events?batch=${batch}&`;
    const first = await edge.server.call("GET", `${path}wait=0`);
    expect(first.body.events.length).toBeLessThan(JOBS);
    const told: Told[] = first.body.events;
    // One that was told already, and one that is still to come.
    const early = told[0]?.jobId ?? "";
    const late = ids.find((id) => !told.some(({ jobId }) => jobId === id)) ?? "";
    await edge.db.query("update jobcast.jobs set progress = 50 where id = any ($1)", [
      [early, late],
    ]);
    const { events } = await pollAll(path, first.body.cursor);
    const byJob = versionsByJob([...told, ...events]);
    expect(byJob.size).toBe(JOBS);
    for (const id of [early, late]) {
      const versions = byJob.get(id) ?? [];
      expect(versions).toHaveLength(2);
      expect(versions[1]).toBe((versions[0] ?? 0) + 1);
    }
  });
});

describe("a cursor of a page", () => {
  it("that somebody made up starts over, and is never a failure", async () => {
    const path = `/v1/events?batch=${batch}&wait=0`;
    const { body } = await edge.server.call("GET", path);
    const cursor: string = body.cursor;
    const parts = cursor.split("-");
    for (const forged of [
      `${cursor}00`,
      `${cursor}-`,
      [...parts.slice(0, 3), "zz"].join("-"),
      ...[
        "x'; drop table|y",
        ...["infinity", "-infinity", "2026-13-01 00:00:00+00", "2026-02-29 00:00:00+00"],
        ...["0000-01-01 00:00:00+00", "294277-01-01 00:00:00+00", "4800-01-01 00:00:00+00 BC"],
        ...["2026-01-01 24:00:00+00", "0004-02-29 00:00:00+00 BC", "0005-02-29 00:00:00+00 BC"],
      ].map((moment) =>
        [...parts.slice(0, 3), Buffer.from(`${moment}|${ids[0]}`).toString("hex")].join("-"),
      ),
      `other${cursor}`,
    ]) {
      const answer = await edge.server.call("GET", `${path}&after=${forged}`);
      expect([forged, answer.status]).toEqual([forged, 200]);
    }
  });
});
