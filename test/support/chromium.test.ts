import type { IncomingMessage, ServerResponse } from "node:http";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openBrowserStream } from "./browser-stream.ts";
import { launchChromium } from "./chromium.ts";
import { type HttpFixture, serveHttp } from "./http-fixture.ts";

type Exchange = { req: IncomingMessage; res: ServerResponse };

let browser: Browser;
let page: Page;
let fixture: HttpFixture;
/** What to answer to the first, second ... request for the stream; after the last, 204. */
let answers: ((exchange: Exchange) => void)[];
let lastEventIds: (string | undefined)[];

function serve({ req, res }: Exchange): void {
  if (req.url !== "/events") {
    res.setHeader("content-type", "text/html; charset=utf-8");
    res.end("<!doctype html><title>Jobs</title><span>Jobs</span>");
    return;
  }
  lastEventIds.push(req.headers["last-event-id"] as string | undefined);
  const answer = answers.shift();
  if (answer) answer({ req, res });
  else res.writeHead(204).end();
}

const stream =
  (...frames: string[]) =>
  ({ res }: Exchange) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.end(frames.join(""));
  };

beforeAll(async () => {
  browser = await launchChromium();
});

afterAll(() => browser?.close());

beforeEach(async () => {
  answers = [];
  lastEventIds = [];
  fixture = await serveHttp((req, res) => serve({ req, res }));
  page = await browser.newPage();
  await page.goto(fixture.url);
});

afterEach(async () => {
  await page.close();
  await fixture.close();
});

const isClosed = ({ type, data }: { type: string; data: string }) =>
  type === "error" && data === "2";

describe("launchChromium", () => {
  it("opens a page of the loopback", async () => {
    expect(await page.title()).toBe("Jobs");
  });

  it.runIf(!process.env.CHROMIUM_PATH)("shows text in a font that it brought along", async () => {
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("DOM.enable");
    await devtools.send("CSS.enable");
    const { root } = await devtools.send("DOM.getDocument");
    const span = await devtools.send("DOM.querySelector", {
      nodeId: root.nodeId,
      selector: "span",
    });
    const { fonts } = await devtools.send("CSS.getPlatformFontsForNode", { nodeId: span.nodeId });
    expect(fonts.map(({ familyName }) => familyName)).toEqual(["Open Sans"]);
  });

  it("reaches nothing but the loopback", async () => {
    // An address of the documentation, which needs no resolver, so the rule itself must stop it.
    await expect(page.goto("http://192.0.2.1/")).rejects.toThrow("ERR_NAME_NOT_RESOLVED");
  });
});

describe("openBrowserStream", () => {
  it("hands over events with their last id, and reconnects with it after a drop", async () => {
    answers.push(
      stream("retry: 1\n\n", "event: status\nid: 7\ndata: a\n\n", "id: 8\ndata: cut off\n"),
      stream("event: status\nid: 8\ndata: b\n\n"),
    );
    const source = await openBrowserStream(page, "/events");
    const isStatus = ({ type }: { type: string }) => type === "status";
    expect(await source.take(2, isStatus)).toEqual([
      { type: "status", data: "a", lastEventId: "7" },
      { type: "status", data: "b", lastEventId: "8" },
    ]);
    await source.next(isClosed);
    expect(lastEventIds).toEqual([undefined, "7", "8"]);
  });

  it("stops for good at a 204, and tells so", async () => {
    const source = await openBrowserStream(page, "/events");
    await source.next(isClosed);
    expect(await source.readyState()).toBe(2);
    expect(lastEventIds).toHaveLength(1);
  });

  it("moves the last id with a block that has no data, as the standard says", async () => {
    answers.push(stream("retry: 1\n\n", "id: 7\ndata: a\n\n", "id: 9\n\n"));
    const source = await openBrowserStream(page, "/events");
    await source.next(isClosed);
    expect(lastEventIds).toEqual([undefined, "9"]);
  });

  it("keeps the last id when a reconnected stream starts with an event without id", async () => {
    answers.push(stream("retry: 1\n\n", "id: 7\ndata: a\n\n"), stream("event: ping\ndata: {}\n\n"));
    const source = await openBrowserStream(page, "/events");
    await source.next(isClosed);
    expect(lastEventIds).toEqual([undefined, "7", "7"]);
    expect(source.events).toContainEqual({ type: "ping", data: "{}", lastEventId: "7" });
  });
});
