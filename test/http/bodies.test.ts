import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";
import { rawRequest } from "../support/raw-request.ts";

const WORKER = bearer("worker", "jobs:write");

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi();
});
afterAll(() => api.close());

function post(body: string | object | undefined, contentType = "application/json") {
  return api.request
    .post("/v1/jobs")
    .set("Authorization", WORKER)
    .set("Content-Type", contentType)
    .send(body);
}

function pathsOf(body: { fields: { path: string }[] }): string[] {
  return body.fields.map(({ path }) => path);
}

/** Sends bytes as they are and gives back the status. */
async function rawStatus(request: string): Promise<number> {
  const { text } = await rawRequest(api.port, request);
  return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
}

describe("400 invalid_request", () => {
  it("refuses a value that is nested too deeply, however deeply", async () => {
    for (const depth of [65, 10_000, 400_000]) {
      const deep = "[".repeat(depth) + "]".repeat(depth);
      const { body } = await post(`{"type":"t","params":${deep}}`).expect(400);
      expect(pathsOf(body)).toEqual(["body.params"]);
    }
    await post(`{"type":"t","params":${"[".repeat(60)}${"]".repeat(60)}}`).expect(201);
  });

  it("does not take the members that a body has from its prototype", async () => {
    const { body } = await post('{"__proto__":{"type":"t"}}').expect(400);
    expect(pathsOf(body)).toContain("body.type");
    const made = await post('{"type":"t","params":{"__proto__":{"a":1}}}').expect(201);
    expect(JSON.stringify(made.body.params)).toBe('{"__proto__":{"a":1}}');
  });
});

describe("a GET with a body", () => {
  it("is answered, and its client's end is noticed", async () => {
    const body = "x".repeat(100_000);
    const request = `GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ${WORKER}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    expect(await rawStatus(request + body)).toBe(200);
  });
});

describe("400 invalid_json", () => {
  it.each(["{", '{"type":"t",}', "undefined", "'t'", "\u0000"])(
    "answers the body %j",
    async (text) => {
      const { body } = await post(text).expect(400);
      expect(body.code).toBe("invalid_json");
    },
  );
});

describe("413 payload_too_large", () => {
  it("refuses a body above 1 MiB, also one that was made small by compression", async () => {
    const atLimit = JSON.stringify({ type: "t", params: "" });
    const fitting = "x".repeat(1_048_576 - atLimit.length);
    await post({ type: "t", params: fitting }).expect(201);
    const { body } = await post({ type: "t", params: `${fitting}x` }).expect(413);
    expect(body.code).toBe("payload_too_large");

    const bomb = gzipSync(JSON.stringify({ type: "t", params: "x".repeat(20_000_000) }));
    const answer = await api.request
      .post("/v1/jobs")
      .set("Authorization", WORKER)
      .set("Content-Type", "application/json")
      .set("Content-Encoding", "gzip")
      .serialize((value) => value as string)
      .send(bomb as unknown as object);
    expect(answer.status).toBe(413);
  });
});

describe("a body that has a word or two to say", () => {
  it("may have 64 KiB of them, also where no scope is needed", async () => {
    const { body: job } = await post('{"type":"t"}').expect(201);
    const fill = (bytes: number) => JSON.stringify({ message: "x".repeat(bytes - 14) });
    for (const path of [`/v1/jobs/${job.id}/cancel`, `/v1/jobs/${job.id}/retry`]) {
      const send = (body: string) =>
        api.request
          .post(path)
          .set("Authorization", WORKER)
          .set("Content-Type", "application/json")
          .send(body);
      const { body } = await send(fill(65_537)).expect(413);
      expect(body).toMatchObject({
        code: "payload_too_large",
        detail: expect.stringMatching("64 KiB"),
      });
      await send(`{${'"a":1,'.repeat(150_000)}"b":1}`).expect(413);
      await send(fill(65_536)).expect(200);
    }
  });
});

describe("a body that says it is too large", () => {
  it("is refused before it is sent", async () => {
    const { text } = await rawRequest(
      api.port,
      `POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: ${WORKER}\r\n` +
        "Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n{",
      { isComplete: (received) => received.includes("payload_too_large") },
    );
    expect(text).toMatch(/^HTTP\/1\.1 413 /);
  });
});

describe("415 unsupported_media_type", () => {
  it.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json; charset=latin1",
    "application/json; charset=utf-999",
    "nonsense",
  ])("refuses a body of %s", async (type) => {
    const { body } = await post('{"type":"t"}', type).expect(415);
    expect(body.code).toBe("unsupported_media_type");
  });

  it("refuses an encoding that nobody knows and a body that does not say what it is", async () => {
    await post('{"type":"t"}').set("Content-Encoding", "compress").expect(415);
    const head = `POST /v1/jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: ${WORKER}\r\n`;
    expect(await rawStatus(`${head}Content-Length: 12\r\n\r\n{"type":"t"}`)).toBe(415);
    const invalid = `${head}Content-Type: application/json; =\r\nContent-Length: 12\r\n\r\n{"type":"t"}`;
    expect(await rawStatus(invalid)).toBeLessThan(500);
  });
});

describe("bodies that never come", () => {
  const upload = (sub: string, path: string, scope = "jobs:write") =>
    `POST ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: ${bearer(sub, scope)}\r\n` +
    "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{";

  it("keep nobody else's from being read, and are only so many of one caller", async () => {
    const sockets = Array.from({ length: 30 }, () => {
      const socket = connect(api.port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(upload("uploader", "/v1/jobs"));
      return socket;
    });
    const large = JSON.stringify({ type: "t", params: "x".repeat(500_000) });
    for (let count = 0; count < 5; count += 1) await post(large).expect(201);
    const answer = await api.request
      .post("/v1/jobs")
      .set("Authorization", bearer("uploader", "jobs:write"))
      .set("Content-Type", "application/json")
      .send(large);
    expect([answer.status, answer.body.code]).toEqual([503, "overloaded"]);
    expect(answer.headers["retry-after"]).toMatch(/^[1-5]$/);
    // What is small waits for no place.
    await api.request
      .post("/v1/jobs")
      .set("Authorization", bearer("uploader", "jobs:write"))
      .send({ type: "t" })
      .expect(201);
    for (const socket of sockets) socket.destroy();
  });

  it("are not waited for from who may not write", async () => {
    for (const [scope, path] of [
      ["", "/v1/jobs"],
      ["jobs:create", "/v1/jobs/01a210d0-0000-7000-8000-000000000000/cancel"],
    ] as const) {
      const { text } = await rawRequest(api.port, upload("nobody", path, scope), {
        isComplete: (received) => received.includes("\r\n\r\n"),
      });
      expect(text).toMatch(/^HTTP\/1\.1 40[34] /);
    }
  });
});
