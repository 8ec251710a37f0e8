import { connect, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { type Edge, idOf, startEdge, upTo, versionsOf } from "./edge.ts";

const VERSIONS = 200;
const EVENT_BYTES = 96_000;
const CLIENTS = 20;
/** A page of the history, for each. */
const PAGE = 262_144;
/** What else came and stayed meanwhile. */
const SLACK = 20 * 1_048_576;

let edge: Edge;
let jobs: string[];
const sockets: Socket[] = [];

beforeAll(async () => {
  // Written before the service starts, which otherwise would have it all in its hands as news.
  const db = await createTestDatabase();
  const rows = await db.query<{ id: string }>(
    "insert into jobcast.jobs (owner_id, type) select 'alice', 'x' from generate_series(1, $1) returning id",
    [CLIENTS / 2],
  );
  jobs = rows.map(({ id }) => id);
  await db.query(
    `do $$ begin for i in 2..${VERSIONS} loop
       update jobcast.jobs set message = i::text, result = to_jsonb(repeat('x', ${EVENT_BYTES}));
     end loop; end $$`,
  );
  edge = await startEdge({}, db);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await edge.expectNothingOpen();
});
afterAll(() => edge?.stop());

/** What is in use, without the garbage. */
function memoryInUse(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe("a history that is larger than what a client may leave unread", () => {
  it("comes in pages of some bytes, whole", async () => {
    const stream = await edge.openJob(jobs[0] ?? "", { lastEventId: "0" });
    await stream.take(VERSIONS);
    expect(versionsOf(stream.events)).toEqual(upTo(VERSIONS));
    const headers = { accept: "application/json" };
    const poll = await edge.openJob(jobs[0] ?? "", { lastEventId: "1", headers });
    const { events, cursor } = JSON.parse(await poll.body());
    expect(events).toHaveLength(2);
    expect(cursor).toEqual(idOf(3));
  });

  it("costs a bounded amount for each client that asks for it and does not read", async () => {
    const token = edge.server.token({ scope: "" });
    const connections: Socket[] = [];
    edge.server.http.on("connection", (socket: Socket) => connections.push(socket));
    const memory = memoryInUse();
    for (let index = 0; index < CLIENTS; index += 1) {
      const socket = connect(edge.server.port, "127.0.0.1");
      sockets.push(socket);
      socket.on("error", () => undefined);
      socket.pause();
      socket.write(
        `GET /v1/jobs/${jobs[index % jobs.length]}/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      );
    }
    // The kernel takes some megabytes of each; then nobody gets rid of any more.
    let before = 0;
    const isStuck = async () => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      const written = connections.map(({ bytesWritten }) => bytesWritten);
      const sum = written.reduce((one, other) => one + other, 0);
      const isSame = sum === before && Math.min(...written) > EVENT_BYTES;
      before = sum;
      return isSame;
    };
    await until(isStuck, 20_000, "nobody to take any more");
    const grown = memoryInUse() - memory;
    console.log(`${CLIENTS} clients: memory +${grown} bytes`);
    expect(grown).toBeLessThan(CLIENTS * PAGE + SLACK);
  });
});
