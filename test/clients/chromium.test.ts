import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { idOf } from "../stream/edge.ts";
import { type BrowserStream, openBrowserStream } from "../support/browser-stream.ts";
import { launchChromium } from "../support/chromium.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { type HttpFixture, serveHttp } from "../support/http-fixture.ts";
import { codeBlocks } from "../support/markdown.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

/** How long the browser is watched for a request that it must not make: many times its delay. */
const QUIET_MS = 2_000;

let browser: Browser;
let application: HttpFixture;
let database: TestDatabase;
let server: TestServer;
let page: Page;

beforeAll(async () => {
  browser = await launchChromium();
  // The application that the user looks at has an origin of its own.
  application = await serveHttp((_req, res) => {
    res.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>App</title>");
  });
});

afterAll(async () => {
  await browser?.close();
  await application?.close();
});

beforeEach(async () => {
  database = await createTestDatabase();
  server = await start();
  page = await browser.newPage();
  await page.goto(application.url);
});

afterEach(async () => {
  await page.close();
  await server.stop();
  await database.drop();
});

const start = (port = 0) =>
  startTestServer({
    databaseUrl: database.url,
    corsOrigins: [application.url],
    retryMs: 200,
    port,
  });

async function createJob(): Promise<string> {
  return (await server.call("POST", "/v1/jobs", { type: "image" })).body.id;
}

const report = (id: string, progress: number) =>
  database.query("select jobcast.report_progress($1, $2)", [id, progress]);

/** EventSource with a token that can only subscribe, in its URL. */
async function watch(path: string): Promise<BrowserStream> {
  const { body } = await server.call("POST", "/v1/stream-tokens");
  return openBrowserStream(page, `${server.url}${path}?access_token=${body.token}`);
}

const isStatus = ({ type }: { type: string }) => type === "status";

const versionsOf = (stream: BrowserStream) =>
  stream.events.filter(isStatus).map(({ data }) => JSON.parse(data).version);

describe("EventSource in Chromium, on a page of another origin", () => {
  it("shows every version of a job as an event with its id", async () => {
    const job = await createJob();
    const stream = await watch(`/v1/jobs/${job}/events`);
    expect(await stream.next(isStatus)).toMatchObject({ lastEventId: idOf(1) });
    await report(job, 40);
    const event = await stream.next(isStatus);
    expect(event.lastEventId).toEqual(idOf(2));
    expect(JSON.parse(event.data)).toMatchObject({ status: "processing", progress: 40 });
  });

  it("resumes by itself after the service was restarted, and has missed nothing", async () => {
    const job = await createJob();
    const stream = await watch(`/v1/jobs/${job}/events`);
    await stream.next(isStatus);
    const { port } = server;
    await server.stop();
    await report(job, 20);
    await report(job, 40);
    server = await start(port);
    await report(job, 60);
    await stream.next((event) => isStatus(event) && event.lastEventId.startsWith("4-"), 20_000);
    expect(versionsOf(stream)).toEqual([1, 2, 3, 4]);
  });

  it("survives a drain, although it comes back while that lasts", async () => {
    const job = await createJob();
    const stream = await watch(`/v1/jobs/${job}/events`);
    await stream.next(isStatus);
    const { port } = server;
    const drained = server.jobcast.drain(1_500);
    const isClose = ({ type }: { type: string }) => type === "close";
    await stream.next(isClose); // of the stream that was open
    await stream.next(isClose); // of the one that was not let in
    await drained;
    await server.stop();
    await report(job, 20);
    server = await start(port);
    await stream.next((event) => isStatus(event) && event.lastEventId.startsWith("2-"), 20_000);
    expect(versionsOf(stream)).toEqual([1, 2]);
  });

  it("resumes a stream over many jobs after a restart, with a cursor that needs no preflight", async () => {
    const stream = await watch("/v1/events");
    await stream.next(({ type }) => type === "open");
    const job = await createJob();
    await stream.next(isStatus);
    const { port } = server;
    await server.stop();
    await report(job, 20);
    server = await start(port);
    await stream.next(isStatus, 20_000);
    expect(versionsOf(stream)).toEqual([1, 2]);
    expect(server.logged.filter((line) => line.includes('"OPTIONS"'))).toEqual([]);
  });

  it("is watched by the function of docs/clients.md, also over a connection that died", async () => {
    const proxy = await startTcpProxy(server.port);
    const [code = ""] = await codeBlocks("docs/clients.md", "js");
    const job = await createJob();
    const { body } = await server.call("POST", "/v1/stream-tokens");
    const url = `http://127.0.0.1:${proxy.port}/v1/jobs/${job}/events?access_token=${body.token}`;
    const versions: number[] = [];
    let hasEnded = false;
    await page.exposeFunction("onState", ({ version }: { version: number }) => {
      versions.push(version);
    });
    await page.exposeFunction("onEnd", () => {
      hasEnded = true;
    });
    await page.evaluate(`${code}\nwatchJob(${JSON.stringify(url)}, onState, onEnd);`);
    await until(() => versions.length === 1, 10_000, "the first state");
    proxy.blackhole();
    await report(job, 20);
    proxy.thaw();
    await until(() => versions.length === 2, 40_000, "what was missed");
    await database.query("select jobcast.complete_job($1)", [job]);
    await until(() => hasEnded, 10_000, "the end");
    expect(versions).toEqual([1, 2, 3]);
    await proxy.close();
  });

  it("stops for good after the end of the job", async () => {
    const job = await createJob();
    const stream = await watch(`/v1/jobs/${job}/events`);
    await stream.next(isStatus);
    await database.query("select jobcast.complete_job($1)", [job]);
    await stream.next(({ type, data }) => type === "error" && data === "2"); // EventSource.CLOSED
    expect(versionsOf(stream)).toEqual([1, 2]);
    expect(await stream.readyState()).toBe(2);
    const asked = () =>
      server.logged.filter((line) => line.includes(`/v1/jobs/${job}/events`)).length;
    const before = asked();
    expect(before).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    expect(asked()).toBe(before);
  });
});
