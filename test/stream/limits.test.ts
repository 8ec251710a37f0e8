import { afterEach, describe, expect, it } from "vitest";
import { within } from "../support/deadline.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { type Edge, startEdge } from "./edge.ts";

let edge: Edge;

afterEach(async () => {
  await edge.expectNothingOpen();
  await edge.stop();
});

/** That many answers that a stream is one too many. */
async function refusals(count: number, open: () => Promise<StreamClient>): Promise<number[]> {
  const answers = await Promise.all(Array.from({ length: count }, open));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 429));
  expect(JSON.parse((await answers[0]?.body()) ?? "")).toMatchObject({ code: "too_many_streams" });
  return answers.map(({ headers }) => Number(headers["retry-after"]));
}

describe("one stream too many", () => {
  it("of an owner is refused, while the owner's others and everybody else's go on", async () => {
    edge = await startEdge({ maxStreamsPerOwner: 5 });
    const id = await edge.newJob();
    const open = await Promise.all([
      ...Array.from({ length: 3 }, () => edge.openJob(id)),
      edge.open("/v1/events"),
      edge.open(`/v1/events?jobs=${id}`),
    ]);
    await Promise.all(open.map((stream) => stream.next()));
    const waits = await refusals(40, () => edge.openJob(id));
    // The same for all would bring all back at one moment.
    expect(new Set(waits).size).toBeGreaterThan(5);
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(1);
    const bob = await edge.open("/v1/events", {
      token: edge.server.token({ sub: "bob", scope: "" }),
    });
    expect(bob.status).toBe(200);
    await edge.report(id, 10);
    await Promise.all(open.map((stream) => stream.next()));
    expect(open.map(({ ending }) => ending)).toEqual(open.map(() => undefined));
    expect(edge.server.jobcast.statistics()).toMatchObject({
      open: { sse: 6, "long-poll": 0 },
      openByOwner: { alice: 5, bob: 1 },
      refused: 40,
    });
  });

  it("of one token that a backend gave away is refused, while its other tokens' go on", async () => {
    edge = await startEdge({ maxStreamsPerOwner: 2 });
    const id = await edge.newJob();
    const backend = { sub: "backend", scope: "jobs:read" };
    const mint = async (claims: { sub: string; scope: string }) => {
      const { body } = await edge.server.call("POST", "/v1/stream-tokens", { jobs: [id] }, claims);
      return body.token;
    };
    const [greedy, modest] = [await mint(backend), await mint(backend)];
    const open = (token: string) => () => edge.open(`/v1/events`, { token });
    const streams = await Promise.all([open(greedy)(), open(greedy)()]);
    await refusals(5, open(greedy));
    expect((await open(modest)()).status).toBe(200);
    // Whoever may see only his own makes no more of it by many tokens.
    const own = await Promise.all([1, 2, 3].map(() => mint({ sub: "alice", scope: "" })));
    const alices = await Promise.all(own.map((token) => open(token)()));
    expect(alices.map(({ status }) => status).sort()).toEqual([200, 200, 429]);
    expect(streams.map(({ status }) => status)).toEqual([200, 200]);
    expect(edge.server.jobcast.statistics().openByOwner).toEqual({ backend: 3, alice: 2 });
  });

  it("gets its place as soon as another one has gone", async () => {
    edge = await startEdge({ maxStreamsPerOwner: 1 });
    const id = await edge.newJob();
    for (let round = 0; round < 5; round += 1) {
      const stream = await edge.openJob(id);
      expect(stream.status).toBe(200);
      await stream.next();
      await refusals(1, () => edge.openJob(id));
      await stream.close();
      await edge.expectNothingOpen();
    }
  });

  it("in all is refused, whoever it is", async () => {
    edge = await startEdge({ maxStreams: 4 });
    const id = await edge.newJob();
    const streams = await Promise.all(Array.from({ length: 4 }, () => edge.openJob(id)));
    await Promise.all(streams.map((stream) => stream.next()));
    const token = edge.server.token({ sub: "bob", scope: "" });
    await refusals(3, () => edge.open("/v1/events", { token }));
    await edge.report(id, 10);
    await Promise.all(streams.map((stream) => stream.next()));
  });

  it("counts long polls, and gives back the place of each", async () => {
    edge = await startEdge({ maxStreamsPerOwner: 2 });
    const id = await edge.newJob();
    const headers = { accept: "application/json" };
    const poll = () => edge.openJob(id, { headers, lastEventId: "1", deadlineMs: 20_000 });
    const polls = [poll(), poll()];
    const isFull = () => edge.server.jobcast.statistics().open["long-poll"] === 2;
    while (!isFull()) await new Promise((resolve) => setImmediate(resolve));
    await refusals(1, poll);
    await edge.report(id, 10);
    const answers = await within(Promise.all(polls), 5_000, "both polls");
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  });

  it("is no stream that is refused for another reason", async () => {
    edge = await startEdge({ maxStreamsPerOwner: 3 });
    for (let round = 0; round < 10; round += 1) {
      const answer = await edge.open(`/v1/jobs/${crypto.randomUUID()}/events`);
      expect(answer.status).toBe(404);
      await answer.ended;
    }
    expect(edge.server.jobcast.statistics().refused).toBe(0);
  });
});
