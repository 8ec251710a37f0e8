import { expect } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import type { TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";

/** What a test needs of its database; an embedded instance of its own will do as well. */
export type Sql = Pick<TestDatabase, "query">;

export const OWNER = "alice";

/** New jobs of alice, pending. */
export async function createJobs(db: Sql, count: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    "insert into jobcast.jobs (owner_id, type) select $1, 'test' from generate_series(1, $2) returning id",
    [OWNER, count],
  );
  return rows.map(({ id }) => id);
}

/** One more version of a job. */
export async function change(db: Sql, jobId: string): Promise<void> {
  await db.query("update jobcast.jobs set message = 'change ' || (version + 1) where id = $1", [
    jobId,
  ]);
}

/** A stream for each of some jobs, and one over everything that alice has. */
export type Watch = {
  readonly jobs: ReadonlyMap<string, StreamClient>;
  readonly all: StreamClient;
  /**
   * Waits until everything that was committed has come, and fails unless every stream is still
   * open and was told of every version once, in order, without a hole.
   */
  expectAll(deadlineMs?: number): Promise<void>;
  close(): Promise<void>;
};

export async function openWatch(server: TestServer, db: Sql, jobIds: string[]): Promise<Watch> {
  const token = server.token();
  const { url } = server;
  const all = await openStream({ url, path: "/v1/events", token });
  const streams = await Promise.all(
    jobIds.map((id) => openStream({ url, path: `/v1/jobs/${id}/events`, token })),
  );
  const jobs = new Map(jobIds.map((id, index) => [id, streams[index] as StreamClient]));
  // The state that each begins with, or that there is none yet.
  await all.next();
  await Promise.all(streams.map((stream) => stream.next()));

  return {
    jobs,
    all,
    async expectAll(deadlineMs = 10_000) {
      const written = await newestVersions(db);
      await until(
        () =>
          hasAll(all, written) && [...jobs].every(([id, each]) => hasAll(each, only(written, id))),
        deadlineMs,
        () => `all of ${JSON.stringify([...written])}; there are ${listing(jobs, all)}`,
      );
      // Written when all else has come: whatever was to come twice has come twice before it.
      await createJobs(db, 1);
      const versions = await newestVersions(db);
      await until(() => hasAll(all, versions), deadlineMs, "the last job of all");
      for (const [id, each] of jobs) expectWhole(each, only(versions, id));
      expectWhole(all, versions);
    },
    async close() {
      await Promise.all([all, ...streams].map((stream) => stream.close()));
    },
  };
}

async function newestVersions(db: Sql): Promise<Map<string, number>> {
  const rows = await db.query<{ id: string; version: number }>(
    "select id, version from jobcast.jobs where owner_id = $1",
    [OWNER],
  );
  return new Map(rows.map(({ id, version }) => [id, version]));
}

type Events = { readonly events: readonly StreamEvent[] };

/** What was read of each list of events, so that waiting for the next does not read all again. */
const read = new WeakMap<Events["events"], { end: number; changes: [string, number][] }>();

/** The job and version of every `status` event, in the order in which they came. */
export function changesOf({ events }: Events): readonly [string, number][] {
  const known = read.get(events) ?? { end: 0, changes: [] };
  for (const { type, data } of events.slice(known.end)) {
    if (type !== "status") continue;
    const { jobId, version } = JSON.parse(data);
    known.changes.push([jobId, version]);
  }
  known.end = events.length;
  read.set(events, known);
  return known.changes;
}

function newestOf(stream: StreamClient): Map<string, number> {
  return new Map(changesOf(stream));
}

function hasAll(stream: StreamClient, versions: ReadonlyMap<string, number>): boolean {
  const newest = newestOf(stream);
  return [...versions].every(([id, version]) => newest.get(id) === version);
}

function only(versions: ReadonlyMap<string, number>, id: string): Map<string, number> {
  return new Map([[id, versions.get(id) ?? 0]]);
}

/** Each job from the version that came first to its newest, by ones. */
function expectWhole(stream: StreamClient, versions: ReadonlyMap<string, number>): void {
  expect(stream.ending).toBeUndefined();
  expect(stream.events.filter(({ type }) => type === "reset" || type === "close")).toEqual([]);
  const seen = new Map<string, number[]>();
  for (const [id, version] of changesOf(stream)) {
    const versions = seen.get(id);
    if (versions) versions.push(version);
    else seen.set(id, [version]);
  }
  for (const [id, newest] of versions) {
    const first = seen.get(id)?.[0] ?? 1;
    const whole = Array.from({ length: newest - first + 1 }, (_, index) => first + index);
    expect(seen.get(id)).toEqual(whole);
  }
}

function listing(jobs: ReadonlyMap<string, StreamClient>, all: StreamClient): string {
  const newest = [...jobs].map(([id, stream]) => `${id}: ${newestOf(stream).get(id)}`);
  return `${newest.join(", ")}; in all: ${JSON.stringify([...newestOf(all)])}`;
}
