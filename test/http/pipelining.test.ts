import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { rawRequest } from "../support/raw-request.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

/** For all that nobody has read yet. */
const ROOM = 4 * 1_048_576;

let database: TestDatabase;
let server: TestServer;
const sockets: Socket[] = [];
/** The server's ends of them. */
const connections = new Set<Socket>();
/** The ports of the clients whose connections the server has ended. */
const ended = new Set<number | undefined>();

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url, totalBufferBytes: ROOM });
  server.http.on("connection", (socket: Socket) => {
    connections.add(socket);
    const { remotePort } = socket;
    socket.once("close", () => {
      connections.delete(socket);
      ended.add(remotePort);
    });
  });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  ended.clear();
  await server.stop();
  await database.drop();
});

const get = (path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.token()}\r\n${more}\r\n`;

/** A client that has sent these bytes; what it has read, and whether it was cut. */
function open(bytes: string) {
  const socket = connect(server.port, "127.0.0.1");
  sockets.push(socket);
  let text = "";
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined);
  socket.on("data", (chunk: Buffer) => {
    text += chunk;
  });
  socket.write(bytes);
  return { socket, closed, text: () => text };
}

describe("requests of one connection", () => {
  it("may come before the answers to those before them, and are answered in their order", async () => {
    const paths = ["/v1/jobs", "/nowhere", "/healthz", "/v1/credits", "/v1/jobs?limit=0"];
    const last = get("/healthz", "Connection: close\r\n");
    const requests = Array.from({ length: 4 }, () => paths.map((path) => get(path)).join(""));
    const { text } = await rawRequest(server.port, requests.join("") + last);
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status));
    expect(statuses).toEqual([...Array(4).fill([200, 404, 200, 200, 400]).flat(), 200]);
  });

  it("are not answered behind a stream, whose end is the end of the connection", async () => {
    const { body } = await server.call("POST", "/v1/jobs", { type: "t" });
    const client = open(get(`/v1/jobs/${body.id}/events`) + get("/v1/credits").repeat(5));
    await until(() => client.text().includes("event: status"), 5_000, "the first event");
    await server.call("POST", `/v1/jobs/${body.id}/cancel`);
    await within(client.closed, 5_000, "the end of the connection");
    expect(client.text()).toContain('"cancelled"');
    expect(client.text().match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(client.text()).not.toContain('"balance"');
  });

  it("do not begin behind a stream: it takes one place, and they take none", async () => {
    const { body } = await server.call("POST", "/v1/jobs", { type: "t" });
    const client = open(get(`/v1/jobs/${body.id}/events`).repeat(20));
    await until(() => client.text().includes("event: status"), 5_000, "the first event");
    expect(server.jobcast.statistics().open.sse).toBe(1);
  });

  it("are too many at 23,000 behind a stream, which is cut with them", async () => {
    const client = open(get("/v1/events") + get("/healthz").repeat(23_000));
    await within(client.closed, 10_000, "the end of the connection");
    await until(() => server.jobcast.statistics().open.sse === 0, 5_000, "the end of the stream");
    expect((await server.call("GET", "/healthz")).status).toBe(200);
  });

  it("with large heads are too many long before, and so are those with many headers", async () => {
    const heads = "x: y\r\n".repeat(90);
    const client = open(get("/v1/events") + get("/healthz", heads).repeat(200));
    await within(client.closed, 10_000, "the end of the connection");
    const { text } = await rawRequest(server.port, get("/healthz", "x: y\r\n".repeat(120)));
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain("fewer than 100 headers");
  });

  it("are told from a client that has gone, and leave nothing", async () => {
    const client = open(get("/v1/events") + get("/healthz").repeat(10));
    await until(() => client.text().includes("event: "), 5_000, "the first event");
    client.socket.destroy();
    await until(() => server.jobcast.statistics().open.sse === 0, 5_000, "the end of the stream");
  });
});

describe("answers that nobody reads", () => {
  it("are cut when all of them together are more than there is room for, and the others stay", async () => {
    const { body } = await server.call("POST", "/v1/jobs", { type: "t" });
    const id: string = body.id;
    await server.call("PATCH", `/v1/jobs/${id}`, { result: "x".repeat(1_000_000) });
    const patient = open(get(`/v1/jobs/${id}/events`));
    await until(() => patient.text().includes("event: status"), 5_000, "the first event");
    const clients = Array.from({ length: 12 }, () => {
      const client = open("");
      client.socket.pause();
      client.socket.write(get(`/v1/jobs/${id}`).repeat(20));
      return client;
    });
    const held = () =>
      [...connections].reduce((sum, one) => sum + (one.destroyed ? 0 : one.writableLength), 0);
    const unread = async () => (await server.call("GET", "/v1/stats")).body.events.unsentBytes;
    const isCut = ({ socket }: { socket: Socket }) => ended.has(socket.localPort);
    await until(() => clients.some(isCut), 5_000, "some of them to be cut");
    expect(await unread()).toBeGreaterThan(0);
    expect(await unread()).toBeLessThanOrEqual(ROOM);
    expect(held()).toBeLessThan(ROOM + 1_048_576);
    const events = patient.text().match(/event: status/g)?.length ?? 0;
    await server.call("PATCH", `/v1/jobs/${id}`, { progress: 10 });
    await until(
      () => (patient.text().match(/event: status/g)?.length ?? 0) > events,
      5_000,
      "the next event of who reads",
    );
  });
});
