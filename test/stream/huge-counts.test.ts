import { afterAll, beforeAll, expect, it } from "vitest";
import { type Edge, startEdge } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.stop());

it("counts of a hundred thousand digits end no feed and no list", async () => {
  const stream = await edge.open("/v1/events");
  await stream.next();
  await edge.db.query(
    "insert into jobcast.jobs (owner_id, type) select 'mallory', 'x' from generate_series(1, 150)",
  );
  // As they could be written before they were looked at.
  await edge.db.query("alter table jobcast.jobs disable trigger _200_assert_counts_on_update");
  await edge.db.query(
    `update jobcast.jobs set counts = jsonb_build_object('total', 1e131071::numeric,
       'completed', 1e131071::numeric, 'failed', 1e131071::numeric) where owner_id = 'mallory'`,
  );
  const id = await edge.newJob();
  await stream.next(({ data }) => data.includes(id));
  const mallory = await edge.open("/v1/events", {
    token: edge.server.token({ sub: "mallory", scope: "" }),
  });
  const { data } = await mallory.next();
  expect(JSON.parse(data)).toMatchObject({ counts: null, omitted: ["counts"] });
  await mallory.close();
  const { status, body } = await edge.server.call("GET", "/v1/jobs?limit=100");
  expect(status).toBe(200);
  expect(body.items).toHaveLength(100);
  const held = body.items.find(({ ownerId }: { ownerId: string }) => ownerId === "mallory");
  expect(held).toMatchObject({ counts: null, omitted: ["counts"] });
  await stream.close();
});
