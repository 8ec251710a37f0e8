import { afterEach, describe, expect, it } from "vitest";
import { eventFrame } from "../../src/stream/frames.ts";
import { until, within } from "../support/deadline.ts";
import { openBench } from "./bench.ts";
import { type Edge, idOf, isState, startEdge } from "./edge.ts";

let edge: Edge | undefined;

afterEach(async () => {
  await edge?.stop();
  edge = undefined;
});

describe("a drain", () => {
  it("says goodbye to 500 streams, each with its own delay, spread over the time", async () => {
    edge = await startEdge({ retryMs: 2_000 });
    const { server } = edge;
    const id = await edge.newJob();
    const streams = await Promise.all(
      Array.from({ length: 500 }, (_, index) =>
        edge?.open(index % 2 ? `/v1/jobs/${id}/events` : "/v1/events"),
      ),
    );
    await Promise.all(streams.map((stream) => stream?.next(isState)));
    const polling = edge.openJob(id, {
      headers: { accept: "application/json" },
      lastEventId: "1",
    });
    await until(() => server.jobcast.statistics().open["long-poll"] === 1, 5_000, "the poll");

    const begun = performance.now();
    const drained = server.jobcast.drain(2_000);
    const ends = await Promise.all(
      streams.map(async (stream) => {
        const close = await stream?.next(({ type }) => type === "close");
        await stream?.ended;
        expect([stream?.ending, stream?.events.at(-1)]).toEqual(["complete", close]);
        const { reason, retryMs } = JSON.parse(close?.data ?? "");
        expect([reason, retryMs]).toEqual(["draining", stream?.retry]);
        return { at: performance.now() - begun, retryMs };
      }),
    );
    await within(drained, 1_000, "the drain");
    const times = ends.map(({ at }) => at).sort((a, b) => a - b);
    // A tenth of them in every tenth of the time, give or take a slow machine.
    expect(times.at(-1)).toBeGreaterThan(1_700);
    expect(times.at(-1)).toBeLessThan(3_000);
    for (let tenth = 1; tenth < 10; tenth += 1) {
      expect(times[tenth * 50]).toBeGreaterThan(tenth * 200 - 150);
      expect(times[tenth * 50]).toBeLessThan(tenth * 200 + 500);
    }
    const delays = new Set(ends.map(({ retryMs }) => retryMs));
    expect(delays.size).toBeGreaterThan(250);
    const poll = await within(polling, 1_000, "the poll to be answered");
    expect(JSON.parse(await poll.body())).toMatchObject({ events: [], cursor: idOf(1) });
    await edge.expectNothingOpen();
  });

  it("lets no new stream in, and says when to come back: not before its own end", async () => {
    edge = await startEdge({ retryMs: 2_000 });
    const id = await edge.newJob();
    const open = await edge.openJob(id);
    const begun = performance.now();
    const drained = edge.server.jobcast.drain(3_000);
    const paths = [`/v1/jobs/${id}/events`, "/v1/events", `/v1/events?jobs=${id}`];
    for (const path of paths) {
      for (const lastEventId of ["7-abcdef", "\u00e9"]) {
        const stream = await edge.open(path, { lastEventId });
        const left = begun + 3_000 - performance.now();
        expect(stream.status).toBe(200);
        expect(stream.headers).toMatchObject({ "content-type": "text/event-stream" });
        await stream.ended;
        expect(stream.ending).toBe("complete");
        const [close] = stream.events;
        expect(close?.type).toBe("close");
        // What is no id of ours is not said again.
        const said = /^id: (.*)$/m.exec(await stream.body())?.[1];
        expect(said).toBe(lastEventId === "\u00e9" ? undefined : lastEventId);
        expect(JSON.parse(close?.data ?? "")).toEqual({
          reason: "draining",
          retryMs: stream.retry,
        });
        expect(stream.retry).toBeGreaterThan(left + 1_499);
        expect(stream.retry).toBeLessThan(3_000 + 2_500);
        expect(stream.events).toHaveLength(1);
      }
    }
    await open.ended;
    await drained;
    await edge.expectNothingOpen();
  });

  it("refuses everything that is no event stream with 503", async () => {
    edge = await startEdge();
    const id = await edge.newJob();
    await edge.server.jobcast.drain(0);
    for (const path of [`/v1/jobs/${id}/events?wait=1`, "/v1/events?wait=1"]) {
      const poll = await edge.open(path, { headers: { accept: "application/json" } });
      expect(poll.status).toBe(503);
      expect(Number(poll.headers["retry-after"])).toBeGreaterThan(0);
      expect(JSON.parse(await poll.body())).toMatchObject({ code: "draining" });
    }
    const head = await fetch(`${edge.server.url}/v1/jobs/${id}/events`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${edge.server.token()}` },
    });
    expect(head.status).toBe(503);
  });

  it("forgets none that was still beginning when it came", async () => {
    edge = await startEdge();
    const { server, db } = edge;
    const id = await edge.newJob();
    const locker = await db.connect();
    await locker.query("begin; lock table jobcast.status_history in access exclusive mode");
    const opening = [edge.openJob(id), edge.open("/v1/events")];
    await until(() => server.jobcast.statistics().open.sse === 2, 5_000, "both to be let in");
    const drained = server.jobcast.drain(0);
    await locker.query("commit");
    for (const stream of await Promise.all(opening)) {
      const close = await stream.next(({ type }) => type === "close");
      expect(JSON.parse(close.data).reason).toBe("draining");
      await stream.ended;
    }
    await drained;
    await edge.expectNothingOpen();
  });

  it("of none takes no time", async () => {
    edge = await startEdge();
    const begun = performance.now();
    await edge.server.jobcast.drain(5_000);
    expect(performance.now() - begun).toBeLessThan(1_000);
  });
});

describe("the end of a stream and what is broadcast at that moment", () => {
  it("meet 2,000 times without an error that nobody catches", async () => {
    const errors: unknown[] = [];
    const onError = (error: unknown) => void errors.push(error);
    process.on("uncaughtException", onError);
    process.on("unhandledRejection", onError);
    const frame = eventFrame("status", JSON.stringify({ text: "x".repeat(1_000) }));
    const endings = ["end", "close", "gone", "reset"] as const;
    for (let round = 0; round < 400; round += 1) {
      const benches = await Promise.all([
        ...Array.from({ length: 4 }, () => openBench()),
        // Without chunks, as to a client of HTTP/1.0, it is Node that writes, and complains.
        openBench({}, (res) => {
          res.useChunkedEncodingByDefault = false;
        }),
      ]);
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      for (const [index, { stream, client, res }] of benches.entries()) {
        for (let count = 0; count < 10; count += 1) {
          stream.send([frame]);
          if (count === 8) stream.ping(frame);
          if (count === 5) {
            const ending = endings[(round + index) % endings.length];
            if (ending === "end") stream.end();
            else if (ending === "close") stream.close("draining", 100);
            else if (ending === "gone") void client.close();
            else res.socket?.destroy();
          }
          if (count === 7) await turn();
        }
      }
      await Promise.all(benches.map(({ closed }) => within(closed, 5_000, "the end")));
      await Promise.all(benches.map((bench) => bench.close()));
    }
    await new Promise((resolve) => setImmediate(resolve));
    process.off("uncaughtException", onError);
    process.off("unhandledRejection", onError);
    expect(errors).toEqual([]);
  });
});
