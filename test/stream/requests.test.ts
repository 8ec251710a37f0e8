import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { until } from "../support/deadline.ts";
import { createRandom } from "../support/random.ts";
import { type RawRequestOptions, rawRequest } from "../support/raw-request.ts";
import { type Edge, startEdge } from "./edge.ts";

const ORIGIN = "https://app.example.com";

let edge: Edge;
let jobId: string;

beforeAll(async () => {
  edge = await startEdge({ corsOrigins: [ORIGIN] });
  jobId = await edge.newJob();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

const PATHS = ["/v1/jobs/:id/events", "/v1/events", "/v1/events?jobs=:id"] as const;
const toPath = (path: string) => path.replace(":id", jobId);

function send(method: string, path: string, headers: Record<string, string> = {}) {
  return fetch(new URL(toPath(path), edge.server.url), {
    method,
    headers: { authorization: `Bearer ${edge.server.token({ scope: "" })}`, ...headers },
  });
}

/** A request as bytes, as alice. */
function head(path: string, { version = "1.1", more = "", id = jobId } = {}): string {
  const authorization = `Authorization: Bearer ${edge.server.token({ scope: "" })}`;
  return `GET ${path.replace(":id", id)} HTTP/${version}\r\nHost: x\r\n${authorization}\r\n${more}\r\n`;
}

const ask = (request: string, options?: RawRequestOptions) =>
  rawRequest(edge.server.port, request, options);

describe.each(PATHS)("%s", (path) => {
  it("answers HEAD with the head of a GET, and leaves no stream behind", async () => {
    const head = await send("HEAD", path);
    expect(head.status).toBe(200);
    const got = await edge.open(toPath(path));
    await got.close();
    for (const name of ["content-type", "cache-control", "x-accel-buffering", "vary"]) {
      expect([name, head.headers.get(name)]).toEqual([name, got.headers[name]]);
    }
    expect(await head.text()).toBe("");
    const poll = await send("HEAD", path, { accept: "application/json" });
    expect([poll.status, poll.headers.get("content-type")]).toEqual([200, "application/json"]);
  });

  it("answers a preflight for Last-Event-ID with 204, without a token", async () => {
    const answer = await fetch(new URL(toPath(path), edge.server.url), {
      method: "OPTIONS",
      headers: {
        origin: ORIGIN,
        "access-control-request-method": "GET",
        "access-control-request-headers": "last-event-id",
      },
    });
    expect(answer.status).toBe(204);
    expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    expect(answer.headers.get("access-control-allow-headers")?.toLowerCase()).toContain(
      "last-event-id",
    );
  });

  it.each(["PATCH", "PUT", "DELETE"])("answers %s with 405 and what it takes", async (method) => {
    const answer = await send(method, path);
    expect(answer.status).toBe(405);
    // A worker tells events of one job by a POST.
    const post = path.startsWith("/v1/jobs/") ? ", POST" : "";
    expect(answer.headers.get("allow")).toBe(`GET, HEAD${post}, OPTIONS`);
    expect(await answer.json()).toMatchObject({ code: "method_not_allowed" });
  });

  it("answers 406 to a client that wants neither events nor JSON", async () => {
    const answer = await send("GET", path, { accept: "text/html" });
    expect(answer.status).toBe(406);
    expect(await answer.json()).toMatchObject({ code: "not_acceptable" });
  });

  it.each([
    ["*/*", "text/event-stream"],
    ["text/html, */*;q=0.8", "text/event-stream"],
    ["application/json, */*;q=0.5", "application/json; charset=utf-8"],
    ["application/json;q=0.5, text/event-stream", "text/event-stream"],
  ])("gives to a client that accepts %s what it likes best", async (accept, type) => {
    const stream = await edge.open(`${toPath(path)}${path.includes("?") ? "&" : "?"}wait=0`, {
      headers: { accept },
    });
    expect(stream.headers["content-type"]).toBe(type);
    await stream.close();
  });
});

describe("a client of HTTP/1.0", () => {
  it("gets the events as they are, without chunks, and the end of the connection", async () => {
    const id = await edge.newJob();
    const answer = ask(head("/v1/jobs/:id/events?lastEventId=0", { version: "1.0", id }));
    await until(() => edge.server.jobcast.statistics().open.sse === 1, 5_000, "the stream");
    await edge.report(id, 50);
    await edge.complete(id);
    const { text, ending } = await answer;
    expect(ending).toBe("end");
    const [headers = "", body] = text.split(/\r\n\r\n/);
    expect(headers).not.toMatch(/transfer-encoding/i);
    expect(body).toMatch(/^retry: \d+\n(event: status\nid: \d-[\da-f]{6}\ndata: \{.*\}\n\n){3}$/);
  });
});

describe("the connection of a stream", () => {
  it("ends with it, for who reads the socket itself, and holds no place", async () => {
    const id = await edge.newJob();
    await edge.complete(id);
    for (let round = 1; round <= 15; round += 1) {
      const { text, ending } = await ask(head("/v1/jobs/:id/events", { id }));
      expect(ending).toBe("end");
      expect(text).toMatch(/^connection: close\r$/im);
      expect(text).toMatch(/\r\n0\r\n\r\n$/);
      const seen = await ask(head("/v1/jobs/:id/events?lastEventId=2", { id }));
      expect(seen.text).toMatch(/^HTTP\/1.1 204 /);
      expect(seen.ending).toBe("end");
      await until(() => edge.server.jobcast.statistics().open.sse === 0, 1_000, "its place back");
    }
  });
});

describe("requests that are pipelined on one connection", () => {
  it("cost nothing while they wait behind a stream, and leave nothing when the client goes", async () => {
    const opened = edge.server.jobcast.statistics().opened;
    const socket = connect(edge.server.port, "127.0.0.1");
    socket.on("error", () => undefined);
    const poll = { more: "Accept: application/json\r\n" };
    socket.write(head("/v1/jobs/:id/events") + head("/v1/events") + head("/v1/events", poll));
    await new Promise((resolve) => socket.once("data", resolve));
    await edge.report(jobId, 10);
    expect(edge.server.jobcast.statistics().opened - opened).toBe(1);
    socket.destroy();
    await edge.expectNothingOpen();
    expect(edge.server.jobcast.statistics().opened - opened).toBe(1);
  });
});

describe("a client that goes before its stream began", () => {
  it("leaves nothing behind, whenever that was", async () => {
    const paths = [head("/v1/jobs/:id/events"), head("/v1/events"), head("/v1/events?jobs=:id")];
    const logged = edge.server.logged.length;
    const random = createRandom("early goodbyes");
    const visits = Array.from({ length: 500 }, async (_, index) => {
      await delay(index * 2); // 500 at once would only measure the queue of the kernel
      const socket = connect(edge.server.port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(paths[index % paths.length] ?? "");
      await delay(random.below(50));
      if (index % 2) socket.destroy();
      else socket.resetAndDestroy();
    });
    await Promise.all(visits);
    await edge.expectNothingOpen();
    const complaints = edge.server.logged.slice(logged);
    expect(complaints.filter((line) => /"level":(40|50|60)/.test(line))).toEqual([]);
    // The service is as well as before.
    const stream = await edge.openJob(jobId);
    await stream.next();
    await stream.close();
  });

  it("leaves nothing behind when it goes while the database is slow", async () => {
    const locker = await edge.db.connect();
    await locker.query("begin; lock table jobcast.status_history in access exclusive mode");
    const logged = edge.server.logged.length;
    const sockets = PATHS.flatMap((path) => [path, path]).map((path) => {
      const socket = connect(edge.server.port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(head(path));
      return socket;
    });
    const isWaiting = () => edge.server.jobcast.statistics().open.sse === sockets.length;
    await until(isWaiting, 5_000, "all of them to wait for the database");
    for (const socket of sockets) socket.destroy();
    await locker.query("rollback");
    await edge.expectNothingOpen();
    const complaints = edge.server.logged.slice(logged);
    expect(complaints.filter((line) => /"level":(40|50|60)/.test(line))).toEqual([]);
  });
});
