import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";

let database: TestDatabase;
let servers: TestServer[];
let clients: StreamClient[];

beforeEach(async () => {
  database = await createTestDatabase();
  [servers, clients] = [[], []];
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await Promise.all(servers.map((server) => server.stop()));
  await database.drop();
});

async function start(presence: "on" | "off" = "on"): Promise<TestServer> {
  const server = await startTestServer({ databaseUrl: database.url, presence });
  servers.push(server);
  return server;
}

async function newJob(owner = "alice"): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select id from jobcast.create_job($1, 'render')",
    [owner],
  );
  return job?.id ?? "";
}

async function watch(
  server: TestServer,
  id: string,
  sub: string,
  scope = "",
): Promise<StreamClient> {
  const token = server.token({ sub, scope });
  const client = await openStream({ url: server.url, path: `/v1/jobs/${id}/events`, token });
  await client.next();
  clients.push(client);
  return client;
}

const viewers = (server: TestServer, id: string, sub = "alice", scope = "") =>
  server.call("GET", `/v1/jobs/${id}/viewers`, undefined, { sub, scope });

/** Said within a beat, and read by whichever process. */
async function untilSeen(server: TestServer, id: string, expected: object): Promise<void> {
  let seen: unknown;
  await until(
    async () => {
      seen = (await viewers(server, id, "support", "jobs:read")).body;
      return JSON.stringify(seen) === JSON.stringify(expected);
    },
    30_000,
    () => `${JSON.stringify(expected)}, and not ${JSON.stringify(seen)}`,
  );
}

describe("who watches a job", () => {
  it("is told right by every process, as they come and go", async () => {
    const [one, two] = [await start(), await start()];
    const [id, other] = [await newJob(), await newJob()];
    await untilSeen(one, id, { count: 0, owners: [] });
    const first = await watch(one, id, "alice");
    await watch(two, id, "alice");
    await watch(two, id, "support", "jobs:read");
    await watch(one, other, "alice");
    for (const server of [one, two]) {
      await untilSeen(server, id, { count: 3, owners: ["alice", "support"] });
    }
    await first.close();
    await untilSeen(two, id, { count: 2, owners: ["alice", "support"] });
    // A process that ends takes its viewers with it.
    await two.stop();
    await untilSeen(one, id, { count: 0, owners: [] });
    await untilSeen(one, other, { count: 1, owners: ["alice"] });
  });

  it("forgets a process that was killed, and comes back after the database has", async () => {
    const server = await start();
    const id = await newJob();
    await watch(server, id, "alice");
    await database.query(
      `with process as (
         insert into jobcast.viewing_processes values (gen_random_uuid(), now() - interval '20 seconds')
         returning id
       )
       insert into jobcast.viewers select id, $1, 'ghost', 5 from process`,
      [id],
    );
    await untilSeen(server, id, { count: 1, owners: ["alice"] });
    await until(
      async () => {
        const rows = await database.query("select from jobcast.viewers where owner_id = 'ghost'");
        return rows.length === 0;
      },
      30_000,
      () => "the viewers of a process that is gone to be removed",
    );
    // What a crash does to tables that are not logged.
    await database.query("delete from jobcast.viewing_processes");
    await untilSeen(server, id, { count: 1, owners: ["alice"] });
  });

  it("counts a long poll while it waits", async () => {
    const server = await start();
    const id = await newJob();
    const poll = server.call("GET", `/v1/jobs/${id}/events?wait=50&after=1`);
    await untilSeen(server, id, { count: 1, owners: ["alice"] });
    await database.query("select jobcast.complete_job($1)", [id]);
    await poll;
    await untilSeen(server, id, { count: 0, owners: [] });
  });

  it("is a number for the owner, nothing for a stranger, and nothing where nobody counts", async () => {
    const server = await start();
    const id = await newJob();
    await watch(server, id, "alice");
    await untilSeen(server, id, { count: 1, owners: ["alice"] });
    expect((await viewers(server, id)).body).toEqual({ count: 1 });
    expect((await viewers(server, id, "bob")).status).toBe(404);
    const off = await start("off");
    expect((await viewers(off, id)).status).toBe(404);
    await watch(off, id, "alice");
    await untilSeen(server, id, { count: 1, owners: ["alice"] });
  });
});
