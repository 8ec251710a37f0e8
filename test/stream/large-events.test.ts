import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Edge, startEdge, versionsOf } from "./edge.ts";

const JOBS = 12;
const RESULT_BYTES = 900_000;

let edge: Edge;
beforeAll(async () => {
  edge = await startEdge({ streamBufferBytes: 64 * 1_048_576 });
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge.stop());

async function newJobs(): Promise<string[]> {
  return Promise.all(Array.from({ length: JOBS }, () => edge.newJob()));
}

/** In one statement, so that the feed reads more than it hands to everybody. */
async function completeAll(ids: readonly string[]): Promise<void> {
  await edge.db.query(
    `select count(jobcast.complete_job(id, to_jsonb(repeat('x', ${RESULT_BYTES}))))
     from unnest($1::uuid[]) id`,
    [ids],
  );
}

const isEnd = ({ data }: { data: string }) => JSON.parse(data).status === "completed";

describe("more large results at once than are handed to everybody", () => {
  it("come whole to those who watch each job, and to those who watch many", async () => {
    const ids = await newJobs();
    const each = await Promise.all(ids.map((id) => edge.openJob(id)));
    const many = await Promise.all([
      edge.open(`/v1/events?jobs=${ids}`),
      edge.open("/v1/events", { headers: { connection: "close" } }),
    ]);
    for (const stream of each) await stream.next();
    for (const stream of many) await stream.take(JOBS);
    await completeAll(ids);
    for (const stream of each) {
      await stream.ended;
      expect(versionsOf(stream.events)).toEqual([1, 2]);
      expect(JSON.parse(stream.events.at(-1)?.data ?? "").result).toHaveLength(RESULT_BYTES);
    }
    for (const stream of many) {
      const ends = await stream.take(JOBS, isEnd);
      const told = ends.map(({ data }) => JSON.parse(data));
      expect(told.map(({ jobId }) => jobId).sort()).toEqual(ids.toSorted());
      for (const { result } of told) expect(result).toHaveLength(RESULT_BYTES);
      expect(stream.events).toHaveLength(2 * JOBS);
    }
    // They are live again.
    const other = await edge.newJob();
    const [news] = (await many[1]?.take(1, ({ data }) => JSON.parse(data).jobId === other)) ?? [];
    expect(JSON.parse(news?.data ?? "{}")).toMatchObject({ version: 1 });
  });

  it("go on from there after a reconnect, none lost and none twice", async () => {
    const ids = await newJobs();
    const stream = await edge.open(`/v1/events?jobs=${ids}`);
    await stream.take(JOBS);
    await completeAll(ids.slice(0, JOBS / 2));
    await completeAll(ids.slice(JOBS / 2));
    await stream.take(3, isEnd);
    await stream.close();
    const told = new Set(stream.events.filter(isEnd).map(({ data }) => JSON.parse(data).jobId));
    const again = await edge.open(`/v1/events?jobs=${ids}`, { lastEventId: stream.lastEventId });
    while (told.size < ids.length) told.add(JSON.parse((await again.next(isEnd)).data).jobId);
  });
});
