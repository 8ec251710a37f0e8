import { connect } from "node:net";
import express from "express";
import { expect, it } from "vitest";
import { boundAnswers, sendJson } from "../../src/http/answers.ts";
import { Unsent } from "../../src/stream/unsent.ts";
import { until, within } from "../support/deadline.ts";
import { serveHttp } from "../support/http-fixture.ts";

/** More than the kernels on both sides take. */
const LARGE = JSON.stringify("x".repeat(20_000_000));

async function serve(patienceMs: (bytes: number) => number) {
  const unsent = new Unsent(Number.POSITIVE_INFINITY);
  const app = express();
  app.use(boundAnswers(unsent, patienceMs));
  app.get("/large", (_req, res) => sendJson(res, LARGE));
  app.get("/small", (_req, res) => sendJson(res, "{}"));
  return { unsent, fixture: await serveHttp(app) };
}

it("an answer that its client does not take is counted, and cut when its time is over", async () => {
  const lengths: number[] = [];
  const { unsent, fixture } = await serve((bytes) => {
    lengths.push(bytes);
    return 200;
  });
  const socket = connect(fixture.port, "127.0.0.1");
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined);
  socket.pause();
  socket.write("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  await until(() => unsent.total > 0, 5_000, "an answer that waits");
  expect(lengths).toEqual([unsent.total]);
  await until(() => unsent.total === 0, 5_000, "its end");
  socket.resume();
  await within(closed, 5_000, "the end of its connection");
  await fixture.close();
});

it("an answer that is taken is neither", async () => {
  const { unsent, fixture } = await serve(() => 60_000);
  for (const path of ["/small", "/large"]) {
    const response = await fetch(`${fixture.url}${path}`);
    expect((await response.text()).length).toBe(path === "/small" ? 2 : LARGE.length);
  }
  unsent.sweep();
  await until(() => unsent.total === 0, 5_000, "nothing to be left");
  await fixture.close();
});
