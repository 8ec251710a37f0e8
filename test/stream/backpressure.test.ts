import { afterEach, describe, expect, it } from "vitest";
import type { Change } from "../../src/change/change.ts";
import { Allowance } from "../../src/stream/allowance.ts";
import { eventFrame } from "../../src/stream/frames.ts";
import { JobSubscriber } from "../../src/stream/job-subscriber.ts";
import { until, within } from "../support/deadline.ts";
import { type Bench, change, JOB, openBench } from "./bench.ts";
import { NOTHING_MS, upTo, versionsOf } from "./edge.ts";

const MIB = 1_048_576;
const PING = eventFrame("ping", "{}");

let bench: Bench;
let timers: NodeJS.Timeout[] = [];

afterEach(async () => {
  for (const timer of timers) clearInterval(timer);
  timers = [];
  await bench?.close();
});

function every(ms: number, call: () => void): void {
  timers.push(setInterval(call, ms));
}

/** What the server still has to send, and the kernel has not taken. */
const unsent = () => bench.res.socket?.writableLength ?? 0;

/** A client that does not read, and the kernel's buffers full, so that nothing more gets through. */
async function fill(): Promise<void> {
  bench.client.pause();
  const frame = eventFrame("filler", "x".repeat(65_536));
  while (bench.stream.isOpen && unsent() === 0) {
    bench.stream.send([frame]);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Reads a little every few milliseconds, as over a thin line. */
function readSlowly(everyMs: number): void {
  bench.client.pause();
  every(everyMs, () => {
    bench.client.resume();
    setImmediate(() => bench.client.pause());
  });
}

describe("a client that does not keep up", () => {
  it("is cut when it has left more unread than its budget, and only then", async () => {
    bench = await openBench({ bufferBytes: 256 * 1_024 });
    await fill();
    const data = "y".repeat(50_000);
    const frame = eventFrame("status", data);
    let most = 0;
    while (bench.stream.isOpen) {
      most = unsent();
      bench.stream.send([frame]);
    }
    expect(bench.cuts).toEqual(["slow"]);
    expect(most).toBeGreaterThan(256 * 1_024);
    expect(most).toBeLessThan(256 * 1_024 + 2 * data.length + 65_700);
    await within(bench.closed, 1_000, "the server to let go");
    bench.client.resume();
    await bench.client.ended;
    expect(bench.client.ending).toBe("cut");
  });

  it("is not cut for an event that is larger than its budget", async () => {
    bench = await openBench({ bufferBytes: 10_000 });
    for (let count = 0; count < 5; count += 1) {
      bench.stream.send([eventFrame("status", "z".repeat(5 * MIB))]);
      const event = await bench.client.next();
      expect(event.data).toHaveLength(5 * MIB);
    }
    expect(bench.cuts).toEqual([]);
  });

  it("is cut when it has taken nothing from one heartbeat to the next", async () => {
    bench = await openBench();
    await fill();
    bench.stream.ping(PING);
    expect(bench.stream.isOpen).toBe(true);
    bench.stream.ping(PING);
    expect(bench.stream.isOpen).toBe(false);
    expect(bench.cuts).toEqual(["stalled"]);
    await within(bench.closed, 1_000, "the server to let go");
  });

  it("is not cut while it takes a large event slowly, however many heartbeats that lasts", async () => {
    bench = await openBench();
    readSlowly(25);
    bench.stream.send([eventFrame("status", "z".repeat(48 * MIB))]);
    let heartbeats = 0;
    every(100, () => {
      if (unsent() > 0) heartbeats += 1;
      bench.stream.ping(PING);
    });
    const event = await bench.client.next(({ type }) => type === "status");
    expect(event.data).toHaveLength(48 * MIB);
    expect(bench.cuts).toEqual([]);
    expect(heartbeats).toBeGreaterThan(3);
  });

  it("and hears nothing between heartbeats is as well as any", async () => {
    bench = await openBench();
    for (let count = 0; count < 20; count += 1) {
      bench.stream.ping(PING);
      await bench.client.next(({ type }) => type === "ping");
    }
    expect(bench.cuts).toEqual([]);
  });
});

/** A job that has ended, with a history that is far larger than any buffer. */
function longHistory(count: number, bytes: number): Change[] {
  return upTo(count).map((version) =>
    change(version, {
      message: "m".repeat(bytes),
      status: version === count ? "completed" : "processing",
    }),
  );
}

describe("a long history", () => {
  it("is sent at the pace of the client, up to the end of the job", async () => {
    bench = await openBench({ bufferBytes: 2 * MIB });
    const history = longHistory(300, 100_000);
    const page = (after: number) => ({
      ownerId: "alice",
      batchId: null,
      version: history.length,
      status: "completed" as const,
      tagAfter: null,
      events: history.slice(after, after + 200),
    });
    readSlowly(2);
    let most = 0;
    every(1, () => {
      most = Math.max(most, unsent());
    });
    every(200, () => bench.stream.ping(PING));
    const parking = new Allowance(MIB);
    new JobSubscriber(JOB, async (after) => page(after ?? 0), parking).begin(
      bench.stream,
      page(0),
      false,
    );
    await until(() => bench.client.ending, 20_000, "the end");
    expect(versionsOf(bench.client.events)).toEqual(upTo(300));
    expect(bench.cuts).toEqual([]);
    expect(most).toBeLessThan(MIB);
  });
});

describe("a stream that has ended", () => {
  it("is held until the client has taken its last words", async () => {
    bench = await openBench();
    await fill();
    bench.stream.close("max_age", 100);
    expect(bench.stream.isOpen).toBe(false);
    const early = await Promise.race([
      bench.closed.then(() => "closed"),
      new Promise((resolve) => setTimeout(resolve, NOTHING_MS, "held")),
    ]);
    expect(early).toBe("held");
    bench.client.resume();
    await bench.client.ended;
    expect(bench.client.ending).toBe("complete");
    expect(bench.client.events.at(-1)?.type).toBe("close");
    await within(bench.closed, 1_000, "the server to let go");
    expect(bench.cuts).toEqual([]);
  });

  it("is cut when the client never takes them", async () => {
    bench = await openBench();
    await fill();
    bench.stream.end();
    bench.stream.ping(PING);
    bench.stream.ping(PING);
    await within(bench.closed, 1_000, "the server to let go");
    expect(bench.cuts).toEqual(["stalled"]);
  });

  it("takes nothing more, and is let go at once when the client is gone", async () => {
    bench = await openBench();
    bench.stream.end();
    bench.stream.send([PING]);
    bench.stream.ping(PING);
    bench.stream.end();
    bench.stream.close("draining", 1);
    await bench.client.ended;
    expect(bench.client.events).toEqual([]);
    await within(bench.closed, 1_000, "the server to let go");
  });
});
