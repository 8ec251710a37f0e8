import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Edge, idOf, startEdge } from "../stream/edge.ts";
import { until } from "../support/deadline.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({ retryMs: 100 });
});

afterAll(() => edge?.stop());

/** The npm package, as an application on Node uses it: with its token in a header. */
function watch(path: string) {
  const requests: (string | undefined)[] = [];
  const source = new EventSource(new URL(path, edge.server.url), {
    fetch: (input, init) => {
      requests.push(new Headers(init.headers).get("last-event-id") ?? undefined);
      const headers = {
        ...init.headers,
        authorization: `Bearer ${edge.server.token({ scope: "" })}`,
      };
      return fetch(input, { ...init, headers });
    },
  });
  const versions: number[] = [];
  source.addEventListener("status", ({ data }) => versions.push(JSON.parse(data).version));
  return { source, versions, requests };
}

describe("the npm package eventsource", () => {
  it("gets every version once and stops for good after the job's end", async () => {
    const job = await edge.newJob();
    const { source, versions, requests } = watch(`/v1/jobs/${job}/events`);
    await until(() => versions.length === 1, 10_000, "the first event");
    await edge.report(job, 10, 40, 70);
    await edge.complete(job);
    await until(() => source.readyState === source.CLOSED, 10_000, "the 204 that stops it");
    expect(versions).toEqual([1, 2, 3, 4, 5]);
    expect(requests).toEqual([undefined, idOf(5)]);
  });

  it("comes back by itself to a stream over many jobs that was cut, and misses nothing", async () => {
    const { source, versions } = watch("/v1/events");
    await until(() => source.readyState === source.OPEN, 10_000, "an open stream");
    const job = await edge.newJob();
    await until(() => versions.length === 1, 10_000, "the first event");
    edge.server.http.closeAllConnections();
    await edge.report(job, 10, 40);
    await until(() => versions.length >= 3, 10_000, "what was missed");
    expect(versions).toEqual([1, 2, 3]);
    source.close();
  });
});
