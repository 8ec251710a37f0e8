import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";
import { rawRequest } from "../support/raw-request.ts";

const WORKER = bearer("worker", "jobs:write");
const NOBODYS_JOB = "0190f3c2-0000-7000-8000-000000000000";
const ORIGIN = "https://app.example";

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi({ corsOrigins: [ORIGIN] });
});
afterAll(() => api.close());

/** Sends bytes as they are and gives back the status. */
async function rawStatus(request: string): Promise<number> {
  const { text } = await rawRequest(api.port, request);
  return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
}

describe("a request head", () => {
  it("refuses a malformed Host, URL and target without a 5xx", async () => {
    const head = (target: string, host = "localhost") =>
      `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    const requests = [
      ...["bad host", "", "a/b", "user@host", "[::1", "host:port", "%00", "a,b"].map((host) =>
        head("/healthz", host),
      ),
      ...["/%", "/v1/jobs/%E0%A4%A", "/v1/jobs/%ff", "/healthz?a=%zz"].map((target) =>
        head(target),
      ),
    ];
    for (const request of requests)
      expect([request, await rawStatus(request)]).toEqual([request, 400]);
    for (const host of ["localhost:80", "[::1]:3000", "my_host.internal"]) {
      expect(await rawStatus(head("/healthz", host))).toBe(200);
    }
    for (const target of ["http://[", "http://a:99999/", "*", "//", "/v1/jobs/..%2f..%2fx"]) {
      expect(await rawStatus(head(target))).toBeLessThan(500);
    }
  });
});

describe("the name of a request", () => {
  it("is in its answer, whatever it is, and in what is logged of it", async () => {
    const ids = new Set<string>();
    for (const path of ["/healthz", "/v1/jobs", "/nowhere"]) {
      const { headers } = await api.request.get(path);
      expect(headers["x-request-id"]).toMatch(/^[\da-f-]{36}$/);
      ids.add(headers["x-request-id"] ?? "");
    }
    expect(ids.size).toBe(3);
  });

  it("is the one that it came with, unless that could break a log", async () => {
    const named = async (id: string) =>
      (await api.request.get("/healthz").set("X-Request-Id", id)).headers["x-request-id"];
    expect(await named("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")).toBe(
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    );
    for (const id of ["a b", "x".repeat(129), '"}{"', "ä"]) expect(await named(id)).not.toBe(id);
  });
});

describe("404 not_found", () => {
  it("is the answer to a path that nobody knows, with a token or without", async () => {
    for (const path of ["/v1/job", "/v1/jobs/a/b/c", "/v2/jobs", "/v1/jobs//history"]) {
      const { body } = await api.request.get(path).expect(404);
      expect(body.code).toBe("not_found");
      await api.request.get(path).set("Authorization", WORKER).expect(404);
    }
  });
});

describe("405 method_not_allowed", () => {
  it("says which methods a path has, those of every router together", async () => {
    const { body, headers } = await api.request.put(`/v1/jobs/${NOBODYS_JOB}`).expect(405);
    expect(body.code).toBe("method_not_allowed");
    expect(headers["allow"]?.split(", ").sort()).toEqual([
      "DELETE",
      "GET",
      "HEAD",
      "OPTIONS",
      "PATCH",
    ]);
    await api.request.put("/v1/jobs").expect(405);
    await api.request.get(`/v1/jobs/${NOBODYS_JOB}/cancel`).expect(405);
    await api.request.post("/healthz").expect(405);
  });
});

describe("every answer", () => {
  it("carries no ETag and is never a 304, whatever a client claims to have", async () => {
    for (const condition of ["*", '"x"']) {
      const { headers } = await api.request
        .get("/v1/jobs?type=none")
        .set("Authorization", WORKER)
        .set("If-None-Match", condition)
        .expect(200);
      expect(headers).not.toHaveProperty("etag");
      expect(headers["cache-control"]).toBe("no-store");
      expect(headers["vary"]).toMatch(/\bAuthorization\b/);
    }
  });

  it("does not say what serves it, and lets a page that shows it do nothing", async () => {
    const { headers } = await api.request.get("/healthz").expect(200);
    expect(headers).not.toHaveProperty("x-powered-by");
    expect(headers["content-security-policy"]).toBe("default-src 'none';frame-ancestors 'none'");
    expect(headers["x-content-type-options"]).toBe("nosniff");
  });

  it("lets the pages of the named origins read it, and no other", async () => {
    const get = (origin: string) => api.request.get("/v1/jobs").set("Origin", origin);
    const ours = (await get(ORIGIN)).headers;
    expect(ours["access-control-allow-origin"]).toBe(ORIGIN);
    expect(ours["access-control-allow-credentials"]).toBe("true");
    expect(ours["access-control-expose-headers"]).toBe("Retry-After,Location,X-Request-Id");
    expect(ours["vary"]).toMatch(/\bOrigin\b/);
    for (const origin of ["https://evil.example", "null", `${ORIGIN}.evil.example`, "*"]) {
      expect((await get(origin)).headers).not.toHaveProperty("access-control-allow-origin");
    }
  });
});

describe("OPTIONS", () => {
  it("answers 204 with Allow to anybody, before authentication", async () => {
    const allow = async (path: string) =>
      (await api.request.options(path).expect(204)).headers["allow"]?.split(", ").sort();
    expect(await allow("/v1/jobs")).toEqual(["GET", "HEAD", "OPTIONS", "PATCH", "POST"]);
    expect(await allow(`/v1/jobs/${NOBODYS_JOB}/cancel`)).toEqual(["OPTIONS", "POST"]);
    expect(await allow("/nowhere")).toEqual(["GET", "HEAD", "OPTIONS"]);
    expect(await rawStatus("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).toBe(204);
  });

  it("lets the named origins preflight what our clients send", async () => {
    const preflight = (origin: string) =>
      api.request
        .options("/v1/jobs")
        .set("Origin", origin)
        .set("Access-Control-Request-Method", "PATCH")
        .set("Access-Control-Request-Headers", "authorization,last-event-id")
        .expect(204);
    const { headers } = await preflight(ORIGIN);
    expect(headers["access-control-allow-origin"]).toBe(ORIGIN);
    expect(headers["access-control-allow-methods"]).toBe("GET,HEAD,POST,PATCH,DELETE");
    expect(headers["access-control-allow-headers"]).toBe(
      "Authorization,Cache-Control,Content-Type,Last-Event-ID,Idempotency-Key,X-Callback-Token,X-Request-Id",
    );
    expect(Number(headers["access-control-max-age"])).toBeGreaterThan(0);
    expect((await preflight("https://evil.example")).headers).not.toHaveProperty(
      "access-control-allow-origin",
    );
  });
});

describe("health", () => {
  it("says that it lives and whether it is ready, to anybody, and to HEAD", async () => {
    await api.request.get("/healthz").expect(200, { status: "ok" });
    await api.request.head("/healthz").expect(200);
    await api.request.get("/readyz").expect(200, { ready: true });
    api.readiness = { ready: false, feed: "catching up" };
    await api.request.get("/readyz").expect(503, { ready: false, feed: "catching up" });
    await api.request.head("/readyz").expect(503);
    api.readiness = { ready: true };
  });
});
