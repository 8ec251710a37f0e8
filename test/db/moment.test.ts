import { afterAll, beforeAll, expect, it } from "vitest";
import { momentText, toIso } from "../../src/db/moment.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

it.each([
  ["2026-11-25 02:03:04.123456+00", "2026-11-25T02:03:04.123Z"],
  ["2026-11-25 02:03:04+00", "2026-11-25T02:03:04.000Z"],
  ["2026-11-25 02:03:04.1+05:30", "2026-11-24T20:33:04.100Z"],
  ["0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000Z"],
  ["9999-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999Z"],
  ["infinity", "9999-12-31T23:59:59.999Z"],
  ["-infinity", "0001-01-01T00:00:00.000Z"],
  ["10000-01-01 00:00:00+00", "9999-12-31T23:59:59.999Z"],
  ["290000-01-01 00:00:00+00", "9999-12-31T23:59:59.999Z"],
  ["0001-12-31 00:00:00+00 BC", "0001-01-01T00:00:00.000Z"],
  ["4713-01-01 00:00:00+00 BC", "0001-01-01T00:00:00.000Z"],
])("tells %s as %s, whatever the session writes", async (moment, iso) => {
  for (const settings of ["ISO, MDY/UTC", "German/Asia/Kathmandu", "SQL, DMY/America/St_Johns"]) {
    const [style, ...zone] = settings.split("/");
    const session = await db.connect();
    await session.query(`set datestyle = '${style}'; set timezone = '${zone.join("/")}'`);
    const { rows } = await session.query(`select ${momentText("$1::timestamptz")} as text`, [
      moment,
    ]);
    expect([settings, toIso(rows[0].text)]).toEqual([settings, iso]);
    await session.end();
  }
  const session = await db.connect();
  await session.query("set datestyle = 'ISO'; set timezone = 'UTC'");
  const { rows } = await session.query("select $1::timestamptz::text as text", [moment]);
  expect(toIso(rows[0].text)).toBe(iso);
  await session.end();
});
