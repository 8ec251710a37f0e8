import pg from "pg";
import { afterEach, it } from "vitest";
import { testConnection } from "../support/connection.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { createEmbeddedDatabase, type EmbeddedDatabase } from "./embedded-database.ts";
import { untilAsleep, untilListener } from "./listener.ts";
import { createJobs } from "./watch.ts";

const WRITERS = 8;

let database: EmbeddedDatabase | undefined;
let server: TestServer | undefined;

afterEach(async () => {
  await server?.stop();
  await database?.remove();
});

it("stays awake while writers would queue to ring, however slow their commits are", async () => {
  // A flush of 20 ms: commits that ring, one after the other, are 50 a second.
  database = await createEmbeddedDatabase({
    fsync: "on",
    commit_delay: "20000",
    commit_siblings: "0",
  });
  server = await startTestServer({ databaseUrl: database.url });
  const jobs = await createJobs(database, WRITERS);
  await untilAsleep(server);
  let isOver = false;
  const url = database.url;
  const writers = jobs.map(async (job) => {
    const client = new pg.Client(testConnection(url));
    await client.connect();
    for (let count = 0; !isOver; count += 1) {
      await client.query("update jobcast.jobs set message = $2 where id = $1", [job, `${count}`]);
    }
    await client.end();
  });
  await untilListener(server, ({ feed }) => feed === "awake");
  isOver = true;
  await Promise.all(writers);
  await untilAsleep(server, 20_000);
});
