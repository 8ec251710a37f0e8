import type { IncomingMessage, ServerResponse } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { DeadlineError, within } from "./deadline.ts";
import { type HttpFixture, serveHttp } from "./http-fixture.ts";
import { createSignal } from "./signal.ts";
import { openStream } from "./stream-client.ts";

/** How long a test watches for something that must not happen. */
const NOTHING_MS = 300;
const frame = `data: ${"x".repeat(100_000)}\n\n`;

let fixture: HttpFixture | undefined;

afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

/** A server that keeps the one response open for the test to write to. */
async function serveStream(head = { "content-type": "text/event-stream" }, status = 200) {
  const arrival = createSignal<{ req: IncomingMessage; res: ServerResponse }>();
  fixture = await serveHttp((req, res) => {
    res.writeHead(status, head);
    res.flushHeaders();
    arrival.resolve({ req, res });
  });
  return { url: fixture.url, arrival: arrival.promise };
}

describe("openStream", () => {
  it("sends what an EventSource sends, with token and last id", async () => {
    const { url, arrival } = await serveStream();
    const options = {
      path: "/v1/events?a=b",
      token: "t0",
      lastEventId: "7",
      headers: { "x-a": "1" },
    };
    const stream = await openStream({ url, ...options });
    const { req } = await arrival;
    expect(req.url).toBe("/v1/events?a=b");
    expect(req.headers).toMatchObject({
      accept: "text/event-stream",
      authorization: "Bearer t0",
      "last-event-id": "7",
      "x-a": "1",
    });
    expect(stream.lastEventId).toBe("7");
    await stream.close();
  });

  it("resolves with the head, before any event", async () => {
    const { url } = await serveStream();
    const stream = await openStream({ url });
    expect(stream.status).toBe(200);
    expect(stream.headers["content-type"]).toBe("text/event-stream");
    expect(stream.events).toEqual([]);
    await stream.close();
  });

  it("hands out events as they come and tells a complete ending", async () => {
    const { url, arrival } = await serveStream();
    const stream = await openStream({ url });
    const { res } = await arrival;
    res.write("retry: 50\n\nid: 1\nevent: status\ndata: a\n\n");
    expect(await stream.next()).toEqual({ type: "status", data: "a", lastEventId: "1" });
    expect(stream.ending).toBeUndefined();
    res.end("id: 2\n\n");
    await stream.ended;
    expect(stream).toMatchObject({
      ending: "complete",
      retry: 50,
      lastEventId: "2",
      idOnlyBlocks: 1,
    });
  });

  it("tells an ending in the middle from a complete one, and fails who still waits", async () => {
    const { url, arrival } = await serveStream();
    const stream = await openStream({ url });
    const { res } = await arrival;
    res.write("data: a\n\ndata: b");
    await stream.next();
    res.socket?.resetAndDestroy();
    await expect(stream.next()).rejects.toThrow("the stream was cut off");
    expect(stream.ending).toBe("cut");
  });

  it("gives the whole body of an answer that is no stream", async () => {
    const { url, arrival } = await serveStream({ "content-type": "application/problem+json" }, 404);
    const stream = await openStream({ url });
    (await arrival).res.end('{"code":"not_found"}');
    expect(stream.status).toBe(404);
    expect(await stream.body()).toBe('{"code":"not_found"}');
  });

  it("makes the server see a closed connection when it closes", async () => {
    const { url, arrival } = await serveStream();
    const stream = await openStream({ url });
    const { res } = await arrival;
    const gone = new Promise<void>((resolve) => res.once("close", resolve));
    await stream.close();
    await within(gone, 5_000, "the server to notice");
    expect(stream.ending).toBe("closed");
  });

  it("stops reading while paused, so that the server's buffer fills, and misses nothing", async () => {
    const { url, arrival } = await serveStream();
    const stream = await openStream({ url });
    const { res } = await arrival;
    stream.pause();
    // 40 MB: more than any kernel buffers on a loopback connection, so the rest waits in the server.
    const count = 400;
    const flushed = createSignal();
    for (let i = 1; i < count; i += 1) res.write(frame);
    res.write(frame, () => flushed.resolve());
    await expect(within(flushed.promise, NOTHING_MS, "a flush")).rejects.toThrow(DeadlineError);
    stream.resume();
    await within(flushed.promise, 10_000, "a flush");
    await stream.take(count);
    await stream.close();
  });

  it("fails with the socket's error when nobody listens", async () => {
    const { url } = await serveStream();
    await fixture?.close();
    fixture = undefined;
    await expect(openStream({ url })).rejects.toThrow("ECONNREFUSED");
  });

  it("fails at the deadline when the server never answers, and hangs up", async () => {
    const hungUp = createSignal<void>();
    fixture = await serveHttp((_req, res) => void res.once("close", hungUp.resolve));
    const opening = openStream({ url: fixture.url, path: "/slow", deadlineMs: 50 });
    await expect(opening).rejects.toThrow("waited 50 ms for an answer to GET /slow");
    await within(hungUp.promise, 5_000, "the server to notice");
  });
});
