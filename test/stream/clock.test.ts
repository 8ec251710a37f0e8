import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { type Edge, startEdge, upTo, versionsOf } from "./edge.ts";

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge({ heartbeatSeconds: 1, maxStreamSeconds: 3_600 });
});
afterEach(async () => {
  vi.useRealTimers();
  await edge.expectNothingOpen();
});
afterAll(() => edge.stop());

/** Somebody sets the clock of the machine; everything else goes on as it did. */
function setClock(seconds: number): void {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + seconds * 1_000 });
}

it.each([-600, -86_400, 5_400, 86_400])(
  "a clock that jumps by %i s changes nothing",
  async (jump) => {
    const id = await edge.newJob();
    const token = edge.server.token({ scope: "", expiresIn: 30 * 86_400 });
    const streams = [
      await edge.openJob(id, { token }),
      await edge.open(`/v1/events?jobs=${id}`, { token }),
    ];
    const poll = edge.server.call("GET", `/v1/jobs/${id}/events?after=1&wait=60`, undefined, {
      expiresIn: 30 * 86_400,
    });
    for (const stream of streams) await stream.next(({ type }) => type === "status");
    setClock(jump);
    for (const stream of streams) {
      const [, ping] = await stream.take(2, ({ type }) => type === "ping");
      expect(Math.abs(Date.parse(JSON.parse(ping?.data ?? "").at) - Date.now())).toBeLessThan(
        5_000,
      );
    }
    await edge.report(id, 10, 20);
    for (const stream of streams) {
      await stream.next(({ data }) => JSON.parse(data).version === 3);
      expect(versionsOf(stream.events)).toEqual(upTo(3));
      expect(stream.ending).toBeUndefined();
    }
    expect((await poll).body.events[0]).toMatchObject({ version: 2 });
    expect((await fetch(`${edge.server.url}/readyz`)).status).toBe(200);
  },
);
