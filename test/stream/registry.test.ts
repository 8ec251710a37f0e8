import { afterEach, describe, expect, it, vi } from "vitest";
import { StreamRegistry } from "../../src/stream/registry.ts";
import { type Bench, openBench } from "./bench.ts";

const NEVER = Number.POSITIVE_INFINITY;

let benches: Bench[] = [];

afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(benches.map((bench) => bench.close()));
  benches = [];
});

const createRegistry = () =>
  new StreamRegistry({
    heartbeatMs: 15_000,
    retryMs: 2_000,
    maxStreams: 100,
    maxStreamsPerOwner: 100,
    maxStreamMs: 3_600_000,
    maxUnsentBytes: 134_217_728,
  });

async function openOne(): Promise<Bench> {
  const bench = await openBench();
  benches.push(bench);
  return bench;
}

describe("when the database behind the service became another one", () => {
  it("ends every stream, and those that were still beginning, but none that came after", async () => {
    const registry = createRegistry();
    const [open, beginning, later] = [await openOne(), await openOne(), await openOne()];
    registry.admit("alice", "sse").attend(open.stream, { expiresAt: NEVER });
    const place = registry.admit("alice", "sse");
    registry.closeAll("database_changed");
    place.attend(beginning.stream, { expiresAt: NEVER });
    registry.admit("alice", "sse").attend(later.stream, { expiresAt: NEVER });
    for (const { client } of [open, beginning]) {
      const close = await client.next(({ type }) => type === "close");
      expect(JSON.parse(close.data).reason).toBe("database_changed");
    }
    expect(later.stream.isOpen).toBe(true);
  });
});

describe("heartbeats", () => {
  it("fall where their streams began, and not all at one moment", async () => {
    const streams = [await openOne(), await openOne(), await openOne()];
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date", "performance"] });
    const registry = createRegistry();
    registry.start();
    const pinged = new Map<number, number[]>();
    for (const [index, { stream }] of streams.entries()) {
      registry.admit("alice", "sse").attend(stream, { expiresAt: NEVER });
      const begun = Date.now();
      pinged.set(index, []);
      vi.spyOn(stream, "ping").mockImplementation(() => {
        pinged.get(index)?.push(Date.now() - begun);
      });
      vi.advanceTimersByTime(4_000);
    }
    vi.advanceTimersByTime(60_000);
    registry.stop();
    for (const times of pinged.values()) {
      expect(times.length).toBeGreaterThanOrEqual(4);
      for (const [beat, time] of times.entries()) {
        // The one timer for all looks four times a second.
        expect(time).toBeGreaterThanOrEqual((beat + 1) * 15_000);
        expect(time).toBeLessThanOrEqual((beat + 1) * 15_250);
      }
    }
  });

  it("stop with the registry", async () => {
    const { stream } = await openOne();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date", "performance"] });
    const registry = createRegistry();
    registry.start();
    registry.start();
    const place = registry.admit("alice", "sse");
    place.attend(stream, { expiresAt: NEVER });
    const ping = vi.spyOn(stream, "ping");
    vi.advanceTimersByTime(20_000);
    expect(ping).toHaveBeenCalledTimes(1);
    registry.stop();
    vi.advanceTimersByTime(60_000);
    expect(ping).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("a stream", () => {
  it("lives no longer than the limit, and not as long as the others", async () => {
    const streams = await Promise.all(Array.from({ length: 10 }, openOne));
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date", "performance"] });
    const registry = createRegistry();
    registry.start();
    const begun = Date.now();
    const ages: number[] = [];
    for (const { stream } of streams) {
      registry.admit("alice", "sse").attend(stream, { expiresAt: NEVER });
      vi.spyOn(stream, "ping").mockImplementation(() => undefined);
      vi.spyOn(stream, "close").mockImplementation((reason) => {
        expect(reason).toBe("max_age");
        stream.end();
        ages.push(Date.now() - begun);
      });
    }
    vi.advanceTimersByTime(3_600_000 + 250); // the timer looks four times a second
    registry.stop();
    expect(ages).toHaveLength(10);
    expect(Math.min(...ages)).toBeGreaterThan(2_600_000);
    expect(new Set(ages).size).toBeGreaterThan(5);
  });
});

describe("a place", () => {
  it("is given back once, however often that is said", () => {
    const registry = createRegistry();
    const [one, two] = [registry.admit("alice", "sse"), registry.admit("alice", "long-poll")];
    one.release();
    one.release();
    expect(registry.statistics()).toMatchObject({
      open: { sse: 0, "long-poll": 1 },
      openByOwner: { alice: 1 },
    });
    two.release();
    expect(registry.statistics()).toMatchObject({ openByOwner: {}, opened: 2 });
  });
});
