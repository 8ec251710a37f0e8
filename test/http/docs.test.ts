import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { rawRequest } from "../support/raw-request.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

type Operation = { summary: string };

let db: TestDatabase;
let server: TestServer;
let browser: Browser;
let page: Page;
/** A page of three megabytes of script takes its time on a machine that is busy. */
const PATIENCE_MS = 60_000;
/** Where the page went for anything, and what it complained of. */
let urls: string[];
let complaints: string[];

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await server?.stop();
  await db?.drop();
});

beforeEach(async () => {
  urls = [];
  complaints = [];
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("request", (request) => urls.push(request.url()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
});
afterEach(() => page.close());

function foreignUrls(origin: string): string[] {
  return urls.filter((url) => !url.startsWith(origin) && !url.startsWith("data:"));
}

async function operations(): Promise<Operation[]> {
  const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, Operation>>;
  };
  return Object.values(paths).flatMap((methods) => Object.values(methods));
}

describe("GET /docs", { timeout: PATIENCE_MS }, () => {
  it("draws every operation, without a request to anybody else and without a complaint", async () => {
    await page.goto(`${server.url}/docs`);
    const sidebar = page.getByRole("navigation");
    for (const { summary } of await operations()) {
      await sidebar.getByText(summary, { exact: true }).waitFor();
      // Those below the fold are drawn when the page is idle.
      const heading = page.getByRole("heading", { name: summary, exact: true });
      await heading.waitFor({ state: "attached" });
    }
    expect(complaints).toEqual([]);
    expect(foreignUrls(server.url)).toEqual([]);
  });

  it("sends requests from the page", async () => {
    await page.goto(`${server.url}/docs#tag/service/GET/healthz`);
    await page.getByRole("button", { name: /test request.*healthz/i }).click();
    await page.getByRole("button", { name: /^send get request/i }).click();
    await page.getByText("200 OK").waitFor();
    expect(complaints).toEqual([]);
    expect(urls).toContain(`${server.url}/healthz`);
    expect(foreignUrls(server.url)).toEqual([]);
  });

  it("finds its parts where the service is mounted under a prefix", async () => {
    const host = express().use("/jobcast", server.jobcast.app);
    const http = createServer(host);
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    await page.goto(`${origin}/jobcast/docs/`);
    await page.getByRole("heading", { name: "Create a job" }).waitFor();
    expect(new URL(page.url()).pathname).toBe("/jobcast/docs");
    await page.getByText(`curl ${origin}/jobcast/v1/jobs`).first().waitFor();
    expect(complaints).toEqual([]);
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });

  it("may run its own scripts and no others, and load nothing from anywhere else", async () => {
    const { headers } = await fetch(`${server.url}/docs`);
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy).toMatch(/(^|; )default-src 'none'/);
    expect(policy).toMatch(/script-src 'self' 'sha256-[^']+';/);
    expect(policy).not.toMatch(/https?:|\*|unsafe-eval|script-src[^;]*unsafe-inline/);
  });

  it("serves its script packed, and in plain to who cannot unpack it", async () => {
    const html = await (await fetch(`${server.url}/docs`)).text();
    const [, path = ""] = /<script src="([^"]+)">/.exec(html) ?? [];
    const packed = await fetch(`${server.url}/${path}`);
    expect(Object.fromEntries(packed.headers)).toMatchObject({
      "content-type": expect.stringMatching(/javascript/),
      "content-encoding": "gzip",
      "cache-control": "public, max-age=86400",
      vary: expect.stringContaining("Accept-Encoding"),
    });
    const plain = await rawRequest(
      server.port,
      `GET /${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    );
    expect(plain.text).not.toMatch(/^content-encoding/im);
    expect(plain.text.endsWith(await packed.text())).toBe(true);
  });
});
