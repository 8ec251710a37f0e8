import { afterEach, describe, expect, it } from "vitest";
import { type Edge, idOf, startEdge } from "./edge.ts";

let edge: Edge;

afterEach(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

/** What the server's last words were, parsed. */
async function closeOf(stream: Awaited<ReturnType<Edge["open"]>>) {
  const event = await stream.next(({ type }) => type === "close");
  await stream.ended;
  expect(stream.ending).toBe("complete");
  expect([stream.parser.emptyBlocks, stream.parser.idlessEvents]).toEqual([0, 0]);
  expect(stream.events.at(-1)).toBe(event);
  return { ...JSON.parse(event.data), lastEventId: event.lastEventId };
}

describe("the retry field", () => {
  it("comes before everything else, in digits, and differs from client to client", async () => {
    edge = await startEdge({ retryMs: 2_000 });
    const id = await edge.newJob();
    const retries = new Set<number>();
    for (let index = 0; index < 30; index += 1) {
      const stream = await edge.openJob(id, index % 2 ? { lastEventId: "1" } : {});
      await stream.next();
      if (index % 2) await edge.report(id, index);
      await stream.close();
      expect(stream.parser.retries).toHaveLength(1);
      expect(stream.parser.emptyBlocks).toBe(0);
      expect(stream.parser.ignoredLines).toEqual([]);
      retries.add(stream.retry ?? 0);
    }
    // Two of thirty fall on one of 1,000 milliseconds now and then; ten never do.
    expect(retries.size).toBeGreaterThan(20);
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(1_500);
    expect(Math.max(...retries)).toBeLessThanOrEqual(2_500);
  });

  it("is the first thing on the wire, in the block of the first event", async () => {
    edge = await startEdge();
    const stream = await edge.openJob(await edge.newJob());
    await stream.next();
    await stream.close();
    expect(await stream.body()).toMatch(/^retry: \d+\nevent: status\nid: 1-[\da-f]{6}\ndata: \{/);
  });
});

describe("a heartbeat", () => {
  it("is an event with data that EventSource can see, and does not move the last id", async () => {
    edge = await startEdge({ heartbeatSeconds: 1 });
    const id = await edge.newJob();
    const [job, all] = await Promise.all([edge.openJob(id), edge.open("/v1/events")]);
    for (const stream of [job, all]) {
      const state = await stream.next();
      const [first, second] = await stream.take(2, ({ type }) => type === "ping");
      const { at } = JSON.parse(first?.data ?? "");
      expect(Math.abs(Date.parse(at) - Date.now())).toBeLessThan(5_000);
      expect([first?.lastEventId, second?.lastEventId]).toEqual([
        state.lastEventId,
        state.lastEventId,
      ]);
      expect(stream.idOnlyBlocks).toBe(0);
      expect([stream.parser.emptyBlocks, stream.parser.idlessEvents]).toEqual([0, 0]);
      expect(stream.parser.comments).toEqual([]);
      await stream.close();
    }
  });
});

describe("a stream that the server ends before the job ends", () => {
  it("of an expired token says so, and a client with the same token is refused", async () => {
    edge = await startEdge();
    const id = await edge.newJob();
    // Five seconds of tolerance for clocks are added to what the token says.
    const token = edge.server.token({ scope: "", expiresIn: -3 });
    const opened = Date.now();
    const streams = await Promise.all([
      edge.openJob(id, { token }),
      edge.open("/v1/events", { token }),
    ]);
    for (const stream of streams) {
      const state = await stream.next();
      const close = await closeOf(stream);
      expect(close).toMatchObject({ reason: "token_expired", lastEventId: state.lastEventId });
      expect(close.retryMs).toBe(stream.retry);
    }
    expect(Date.now() - opened).toBeLessThan(4_000);
    await edge.report(id, 50);
    expect(streams.map(({ events }) => events.filter(({ type }) => type === "status"))).toEqual([
      [expect.anything()],
      [expect.anything()],
    ]);
    expect((await edge.openJob(id, { token })).status).toBe(401);
  });

  it("is not one whose token is good for centuries, which no timer can wait for", async () => {
    edge = await startEdge({ heartbeatSeconds: 1 });
    const token = edge.server.token({ scope: "", expiresIn: 60 * 60 * 24 * 365 * 300 });
    const stream = await edge.openJob(await edge.newJob(), { token });
    await stream.take(2, ({ type }) => type === "ping");
    expect(stream.ending).toBeUndefined();
    await stream.close();
  });

  it("ends when it has lived long enough, and not all at the same moment", async () => {
    edge = await startEdge({ maxStreamSeconds: 2 });
    const id = await edge.newJob();
    const opened = performance.now();
    const ages = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const stream = await edge.openJob(id);
        expect(await closeOf(stream)).toMatchObject({ reason: "max_age", lastEventId: idOf(1) });
        return performance.now() - opened;
      }),
    );
    expect(Math.max(...ages) - Math.min(...ages)).toBeGreaterThan(200);
  });

  it("resumes exactly where it was", async () => {
    edge = await startEdge({ maxStreamSeconds: 1 });
    const id = await edge.newJob();
    const versions: number[] = [];
    let lastEventId = "0";
    for (let round = 0; round < 4; round += 1) {
      const stream = await edge.openJob(id, { lastEventId });
      await edge.report(id, round * 10 + 1);
      await stream.ended;
      versions.push(
        ...stream.events
          .filter(({ type }) => type === "status")
          .map((event) => JSON.parse(event.data).version),
      );
      lastEventId = stream.lastEventId;
    }
    expect(versions).toEqual([1, 2, 3, 4, 5]);
  });
});
