import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseCursor } from "../../src/change/cursor.ts";
import { createEmbeddedDatabase } from "../feed/embedded-database.ts";
import { testConnection } from "../support/connection.ts";
import type { TestDatabase } from "../support/database.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { type Edge, startEdge } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({}, await ownCluster());
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

/** So much that is in flight is in everybody's snapshots: not beside other tests. */
async function ownCluster(): Promise<TestDatabase> {
  const { url, query, remove } = await createEmbeddedDatabase();
  const connect = async () => {
    const client = new pg.Client(testConnection(url));
    await client.connect();
    return client;
  };
  return { url, adminUrl: url, name: "jobcast", query, connect, drop: remove };
}

let owners = 0;
function newOwner() {
  const sub = `owner-${++owners}`;
  const token = edge.server.token({ sub, scope: "" });
  const open = (path = "/v1/events", lastEventId?: string) =>
    edge.open(path, { token, ...(lastEventId !== undefined && { lastEventId }) });
  return { sub, open, newJob: () => edge.newJob(sub) };
}

/** `job:version` of each state, in order. */
function statesOf(events: readonly StreamEvent[]): string[] {
  return events
    .filter(({ type }) => type === "status")
    .map(({ data }) => JSON.parse(data))
    .map(({ jobId, version }) => `${jobId}:${version}`);
}

describe("a client of many jobs, while much is in flight,", () => {
  it("misses nothing that does not fit into its id", async () => {
    const { newJob, open } = newOwner();
    const jobs = await Promise.all(Array.from({ length: 30 }, () => newJob()));
    const marker = await newJob();
    const writers = await Promise.all(jobs.map(() => edge.db.connect()));
    for (const [index, writer] of writers.entries()) {
      await writer.query("begin");
      await writer.query("select jobcast.report_progress($1, 10)", [jobs[index]]);
    }
    const first = await open();
    await first.take(31);
    await edge.report(marker, 10);
    await first.next();
    await first.close();
    const snapshot = parseCursor(first.lastEventId.split("-")[0] ?? "", first.lastEventId);
    expect(snapshot?.xip.length).toBeGreaterThan(10);
    expect(first.lastEventId.length).toBeLessThanOrEqual(64);
    await Promise.all(writers.map((writer) => writer.query("commit")));
    const second = await open("/v1/events", first.lastEventId);
    const missed = new Set(jobs.map((id) => `${id}:2`));
    const seen = new Set(statesOf(first.events));
    // What was seen may come again: that is the price. Nothing else comes, and what was missed
    // comes once.
    while (missed.size > 0) {
      const [state = ""] = statesOf([await second.next()]);
      if (!missed.delete(state)) expect(seen).toContain(state);
    }
    await second.close();
    await Promise.all(writers.map((writer) => writer.end()));
  });

  it("is told once by polls, which wait", async () => {
    const { sub, newJob } = newOwner();
    const jobs = await Promise.all(Array.from({ length: 40 }, () => newJob()));
    const writers = await Promise.all(jobs.map(() => edge.db.connect()));
    for (const [index, writer] of writers.entries()) {
      await writer.query("begin");
      await writer.query("select jobcast.report_progress($1, 10)", [jobs[index]]);
    }
    const poll = async (after: string, wait: number) => {
      const path = `/v1/events?wait=${wait}&after=${after}`;
      const token = edge.server.token({ sub, scope: "" });
      const answer = await edge.open(path, { headers: { accept: "application/json" }, token });
      return JSON.parse(await answer.body());
    };
    const told: number[] = [];
    let { cursor } = await poll("", 0);
    const others = await Promise.all(Array.from({ length: 3 }, () => newJob()));
    for (const other of others) {
      await edge.report(other, 50);
      const { events, cursor: next } = await poll(cursor, 10);
      told.push(events.length);
      cursor = next;
    }
    expect(told).toEqual([4, 1, 1]); // with the three that were made
    expect((await poll(cursor, 0.5)).events).toEqual([]);
    await Promise.all(writers.map((writer) => writer.query("commit")));
    const { events } = await poll(cursor, 10);
    expect(events).toHaveLength(40);
    await Promise.all(writers.map((writer) => writer.end()));
  });
});
