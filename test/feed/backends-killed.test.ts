import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createRandom } from "../support/random.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import {
  backendsOf,
  expectOneListener,
  type Part,
  terminate,
  untilAsleep,
  untilListener,
  withoutNewSessions,
} from "./listener.ts";
import { change, createJobs, openWatch, type Watch } from "./watch.ts";

let db: TestDatabase;
let server: TestServer;
let jobs: string[];
let watch: Watch;

beforeEach(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  jobs = await createJobs(db, 5);
  watch = await openWatch(server, db, jobs);
  await untilAsleep(server);
});

afterEach(async () => {
  await watch.close();
  await server.stop();
  await db.drop();
});

async function writeRounds(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) for (const id of jobs) await change(db, id);
}

for (const parts of [["doorbell"], ["feed"], ["doorbell", "feed"]] satisfies Part[][]) {
  it(`misses and repeats nothing when the backends of ${parts.join(" and ")} are terminated`, async () => {
    const before = await Promise.all(parts.map((part) => backendsOf(db, part)));
    await withoutNewSessions(db, async () => {
      const writing = writeRounds(12);
      await terminate(db, parts);
      await untilListener(server, ({ status }) => status === 503);
      await writing;
    });

    await watch.expectAll();
    await untilAsleep(server);
    await expectOneListener(db);
    const after = await Promise.all(parts.map((part) => backendsOf(db, part)));
    for (const [index, pids] of after.entries()) expect(pids).not.toEqual(before[index]);
  });
}

it("misses and repeats nothing when its backends are terminated again and again", async () => {
  const kills: Part[][] = [["doorbell"], ["feed"], ["doorbell", "feed"]];
  const random = createRandom("backends killed");
  for (let round = 0; round < 20; round += 1) {
    const writing = writeRounds(3);
    await change(db, random.oneOf(jobs));
    await terminate(db, random.oneOf(kills));
    await writing;
  }

  await watch.expectAll();
  await untilAsleep(server);
  await expectOneListener(db);
});
