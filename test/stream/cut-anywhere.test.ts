import { type IncomingMessage, request } from "node:http";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { within } from "../support/deadline.ts";
import { EventStreamParser, type StreamEvent } from "../support/event-stream.ts";
import { createRandom } from "../support/random.ts";
import { type Edge, startEdge, upTo } from "./edge.ts";

const ROUNDS = 100;

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

/**
 * One connection that breaks with a reset after that many bytes of events, or ends by itself. Gives
 * the events that a browser would have fired, and the last id that it would come back with.
 */
async function readUpTo(bytes: number, path: string, lastEventId: string) {
  const events: StreamEvent[] = [];
  const parser = new EventStreamParser((event) => events.push(event), lastEventId);
  const sent = request(new URL(path, edge.server.url), {
    agent: false,
    headers: {
      authorization: `Bearer ${edge.server.token({ scope: "" })}`,
      ...(lastEventId && { "last-event-id": lastEventId }),
    },
  });
  const answer = await within(
    new Promise<IncomingMessage>((resolve, reject) => {
      sent.once("response", resolve);
      sent.on("error", reject);
      sent.end();
    }),
    10_000,
    "an answer",
  );
  let left = bytes;
  const over = new Promise<void>((resolve) => {
    answer.on("data", (chunk: Buffer) => {
      parser.push(chunk.subarray(0, left));
      left -= chunk.length;
      if (left <= 0) answer.socket.resetAndDestroy();
    });
    answer.on("error", () => undefined);
    answer.once("close", resolve);
  });
  await within(over, 10_000, () => `${left} more bytes`);
  const isAtEnd = answer.statusCode === 204;
  return { events, isAtEnd, lastEventId: parser.lastEventId, blocks: parser.idOnlyBlocks };
}

/** Any number of bytes, most often within the first few events. */
const random = createRandom("cut anywhere");
const anyOffset = () => Math.floor(random.next() ** 2 * 3_000);

/** Changes of one job or another until it is told to stop; every second transaction is a slow one. */
async function write(jobs: readonly string[], isOver: () => boolean): Promise<void> {
  const writers = await Promise.all([edge.db.connect(), edge.db.connect()]);
  const loops = writers.map(async (writer, index) => {
    for (let count = 0; !isOver(); count += 1) {
      const id = random.oneOf(jobs);
      await writer.query("begin");
      await writer.query("select pg_current_xact_id()");
      if (index === 1) await new Promise((resolve) => setTimeout(resolve, 5));
      await writer.query("update jobcast.jobs set message = $2 where id = $1", [
        id,
        `${index} ${count} ${"x".repeat(count % 400)}`,
      ]);
      await writer.query("commit");
    }
  });
  await Promise.all(loops);
}

describe("a connection that breaks anywhere", () => {
  it("on one job: whoever comes back has seen each version exactly once", async () => {
    const id = await edge.newJob();
    let isOver = false;
    const writing = write([id], () => isOver).then(() => edge.complete(id));
    const versions: number[] = [];
    let lastEventId = "0";
    for (let round = 0; ; round += 1) {
      if (round === ROUNDS) {
        isOver = true;
        await writing;
      }
      const visit = await readUpTo(
        round < ROUNDS ? anyOffset() : Number.POSITIVE_INFINITY,
        `/v1/jobs/${id}/events`,
        lastEventId,
      );
      expect(visit.blocks).toEqual([]);
      const states = visit.events.filter(({ type }) => type === "status");
      versions.push(...states.map(({ data }) => JSON.parse(data).version));
      lastEventId = visit.lastEventId;
      if (visit.isAtEnd) break;
    }
    const [job] = await edge.db.query<{ version: number }>(
      "select version from jobcast.jobs where id = $1",
      [id],
    );
    expect(versions).toEqual(upTo(job?.version ?? 0));
    expect(versions.length).toBeGreaterThan(ROUNDS);
  });

  it("on many jobs: whoever comes back has missed nothing, and ends with what is in the table", async () => {
    const jobs = await Promise.all(Array.from({ length: 5 }, () => edge.newJob()));
    let isOver = false;
    const first = await edge.open(`/v1/events?jobs=${jobs.join()}`);
    await first.take(jobs.length);
    let { lastEventId } = first;
    await first.close();
    const writing = write(jobs, () => isOver);
    const states = new Map<string, number>(jobs.map((id) => [id, 1]));
    for (let round = 0; round < ROUNDS; round += 1) {
      const visit = await readUpTo(anyOffset(), `/v1/events?jobs=${jobs.join()}`, lastEventId);
      expect(visit.blocks).toEqual([]);
      for (const { type, data } of visit.events) {
        expect(type === "status" || type === "ready").toBe(true);
        if (type !== "status") continue;
        const { jobId, version } = JSON.parse(data);
        const seen = states.get(jobId) ?? 0;
        // It may repeat what came before the last id that got through, and never leaves anything out.
        expect(version).toBeLessThanOrEqual(seen + 1);
        states.set(jobId, Math.max(seen, version));
      }
      lastEventId = visit.lastEventId;
    }
    isOver = true;
    await writing;
    const rest = await edge.open(`/v1/events?jobs=${jobs.join()}`, { lastEventId });
    const marker = jobs[0] ?? "";
    await edge.db.query("update jobcast.jobs set message = 'the last one' where id = $1", [marker]);
    await rest.next(({ data }) => data.includes("the last one"));
    for (const { type, data } of rest.events) {
      if (type !== "status") continue;
      const { jobId, version } = JSON.parse(data);
      expect(version).toBeLessThanOrEqual((states.get(jobId) ?? 0) + 1);
      states.set(jobId, Math.max(states.get(jobId) ?? 0, version));
    }
    const rows = await edge.db.query<{ id: string; version: number }>(
      "select id, version from jobcast.jobs where id = any ($1)",
      [jobs],
    );
    expect(states).toEqual(new Map(rows.map(({ id, version }) => [id, version])));
  });
});
