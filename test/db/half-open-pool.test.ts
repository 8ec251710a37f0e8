import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let db: TestDatabase;
let proxy: TcpProxy;
let server: TestServer;

beforeEach(async () => {
  db = await createTestDatabase();
  proxy = await startTcpProxy(Number(new URL(db.url).port));
  const proxied = new URL(db.url);
  proxied.port = String(proxy.port);
  // The listener is well all the while: only what requests use goes this way.
  server = await startTestServer({ databaseUrl: proxied.href, listenDatabaseUrl: db.url });
});
afterEach(async () => {
  await server.stop();
  await proxy.close();
  await db.drop();
});

async function readyz(): Promise<{ status: number; database: boolean; bell: boolean | null }> {
  const response = await fetch(`${server.url}/readyz`);
  return {
    status: response.status,
    ...((await response.json()) as { database: boolean; bell: boolean }),
  };
}

const list = () => server.call("GET", "/v1/jobs");
const create = () => server.call("POST", "/v1/jobs", { type: "x" });

it("all connections that died without a word are replaced by the first requests", async () => {
  await Promise.all(Array.from({ length: 20 }, (_, index) => (index % 2 ? list() : create())));
  proxy.blackhole();
  proxy.thaw(); // new ones work
  await Promise.all([list(), create()]);
  for (let count = 0; count < 10; count += 1) {
    const answers = await within(Promise.all([list(), create()]), 1_000, "answers at once");
    expect(answers.map(({ status }) => status)).toEqual([200, 201]);
  }
  await until(async () => (await readyz()).status === 200, 15_000, "to be ready");
}, 60_000);

it("/readyz says that the database does not answer, although the feed reads", async () => {
  await until(async () => (await readyz()).status === 200, 15_000, "to be ready");
  expect(await readyz()).toMatchObject({ status: 200, database: true, bell: true });
  proxy.freeze();
  await until(async () => (await readyz()).status === 503, 20_000, "not to be ready");
  expect(await readyz()).toMatchObject({ database: false, ready: false });
  expect((await create()).body.code).toBe("database_unavailable");
  proxy.thaw();
  await until(async () => (await readyz()).status === 200, 20_000, "to be ready again");
  expect((await create()).status).toBe(201);
}, 90_000);
