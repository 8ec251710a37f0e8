import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { statusPollSchema } from "../../src/protocol/poll-answer.ts";
import { Hub } from "../../src/stream/hub.ts";
import { waitForNews } from "../../src/stream/long-poll.ts";
import { until, within } from "../support/deadline.ts";
import { change, JOB } from "./bench.ts";
import { type Edge, idOf, startEdge, upTo, versionsOf } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

describe("news that come while a poll reads", () => {
  it("are read at once, and not slept over", async () => {
    const hub = new Hub((error) => expect.unreachable(String(error)));
    let version = 1;
    let reads = 0;
    const answer = await waitForNews({
      hub,
      topics: [`job:${JOB}`],
      waitMs: 30_000,
      signal: new AbortController().signal,
      async read() {
        reads += 1;
        const seen = version;
        if (reads === 1) {
          version = 2;
          hub.publish([change(2)], { xmin: 1, xmax: 1, xip: [] });
        }
        return seen;
      },
      hasNews: (seen) => seen > 1,
    });
    expect([answer, reads, hub.subscriberCount]).toEqual([2, 2, 0]);
  });
});

const headers = { accept: "application/json" };

/** One poll; fails unless the answer is one that the protocol knows. */
async function poll(path: string, token = edge.server.token({ scope: "" })) {
  const stream = await edge.open(path, { headers, token, deadlineMs: 15_000 });
  const body = JSON.parse(await stream.body());
  expect(stream.status).toBe(200);
  const answer = statusPollSchema.parse(body);
  return { ...answer, versions: body.events.map(({ version }: { version: number }) => version) };
}

/** Polls of the whole service that wait at this moment. */
const waiting = () => edge.server.jobcast.statistics().open["long-poll"];

async function untilWaiting(count: number): Promise<void> {
  await until(
    () => waiting() === count,
    5_000,
    () => `${count} polls to wait; it is ${waiting()}`,
  );
  // One that has been admitted has still to read and find nothing: one more query is behind it.
  await edge.db.query("select pg_sleep(0.05)");
}

const events = (id: string, query: string) => `/v1/jobs/${id}/events?${query}`;

describe("a long poll of one job", () => {
  it("gets the current state at once, and a cursor", async () => {
    const id = await edge.newJob();
    await edge.report(id, 10, 20);
    const answer = await poll(events(id, "wait=30"));
    expect(answer).toMatchObject({ versions: [3], cursor: idOf(3), done: false });
    expect(answer).not.toHaveProperty("reset");
  });

  it("gets what is above its cursor at once, 0 being the whole history", async () => {
    const id = await edge.newJob();
    await edge.report(id, 10, 20);
    expect((await poll(events(id, "after=1&wait=30"))).versions).toEqual([2, 3]);
    expect((await poll(events(id, "after=0&wait=30"))).versions).toEqual([1, 2, 3]);
    expect((await poll(events(id, "lastEventId=2&wait=30"))).versions).toEqual([3]);
  });

  it("is told of news the moment that they are committed", async () => {
    const id = await edge.newJob();
    const asked = poll(events(id, "after=1&wait=20"));
    await untilWaiting(1);
    const committed = performance.now();
    await edge.report(id, 10);
    expect(await asked).toMatchObject({ versions: [2], cursor: idOf(2), done: false });
    expect(performance.now() - committed).toBeLessThan(1_000);
  });

  it("without news is answered when its time is up, with the cursor that it came with", async () => {
    const id = await edge.newJob();
    const asked = performance.now();
    const answer = await poll(events(id, "after=1&wait=0.6"));
    expect(answer).toMatchObject({ events: [], cursor: idOf(1), done: false });
    expect(performance.now() - asked).toBeGreaterThan(550);
    expect(performance.now() - asked).toBeLessThan(3_000);
  });

  it("that will not wait is answered at once", async () => {
    const id = await edge.newJob();
    const asked = performance.now();
    expect(await poll(events(id, "after=1&wait=0"))).toMatchObject({ events: [], cursor: idOf(1) });
    expect(performance.now() - asked).toBeLessThan(1_000);
  });

  it("learns of the end, and after the end only that there is nothing more", async () => {
    const id = await edge.newJob();
    await edge.complete(id, 42);
    expect(await poll(events(id, "after=1&wait=30"))).toMatchObject({
      versions: [2],
      cursor: idOf(2),
      done: true,
    });
    expect(await poll(events(id, "after=2&wait=30"))).toMatchObject({
      events: [],
      cursor: idOf(2),
      done: true,
    });
  });

  it.each(["99", "x", "-1", "1.5", "%00", "9".repeat(40)])(
    "with the cursor %j is reset to the current state",
    async (cursor) => {
      const id = await edge.newJob();
      const answer = await poll(events(id, `after=${cursor}&wait=30`));
      expect(answer).toMatchObject({ versions: [1], cursor: idOf(1), reset: true });
    },
  );

  it("reads a long history in pages, done only with the last", async () => {
    const id = await edge.newJob();
    await edge.db.query(
      `do $$ begin for i in 1..449 loop
         update jobcast.jobs set message = i::text where id = '${id}'; end loop; end $$`,
    );
    await edge.complete(id);
    const versions: number[] = [];
    const dones: boolean[] = [];
    let cursor = "0";
    while (!dones.at(-1)) {
      const answer = await poll(events(id, `after=${cursor}&wait=0`));
      versions.push(...answer.versions);
      dones.push(answer.done);
      cursor = answer.cursor;
    }
    expect(versions).toEqual(upTo(451));
    expect(dones).toEqual([false, false, true]);
  });

  it.each(["-1", "61", "soon", "1&wait=2", "NaN"])(
    "that would wait %s seconds is refused with 400",
    async (wait) => {
      const id = await edge.newJob();
      const answer = await edge.open(events(id, `wait=${wait}`), { headers });
      expect(answer.status).toBe(400);
      expect(JSON.parse(await answer.body())).toMatchObject({
        code: "invalid_request",
        fields: [{ path: "query.wait" }],
      });
    },
  );

  it("is never kept by a cache, nor answered with 304", async () => {
    const id = await edge.newJob();
    for (const path of [events(id, "wait=0"), "/v1/events?wait=0"]) {
      const conditional = { ...headers, "if-none-match": "*", "if-modified-since": "x" };
      const answer = await edge.open(path, { headers: conditional });
      expect(answer.status).toBe(200);
      expect(answer.headers["cache-control"]).toBe("no-store");
      expect(answer.headers["vary"]).toMatch(/Accept.*Authorization|Authorization.*Accept/);
      expect(answer.headers).not.toHaveProperty("etag");
    }
  });
});

describe("a client that takes the one transport or the other", () => {
  it("may change at any event, and sees each version once", async () => {
    const id = await edge.newJob();
    const versions: number[] = [];
    let cursor = "0";
    for (let round = 0; round < 12; round += 1) {
      await edge.report(id, round * 2 + 1, round * 2 + 2);
      if (round % 2) {
        const answer = await poll(events(id, `after=${cursor}&wait=5`));
        versions.push(...answer.versions);
        cursor = answer.cursor;
      } else {
        const stream = await edge.openJob(id, { lastEventId: cursor });
        // One of at least two: the other is for the next transport.
        await stream.next();
        await stream.close();
        versions.push(...versionsOf(stream.events));
        cursor = stream.lastEventId;
      }
    }
    versions.push(...(await poll(events(id, `after=${cursor}&wait=0`))).versions);
    expect(versions).toEqual(upTo(25));
  });

  it("may change on a stream over many jobs too", async () => {
    const token = edge.server.token({ sub: "changing", scope: "" });
    const first = await poll("/v1/events?wait=30", token);
    expect(first).toMatchObject({ events: [], done: false });
    const id = await edge.newJob("changing");
    const second = await poll(`/v1/events?after=${first.cursor}&wait=30`, token);
    expect(second.versions).toEqual([1]);
    await edge.report(id, 10);
    const stream = await edge.open("/v1/events", { token, lastEventId: second.cursor });
    await stream.next();
    expect(versionsOf(stream.events)).toEqual([2]);
    await stream.close();
    await edge.complete(id);
    const third = await poll(`/v1/events?after=${stream.lastEventId}&wait=30`, token);
    expect(third.versions).toEqual([3]);
    const fourth = await poll(`/v1/events?after=${third.cursor}&wait=0`, token);
    expect(fourth).toMatchObject({ events: [], done: false });
    expect(await poll("/v1/events?after=nonsense&wait=30", token)).toMatchObject({
      events: [],
      reset: true,
    });
  });
});

describe("a long poll of many jobs", () => {
  it("waits for news of its own jobs and sleeps through everybody else's", async () => {
    const token = edge.server.token({ sub: "sleeper", scope: "" });
    const { cursor } = await poll("/v1/events?wait=0", token);
    const asked = poll(`/v1/events?after=${cursor}&wait=20`, token);
    await untilWaiting(1);
    await edge.report(await edge.newJob(), 10);
    expect(waiting()).toBe(1);
    const id = await edge.newJob("sleeper");
    const answer = await within(asked, 5_000, "the answer");
    expect(answer.events).toMatchObject([{ jobId: id, version: 1 }]);
  });
});

describe("a long poll whose token expires", () => {
  it("ends with it, and without an error", async () => {
    const id = await edge.newJob();
    // Five seconds of tolerance for clocks are added to what the token says.
    const token = edge.server.token({ scope: "", expiresIn: -3 });
    const asked = performance.now();
    const { cursor } = await poll("/v1/events?wait=0", token);
    const paths = [events(id, "after=1&wait=20"), `/v1/events?after=${cursor}&wait=20`];
    const answers = await Promise.all(paths.map((path) => poll(path, token)));
    expect(answers).toMatchObject(paths.map(() => ({ events: [], done: false })));
    expect(performance.now() - asked).toBeLessThan(4_000);
  });
});

describe("a long poll whose client goes", () => {
  it("leaves nothing behind, be it the 200th", async () => {
    const id = await edge.newJob();
    const token = edge.server.token({ scope: "" });
    const { cursor } = await poll("/v1/events?wait=0");
    const paths = [events(id, "after=1&wait=30"), `/v1/events?after=${cursor}&wait=30`];
    const sockets = Array.from({ length: 200 }, (_, index) => {
      const socket = connect(edge.server.port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(
        `GET ${paths[index % 2]} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      );
      return socket;
    });
    await untilWaiting(200);
    for (const [index, socket] of sockets.entries()) {
      if (index % 2) socket.destroy();
      else socket.resetAndDestroy();
    }
    await until(
      () => waiting() === 0,
      5_000,
      () => `no poll to be left; there are ${waiting()}`,
    );
    expect(edge.server.logged.filter((line) => /"level":(40|50|60)/.test(line))).toEqual([]);
    await edge.expectNothingOpen();
  });
});
