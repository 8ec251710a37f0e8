import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Statistics, statisticsSchema } from "../../src/protocol/statistics.ts";
import { type Edge, startEdge } from "../stream/edge.ts";
import { until } from "../support/deadline.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({ maxStreamsPerOwner: 3 });
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

async function statistics(): Promise<Statistics> {
  const { status, body } = await edge.server.call("GET", "/v1/stats");
  expect(status).toBe(200);
  return statisticsSchema.strict().parse(body);
}

/** The lines of `/metrics` by name and labels. */
async function metrics(): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`${edge.server.url}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

describe("GET /v1/stats", () => {
  it("is for those with the scope stats:read", async () => {
    for (const scope of ["", "jobs:read jobs:write jobs:create credits:grant"]) {
      const { status, body } = await edge.server.call("GET", "/v1/stats", undefined, { scope });
      expect([status, body.code]).toEqual([403, "insufficient_scope"]);
    }
  });

  it("tells who has how many streams open, over which transport, and on what", async () => {
    const id = await edge.newJob();
    const token = edge.server.token({ sub: "bob", scope: "jobs:read" });
    await edge.openJob(id);
    await edge.open("/v1/events");
    await edge.openJob(id, { token });
    const poll = edge.server.call("GET", `/v1/jobs/${id}/events?after=1&wait=30`);
    await until(() => edge.server.jobcast.statistics().open["long-poll"] === 1, 5_000, "the poll");
    const { streams, subscriptions } = await statistics();
    expect(streams).toMatchObject({
      total: 4,
      byTransport: { sse: 3, longPoll: 1 },
      byOwner: [
        { ownerId: "alice", streams: 3 },
        { ownerId: "bob", streams: 1 },
      ],
    });
    expect(subscriptions).toEqual({ topics: 2, subscribers: 4 });
    await edge.complete(id);
    expect((await poll).body.done).toBe(true);
  });

  it("counts what was opened and what was one too many", async () => {
    const before = (await statistics()).streams;
    for (let count = 0; count < 3; count += 1) await edge.open("/v1/events");
    expect((await edge.open("/v1/events")).status).toBe(429);
    const after = (await statistics()).streams;
    expect([after.opened - before.opened, after.refused - before.refused]).toEqual([3, 1]);
  });

  it("counts every event once that a client was sent, and those that were read back", async () => {
    const id = await edge.newJob();
    const first = await edge.openJob(id);
    await edge.report(id, 10, 20, 30);
    await first.take(4); // what the feed has read by now is not counted again below
    await first.close();
    const before = await statistics();
    const counts = async () => {
      const { events, listener } = await statistics();
      return {
        delivered: events.delivered - before.events.delivered,
        replayed: events.replayed - before.events.replayed,
        changes: listener.changes - before.listener.changes,
      };
    };

    const stream = await edge.openJob(id, { lastEventId: "1" });
    await stream.take(3);
    expect(await counts()).toEqual({ delivered: 3, replayed: 3, changes: 0 });

    const all = await edge.open("/v1/events");
    await all.next();
    // Over many jobs the first read tells the present state of each that has not ended.
    expect(await counts()).toEqual({ delivered: 4, replayed: 4, changes: 0 });

    await edge.report(id, 40, 50);
    await stream.take(2);
    await all.take(2);
    expect(await counts()).toEqual({ delivered: 8, replayed: 4, changes: 2 });

    await edge.server.call("GET", `/v1/jobs/${id}/events?after=0&wait=0`);
    expect(await counts()).toEqual({ delivered: 14, replayed: 4, changes: 2 });
  });

  it("tells whether changes are read, and how long ago", async () => {
    const { listener, process } = await statistics();
    expect(listener).toMatchObject({ isHealthy: true, bell: true });
    expect(listener.lastReadAgoMs).toBeLessThan(5_000);
    expect(process.uptimeSeconds).toBeGreaterThan(0);
    expect(process.rssBytes).toBeGreaterThan(1_000_000);
  });
});

describe("GET /metrics", () => {
  it("says to Prometheus, without a token, what the statistics say, and nothing of owners", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id);
    await stream.next();
    await edge.report(id, 10);
    await stream.next(); // so the feed has read everything there is
    const { streams, events, listener } = await statistics();
    const values = await metrics();
    expect(Object.fromEntries([...values].filter(([name]) => name.startsWith("jobcast_")))).toEqual(
      {
        'jobcast_streams_open{transport="sse"}': 1,
        'jobcast_streams_open{transport="long_poll"}': 0,
        jobcast_streams_opened_total: streams.opened,
        jobcast_streams_refused_total: streams.refused,
        'jobcast_streams_cut_total{reason="slow"}': 0,
        'jobcast_streams_cut_total{reason="stalled"}': 0,
        'jobcast_streams_cut_total{reason="memory"}': 0,
        jobcast_unsent_bytes: expect.toSatisfy((bytes) => bytes >= 0 && bytes < 10_000),
        ...Object.fromEntries(
          ["streams", "reads", "writes", "waiting", "service"].flatMap((lane) => [
            [`jobcast_database_healthy{lane="${lane}"}`, 1],
            [`jobcast_database_statements_running{lane="${lane}"}`, expect.any(Number)],
            [`jobcast_database_statements_waiting{lane="${lane}"}`, 0],
          ]),
        ),
        jobcast_subscription_topics: 1,
        jobcast_events_delivered_total: events.delivered,
        jobcast_events_replayed_total: events.replayed,
        jobcast_feed_changes_total: listener.changes,
        jobcast_listener_healthy: 1,
        jobcast_listener_asleep: expect.toSatisfy((value) => value === 0 || value === 1),
        jobcast_listener_last_read_age_seconds: expect.toSatisfy((age) => age >= 0 && age < 5),
        'jobcast_retention_removed_total{kind="deletions"}': 0,
        jobcast_retention_sweep_age_seconds: expect.toSatisfy((age) => age >= 0),
      },
    );
    expect([...values.keys()].join()).not.toContain("alice");
  });

  it("tells of the process too, and counters of one scrape are not added to those of the next", async () => {
    const first = await metrics();
    const second = await metrics();
    expect(second.get("jobcast_streams_opened_total")).toBe(
      first.get("jobcast_streams_opened_total"),
    );
    expect(second.get("process_resident_memory_bytes")).toBeGreaterThan(1_000_000);
  });
});
