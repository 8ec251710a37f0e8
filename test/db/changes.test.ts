import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatSnapshot } from "../../src/change/snapshot.ts";
import { upTo } from "../../src/db/visibility.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

describe("a snapshot as far as the history goes", () => {
  it.each([
    ["an empty history", null],
    ["the first transaction of all", 3],
    ["the last id before PostgreSQL leaves some out", 2 ** 32 - 1],
    ["the first id after them", 2 ** 32 + 3],
  ])("is one that PostgreSQL reads, and sees no more: %s", async (_, newest) => {
    const xmax = 2 ** 33 + 7;
    const snapshot = upTo(newest, { xmin: xmax, xmax, xip: [] });
    const [row] = await db.query<{ ends: string; newest: boolean; later: boolean }>(
      `select pg_snapshot_xmax($1::pg_snapshot)::text as ends,
         pg_visible_in_snapshot($2::text::xid8, $1::pg_snapshot) as newest,
         pg_visible_in_snapshot(pg_snapshot_xmax($1::pg_snapshot), $1::pg_snapshot) as later`,
      [formatSnapshot(snapshot), String(newest ?? 2)],
    );
    expect(row).toMatchObject({ newest: true, later: false });
    expect(Number(row?.ends)).toBeGreaterThan(newest ?? 2);
  });
});
