import express from "express";
import fc from "fast-check";
import { pinoHttp } from "pino-http";
import request from "supertest";
import { describe, expect, it } from "vitest";
import { createLog, redactUrl, requestLogOptions } from "../src/log.ts";

const SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl";

const CALLBACK = `1.t9k3xq.${"Ab-_".repeat(11).slice(0, 43)}`;

function setup(level: string) {
  const lines: string[] = [];
  const logger = createLog(level, { write: (line) => void lines.push(line) });
  const app = express();
  app.use(pinoHttp({ ...requestLogOptions, logger }));
  app.get("/v1/events", (req, res) => {
    req.log.debug("inside");
    res.set("set-cookie", `jobcast_token=${SECRET}`).json({});
  });
  app.get("/broken", () => {
    throw new Error("broken");
  });
  return { app, lines };
}

describe("the log", () => {
  it("is lines of JSON with the time as text", () => {
    const lines: string[] = [];
    createLog("info", { write: (line) => void lines.push(line) }).info({ a: 1 }, "hello");
    const entry = JSON.parse(lines.join(""));
    expect(entry).toEqual({ level: 30, a: 1, msg: "hello", time: expect.any(String) });
    expect(new Date(entry.time).toISOString()).toBe(entry.time);
  });

  it("of requests has method, URL and status", async () => {
    const { app, lines } = setup("info");
    await request(app).get("/v1/events?jobs=a&lastEventId=7").expect(200);
    expect(JSON.parse(lines.join(""))).toMatchObject({
      req: { method: "GET", url: "/v1/events?jobs=a&lastEventId=7" },
      res: { status: 200 },
    });
  });

  it("of requests has the whole URL, wherever the app is mounted", async () => {
    const { app, lines } = setup("info");
    const outer = express();
    outer.use("/sub", app);
    await request(outer).get("/sub/v1/events?token=x").expect(200);
    expect(JSON.parse(lines.join("")).req.url).toBe("/sub/v1/events?token=[redacted]");
  });

  it("has no line of a probe, under a prefix neither, and one of what only looks like it", async () => {
    const { app, lines } = setup("info");
    const outer = express();
    outer.use("/sub", app);
    for (const path of ["/healthz", "/readyz?x=1", "/metrics"]) {
      await request(outer).get(`/sub${path}`);
    }
    expect(lines).toEqual([]);
    await request(outer).get("/sub/v1/events?x=/healthz");
    expect(lines).toHaveLength(1);
  });

  it("never has a token, not in its most talkative, nor when something breaks", async () => {
    const { app, lines } = setup("trace");
    const headers = {
      authorization: `Bearer ${SECRET}`,
      cookie: `jobcast_token=${SECRET}`,
      "x-callback-token": SECRET,
      referer: `http://x/?access_token=${SECRET}`,
    };
    for (const path of ["/v1/events", "/broken", "/nowhere"]) {
      await request(app).get(`${path}?access_token=${SECRET}&token=${SECRET}`).set(headers);
    }
    expect(lines.length).toBeGreaterThan(3);
    expect(lines.join("")).toContain("access_token=[redacted]&token=[redacted]");
    expect(lines.join("")).not.toContain(SECRET);
  });
});

describe("a URL in the log", () => {
  it.each([
    ["/v1/jobs/1", "/v1/jobs/1"],
    ["/e?jobs=a,b&x=1", "/e?jobs=a,b&x=1"],
    ["/e?access_token=s&jobs=a", "/e?access_token=[redacted]&jobs=a"],
    ["/e?jobs=a&access_token=s", "/e?jobs=a&access_token=[redacted]"],
    ["/e?access_token=s&access_token=s", "/e?access_token=[redacted]&access_token=[redacted]"],
    ["/e?access%5Ftoken=s", "/e?access%5Ftoken=[redacted]"],
    ["/e?%61ccess_%74oken=s", "/e?%61ccess_%74oken=[redacted]"],
    ["/e?ACCESS_TOKEN=s", "/e?ACCESS_TOKEN=[redacted]"],
    [
      "/e?access_token[]=s&access_token[a]=s",
      "/e?access_token[]=[redacted]&access_token[a]=[redacted]",
    ],
    ["/e?access_token=s=s", "/e?access_token=[redacted]"],
    ["/e?a?access_token=s", "/e?a?access_token=[redacted]"],
    ["/e?%access_token=s", "/e?%access_token=[redacted]"],
    ["/e?access_token", "/e?access_token"],
    ["/v1/callbacks/1?token=s", "/v1/callbacks/1?token=[redacted]"],
    ["http://host/e?token=s", "http://host/e?token=[redacted]"],
  ])("%s is %s", (url, expected) => {
    expect(redactUrl(url)).toBe(expected);
  });

  it.each([
    `/v1/jobs/1/events?wait=0?access_token=${SECRET}`,
    `/v1/events;access_token=${SECRET}`,
    `/v1/events%3Faccess_token=${SECRET}`,
    `/v1/events?jwt=${SECRET}`,
    `/v1/events?authorization=Bearer+${SECRET.replaceAll(".", "%2E")}`,
    `/${SECRET}`,
    `/v1/callbacks/1%3Ftoken=${CALLBACK}`,
    `/v1/callbacks/1?x=1?token=${CALLBACK}`,
  ])("hides what looks like a token: %s", (url) => {
    const shown = redactUrl(url);
    expect(shown).toContain("[redacted]");
    expect(shown).not.toContain("c2VjcmV0");
    expect(shown).not.toContain("Ab-_");
  });

  it("hides whatever Express would take for the token, however it is written", () => {
    const app = express();
    const parse = app.get("query parser fn") as (query: string) => Record<string, unknown>;
    const disguised = fc
      .array(fc.constantFrom("plain", "encoded"), { minLength: 12, maxLength: 12 })
      .map((ways) => {
        const letters = [..."access_token"].map((letter, index) => {
          const hex = letter.charCodeAt(0).toString(16);
          return ways[index] === "plain" ? letter : `%${index % 2 ? hex.toUpperCase() : hex}`;
        });
        return letters.join("");
      });
    const noise = fc.webQueryParameters();
    fc.assert(
      fc.property(disguised, noise, noise, (name, before, after) => {
        const query = `${before}&${name}=${SECRET}&${after}`;
        expect(JSON.stringify(parse(query)["access_token"])).toContain(SECRET);
        expect(redactUrl(`/e?${query}`)).not.toContain(SECRET);
      }),
      { numRuns: 50 },
    );
  });
});
