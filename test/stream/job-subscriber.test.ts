import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import type { Change } from "../../src/change/change.ts";
import type { JobReplay } from "../../src/db/job-reader.ts";
import type { Status } from "../../src/protocol/status.ts";
import { Allowance } from "../../src/stream/allowance.ts";
import { Hub } from "../../src/stream/hub.ts";
import { JobSubscriber } from "../../src/stream/job-subscriber.ts";
import { until } from "../support/deadline.ts";
import { type Bench, change, JOB, openBench } from "./bench.ts";
import { upTo, versionsOf } from "./edge.ts";

const PAGE = 50;
const SEEN = { xmin: 1, xmax: 1, xip: [] };

let bench: Bench;

afterEach(() => bench?.close());

/** A table that is read with a delay of the test's choice, a hub, and a subscriber to both. */
function createJob() {
  const history: Change[] = [];
  const reads: (() => void)[] = [];
  const failures: unknown[] = [];
  let isHeld = false;

  function page(after: number | null): JobReplay {
    const newest = history.at(-1);
    const above = after ?? history.length - 1;
    const events = history.filter(({ version }) => version > above).slice(0, PAGE);
    const status = newest?.status ?? "pending";
    return {
      ownerId: "alice",
      batchId: null,
      version: history.length,
      status,
      tagAfter: null,
      events,
    };
  }
  async function read(after: number | null): Promise<JobReplay> {
    if (isHeld) await new Promise<void>((resolve) => reads.push(resolve));
    return page(after);
  }
  const hub = new Hub((error) => failures.push(error));
  const subscriber = new JobSubscriber(JOB, read, new Allowance(1_048_576));
  hub.subscribe([`job:${JOB}`], subscriber);
  return {
    hub,
    subscriber,
    failures,
    page,
    reads,
    hold: () => {
      isHeld = true;
    },
    release: () => {
      isHeld = false;
      for (const go of reads.splice(0)) go();
    },
    commit(status: Status = "processing") {
      history.push(change(history.length + 1, { status }));
      return history.length;
    },
    /** The feed has read these versions. */
    publish(...versions: number[]) {
      hub.publish(
        versions.map((version) => history[version - 1] ?? change(version)),
        SEEN,
      );
    },
    /** The same of one that is too large to be handed to everybody. */
    publishLarge(version: number) {
      hub.publish([{ ...change(version), json: undefined }], SEEN);
    },
  };
}

describe("a hole in what is live", () => {
  it("is filled from the table, once and in order", async () => {
    const job = createJob();
    job.commit();
    bench = await openBench();
    job.subscriber.begin(bench.stream, job.page(0), false);
    await bench.client.next();
    for (const version of [2, 3, 4, 5, 6, 7]) expect(job.commit()).toBe(version);
    job.publish(2);
    job.publish(4); // 3 got lost
    job.publish(5);
    job.publish(7); // and 6
    await bench.client.take(6);
    expect(job.commit("completed")).toBe(8);
    job.publish(8);
    await bench.client.ended;
    expect(versionsOf(bench.client.events)).toEqual(upTo(8));
    expect(job.failures).toEqual([]);
  });

  it("lets what comes while it is read wait, even the end", async () => {
    const job = createJob();
    job.commit();
    bench = await openBench();
    job.subscriber.begin(bench.stream, job.page(0), false);
    await bench.client.next();
    job.hold();
    job.commit();
    job.commit();
    job.publish(3);
    await until(() => job.reads.length === 1, 1_000, "the hole to be read");
    job.commit();
    job.commit("failed");
    job.publish(4, 5);
    job.release();
    await bench.client.ended;
    expect(versionsOf(bench.client.events)).toEqual(upTo(5));
  });
});

describe("a stream that is ending while its client has not gone", () => {
  it.each(["a large change", "a hole"])("is told no more, and costs nothing: %s", async (what) => {
    const job = createJob();
    job.commit();
    bench = await openBench();
    job.subscriber.begin(bench.stream, job.page(0), false);
    await bench.client.next();
    bench.client.pause();
    bench.stream.close("max_age", 100);
    for (const version of [2, 3]) expect(job.commit()).toBe(version);
    if (what === "a hole") job.publish(3);
    else job.publishLarge(2);
    // It would be read from the table, were there somebody to read it for; and the loop goes on.
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(job.reads).toEqual([]);
    bench.client.resume();
    await bench.client.ended;
    expect(versionsOf(bench.client.events)).toEqual([1]);
  });
});

describe("a page that ends with an end before a retry", () => {
  it("is no end: what follows is told", async () => {
    const job = createJob();
    for (let count = 1; count < PAGE; count += 1) job.commit();
    expect(job.commit("failed")).toBe(PAGE);
    job.commit("pending");
    job.commit("completed");
    bench = await openBench();
    job.subscriber.begin(bench.stream, job.page(0), false);
    await bench.client.ended;
    expect(versionsOf(bench.client.events)).toEqual(upTo(PAGE + 2));
  });
});

describe("more live changes than may wait for a replay", () => {
  it("are read from the table instead, none lost and none twice", async () => {
    const job = createJob();
    job.commit();
    bench = await openBench();
    const replay = job.page(0);
    for (let count = 0; count < 2_500; count += 1) job.publish(job.commit());
    job.subscriber.begin(bench.stream, replay, false);
    job.hold();
    for (let count = 0; count < 1_500; count += 1) job.publish(job.commit());
    job.release();
    job.publish(job.commit("completed"));
    await bench.client.ended;
    expect(versionsOf(bench.client.events)).toEqual(upTo(4_002));
  });
});

describe("a subscriber that throws", () => {
  it("does not keep a change from the others", async () => {
    const job = createJob();
    job.commit();
    bench = await openBench();
    const broken = new Error("broken");
    const boom = () => {
      throw broken;
    };
    job.hub.subscribe([`job:${JOB}`], { enqueue: boom, flush: boom });
    job.hub.subscribe(["owner:alice"], { enqueue: () => undefined, flush: boom });
    job.subscriber.begin(bench.stream, job.page(0), false);
    job.publish(job.commit());
    await bench.client.take(2);
    expect(versionsOf(bench.client.events)).toEqual([1, 2]);
    expect(job.failures).toEqual([broken, broken, broken]);
  });
});

type Step = "commit" | "publish" | "large" | "lose" | "repeat" | "read" | "turn";

it("tells every version once and in order, whatever the order of commits, rings and reads", async () => {
  const steps = fc.array(
    fc.constantFrom<Step>("commit", "commit", "publish", "large", "lose", "repeat", "read", "turn"),
    { maxLength: 120 },
  );
  await fc.assert(
    fc.asyncProperty(steps, steps, fc.nat(40), fc.nat(20), async (early, late, before, cursor) => {
      const job = createJob();
      for (let count = 0; count <= before; count += 1) job.commit();
      const after = Math.min(cursor, before);
      let committed = before + 1;
      let published = committed;
      job.hold();
      const run = await openBench();
      const replay = job.page(after);
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      const carryOut = async (plan: readonly Step[]) => {
        for (const step of plan) {
          if (step === "commit") committed = job.commit();
          else if (step === "publish" && published < committed) job.publish(++published);
          else if (step === "large" && published < committed) job.publishLarge(++published);
          else if (step === "lose" && published < committed) published += 1;
          else if (step === "repeat") job.publish(published);
          else if (step === "read") job.reads.shift()?.();
          else if (step === "turn") await turn();
        }
      };
      await carryOut(early);
      job.subscriber.begin(run.stream, replay, false);
      await carryOut(late);
      const end = job.commit("completed");
      job.publish(end);
      job.release();
      await run.client.ended;
      await run.close();
      expect(versionsOf(run.client.events)).toEqual(upTo(end, after + 1));
    }),
    { numRuns: 150 },
  );
});
