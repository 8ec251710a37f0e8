import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { type Edge, startEdge } from "../../stream/edge.ts";
import { until } from "../../support/deadline.ts";

vi.setConfig({ testTimeout: 60_000 });

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.stop());

const takeAway = (name: string) =>
  edge.db.query("delete from jobcast.signing_keys where name = $1", [name]);

it("stream tokens are void soon after their key was taken away, and their streams end", async () => {
  const token = await edge.server.jobcast.streamToken({ ownerId: "alice" });
  const id = await edge.newJob();
  const [theirs, ours] = await Promise.all([edge.openJob(id, { token }), edge.openJob(id)]);
  await Promise.all([theirs.next(), ours.next()]);

  await takeAway("stream tokens");
  const close = await theirs.next(({ type }) => type === "close", 20_000);
  expect(JSON.parse(close.data)).toMatchObject({ reason: "token_expired" });
  expect((await edge.openJob(id, { token })).status).toBe(401);

  // Who came with a token of his own is not disturbed, and there are new stream tokens at once.
  await edge.report(id, 10);
  await ours.next(({ data }) => data.includes('"version":2'));
  const fresh = await edge.server.jobcast.streamToken({ ownerId: "alice" });
  await (await edge.openJob(id, { token: fresh })).next();
});

it("callback URLs are void soon after their key was taken away", async () => {
  const id = await edge.newJob();
  const report = async (url: string, progress: number) => {
    const response = await fetch(new URL(url, edge.server.url), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ progress }),
    });
    await response.arrayBuffer();
    return response.status;
  };
  const old = await edge.server.jobcast.callbackUrl({ id, attempt: 1 });
  expect(await report(old, 10)).toBe(200);
  await takeAway("callback tokens");
  await until(async () => (await report(old, 20)) === 401, 20_000, "the old one to be refused");
  const fresh = await edge.server.jobcast.callbackUrl({ id, attempt: 1 });
  expect(await report(fresh, 30)).toBe(200);
});
