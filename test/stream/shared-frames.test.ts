import { Socket } from "node:net";
import { afterEach, expect, it, vi } from "vitest";
import { type Edge, isState, startEdge } from "./edge.ts";

const STREAMS = 60;

let edge: Edge;

afterEach(async () => {
  vi.restoreAllMocks();
  await edge.stop();
});

it("an event is encoded once, and the same bytes are written to everybody", async () => {
  edge = await startEdge();
  const id = await edge.newJob();
  const paths = [`/v1/jobs/${id}/events`, "/v1/events", `/v1/events?jobs=${id}`];
  const streams = await Promise.all(
    Array.from({ length: STREAMS }, (_, index) => edge.open(paths[index % paths.length] ?? "")),
  );
  await Promise.all(streams.map((stream) => stream.next(isState)));

  const stringify = vi.spyOn(JSON, "stringify");
  const write = vi.spyOn(Socket.prototype, "write");
  await edge.db.query("update jobcast.jobs set message = 'once for all' where id = $1", [id]);
  await Promise.all(streams.map((stream) => stream.next(isState)));

  expect(stringify.mock.calls.filter(([value]) => value === "once for all")).toHaveLength(1);
  const written = write.mock.calls
    .map(([chunk]) => chunk as unknown)
    .filter((chunk) => Buffer.isBuffer(chunk) && chunk.includes('"once for all"'));
  expect(written).toHaveLength(STREAMS);
  // One for streams of the job, with the version as its id, and one for all the others.
  expect(new Set(written).size).toBe(2);
});
