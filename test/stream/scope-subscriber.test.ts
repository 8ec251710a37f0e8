import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Change } from "../../src/change/change.ts";
import type { Snapshot } from "../../src/change/snapshot.ts";
import { Allowance } from "../../src/stream/allowance.ts";
import { ResponseConnection } from "../../src/stream/connection.ts";
import { chunksOf, eventFrame, OutgoingChange } from "../../src/stream/frames.ts";
import { Hub } from "../../src/stream/hub.ts";
import {
  type Opening,
  ScopeSubscriber,
  type ScopeView,
} from "../../src/stream/scope-subscriber.ts";
import { until } from "../support/deadline.ts";
import { type Bench, change, JOB, openBench } from "./bench.ts";
import { upTo, versionsOf } from "./edge.ts";

const EPOCH = "abc";
const view: ScopeView = {
  epoch: EPOCH,
  scope: { kind: "owner", id: "alice" },
  showsOwners: false,
};

let bench: Bench;

afterEach(async () => {
  vi.restoreAllMocks();
  await bench?.close();
});

/** Everything up to and with this transaction. */
const seen = (xid: number): Snapshot => ({ xmin: xid + 1, xmax: xid + 1, xip: [] });

/** A change whose frame has this many bytes. */
function changeOf(version: number, bytes: number): Change {
  const sizeOf = (message: string) =>
    new OutgoingChange(change(version, { message })).sharedFrame?.chunks[0]?.length ?? 0;
  return change(version, { message: "x".repeat(bytes - sizeOf("x".repeat(bytes)) + bytes) });
}

/** All of a walk on one page. */
const opening = (changes: readonly Change[], xid: number): Opening => ({
  page: { changes, snapshot: seen(xid), next: undefined },
  isReset: false,
});

function subscribe(read?: (since: Snapshot) => Promise<Opening>) {
  const hub = new Hub((error) => {
    throw error;
  });
  const reads = {
    async since(snapshot: Snapshot) {
      if (!read) throw new Error("it read although nothing was missing");
      return read(snapshot);
    },
    async next() {
      throw new Error("it read on although there was no next page");
    },
  };
  const subscriber = new ScopeSubscriber(view, reads, new Allowance(1_048_576));
  hub.subscribe(["owner:alice"], subscriber);
  return { hub, subscriber };
}

describe("a long replay to a slow client", () => {
  it("never lets a heartbeat or a goodbye carry the id of an event that is still to come", async () => {
    bench = await openBench();
    const { stream, client } = bench;
    // Slices of a replay are 64 KiB: the last one ends just behind the id, were it a frame apart.
    const slice = 65_536;
    const changes = [changeOf(1, slice), changeOf(2, slice), changeOf(3, slice - 10), change(4)];
    // A client that is behind after every slice, and a heartbeat before it has caught up.
    const { send } = ResponseConnection.prototype;
    vi.spyOn(ResponseConnection.prototype, "send").mockImplementation(function (
      this: ResponseConnection,
      chunks,
    ) {
      send.call(this, chunks);
      send.call(this, chunksOf([eventFrame("ping", "{}")]));
    });
    await subscribe().subscriber.begin(stream, opening(changes, 4));
    stream.close("max_age", 100);
    await client.ended;
    expect(versionsOf(client.events)).toEqual(upTo(4));
    const isCarried = ({ lastEventId }: { lastEventId: string }) => lastEventId !== "";
    expect(client.events.filter(({ type }) => type === "ping").length).toBeGreaterThanOrEqual(3);
    expect(client.events.find(isCarried)).toMatchObject({ type: "status" });
    expect(client.events.findIndex(isCarried)).toBeGreaterThanOrEqual(
      client.events.findLastIndex(({ type }) => type === "status"),
    );
    expect(client.idOnlyBlocks).toBe(0);
  });
});

describe("a flush of several pages", () => {
  it("has its id on its last event only, whichever page that came with", async () => {
    bench = await openBench();
    const { hub, subscriber } = subscribe();
    await subscriber.begin(bench.stream, opening([], 0));
    const elsewhere = { ...change(9), ownerId: "bob" };
    hub.publish([change(1), change(2)], undefined);
    hub.publish([change(3)], undefined);
    hub.publish([elsewhere], seen(9)); // the last page has nothing for alice
    hub.publish([change(10)], seen(10));
    await bench.client.take(5);
    const [ready, ...events] = bench.client.events;
    expect(ready).toMatchObject({ type: "ready", lastEventId: `${EPOCH}-1.0` });
    expect(events.map(({ lastEventId }) => lastEventId)).toEqual([
      `${EPOCH}-1.0`,
      `${EPOCH}-1.0`,
      `${EPOCH}-a.0`,
      `${EPOCH}-b.0`,
    ]);
  });

  it("that began before the replay ended is told once, without what the replay saw", async () => {
    bench = await openBench();
    const { hub, subscriber } = subscribe();
    hub.publish([change(1), change(2)], undefined);
    await subscriber.begin(bench.stream, opening([change(1), change(2)], 2));
    hub.publish([change(3)], undefined);
    hub.publish([change(4)], seen(4));
    await bench.client.take(4);
    expect(versionsOf(bench.client.events)).toEqual([1, 2, 3, 4]);
    expect(bench.client.lastEventId).toBe(`${EPOCH}-5.0`);
  });
});

describe("more live changes than may wait for a replay", () => {
  it("are read from the table instead, none lost and none twice", async () => {
    bench = await openBench();
    const all = upTo(3_000).map((version) => change(version));
    const { hub, subscriber } = subscribe(async ({ xmax }) => {
      const missed = all.filter(({ xid }) => xid >= xmax);
      return opening(missed, 3_000);
    });
    for (const one of all.slice(500, 2_500)) hub.publish([one], seen(one.xid));
    const begun = subscriber.begin(bench.stream, opening(all.slice(0, 500), 500));
    for (const one of all.slice(2_500)) hub.publish([one], seen(one.xid));
    await begun;
    hub.publish([change(3_001)], seen(3_001));
    await bench.client.take(3_001);
    expect(versionsOf(bench.client.events)).toEqual(upTo(3_001));
  });
});

/** The id of one of a few jobs. */
const jobOf = (number: number) => JOB.slice(0, -1) + number;

describe("changes that are too large to be handed to everybody", () => {
  /** Steps of a database and its feed: a commit to a job, or the next commits told in pages. */
  const steps = fc.array(
    fc.oneof(
      { weight: 3, arbitrary: fc.record({ commit: fc.nat(3) }) },
      fc.record({
        pages: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      }),
      fc.record({ pause: fc.nat(3) }),
    ),
    { minLength: 5, maxLength: 60 },
  );

  it("are read by whoever watches: each version once and in order, whatever else happens", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.array(fc.boolean(), { minLength: 7 }), async (plan, sizes) => {
        const one = await openBench();
        const history: Change[] = [];
        const versions = new Map<number, number>();
        let published = 0;
        const { hub, subscriber } = subscribe(async ({ xmax }) => {
          await new Promise((resolve) => setImmediate(resolve));
          const missed = history.filter(({ xid }) => xid >= xmax);
          return opening(missed.toSorted(byJob), history.length);
        });
        const begun = one.stream.run(() => subscriber.begin(one.stream, opening([], 0)));

        function commit(job: number): void {
          const version = (versions.get(job) ?? 0) + 1;
          versions.set(job, version);
          history.push(change(version, { jobId: jobOf(job) }, history.length + 1));
        }
        /** Some of what was committed, as one flush of so many pages. */
        function publish(pages: readonly number[]): void {
          for (const [index, size] of pages.entries()) {
            const news = history
              .slice(published, published + size)
              .map((each, at) =>
                sizes[(at + published) % sizes.length] ? { ...each, json: undefined } : each,
              );
            published += news.length;
            hub.publish(news, index === pages.length - 1 ? seen(published) : undefined);
          }
        }
        for (const step of plan) {
          if ("commit" in step) commit(step.commit);
          else if ("pages" in step) publish(step.pages);
          else for (let n = 0; n < step.pause; n += 1) await new Promise(setImmediate);
        }
        publish([history.length]);
        await begun;
        const told = () => one.client.events.filter(({ type }) => type === "status");
        await until(
          () => told().length >= history.length,
          5_000,
          () => `${told().length} told`,
        );
        for (let n = 0; n < 5; n += 1) await new Promise(setImmediate);
        const byId = new Map<string, number[]>();
        for (const { data } of told()) {
          const { jobId, version } = JSON.parse(data);
          byId.set(jobId, [...(byId.get(jobId) ?? []), version]);
        }
        await one.close();
        expect(byId).toEqual(
          new Map([...versions].map(([job, newest]) => [jobOf(job), upTo(newest)])),
        );
      }),
      { numRuns: 150 },
    );
  });

  it("end the stream when they cannot be read, and its client comes back", async () => {
    const failures: unknown[] = [];
    bench = await openBench({ onError: (error) => void failures.push(error) });
    const { hub, subscriber } = subscribe(() => Promise.reject(new RangeError("broken")));
    await subscriber.begin(bench.stream, opening([], 0));
    hub.publish([{ ...change(1), json: undefined }], seen(1));
    await bench.client.ended;
    expect(failures).toEqual([new RangeError("broken")]);
  });
});

function byJob(one: Change, other: Change): number {
  return one.jobId.localeCompare(other.jobId) || one.version - other.version;
}
