import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatCursor, POLL_LENGTH, parseCursor } from "../../src/change/cursor.ts";
import {
  formatSnapshot,
  hasPassed,
  isVisibleIn,
  parseSnapshot,
  type Snapshot,
} from "../../src/change/snapshot.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.drop());

const EPOCH = "1z141z3";

/** As PostgreSQL gives them: xmin is the lowest that is in progress, or else xmax. */
function snapshots(maxInProgress: number): fc.Arbitrary<Snapshot> {
  const offsets = fc.uniqueArray(fc.integer({ min: 0, max: 50_000 }), { maxLength: maxInProgress });
  return fc
    .tuple(fc.integer({ min: 3, max: 2 ** 48 }), offsets, fc.integer({ min: 1, max: 1_000 }))
    .map(([from, unsorted, ahead]) => {
      const xip = unsorted.sort((a, b) => a - b).map((offset) => from + offset);
      const xmin = xip[0] ?? from;
      return { xmin, xmax: xip.length > 0 ? (xip.at(-1) ?? 0) + ahead : xmin, xip };
    })
    .filter(({ xmin, xmax, xip }) => [xmin, xmax, ...xip].every(isGivenOut));
}

/** Of 2^32 ids in a row PostgreSQL leaves the first three out, and takes no snapshot that has the first. */
function isGivenOut(xid: number): boolean {
  return xid % 2 ** 32 >= 3;
}

describe("a cursor", () => {
  it("says exactly the snapshot, when that fits into 64 bytes", () => {
    fc.assert(
      fc.property(snapshots(6), (snapshot) => {
        expect(parseCursor(EPOCH, formatCursor(EPOCH, snapshot))).toEqual(snapshot);
      }),
    );
  });

  it.each([
    ["its xmin", "1z141z4.1"],
    ["its xmax", "1z141z3.1"],
  ])("means nothing when %s is an id that PostgreSQL never gives out", (_, snapshot) => {
    // Anybody can write one, and PostgreSQL refuses the snapshot.
    const [xmin = 0, width = 0] = snapshot.split(".").map((part) => Number.parseInt(part, 36));
    expect([xmin, xmin + width].some((xid) => xid % 2 ** 32 === 0)).toBe(true);
    expect(parseCursor(EPOCH, `${EPOCH}-${snapshot}`)).toBeUndefined();
  });

  it("is an id that costs no preflight, whatever is in flight", () => {
    fc.assert(
      fc.property(snapshots(500), (snapshot) => {
        expect(formatCursor(EPOCH, snapshot)).toMatch(/^[0-9a-z.-]{1,64}$/);
      }),
    );
  });

  it("that would be too long sees less than the snapshot, and never more", () => {
    fc.assert(
      fc.property(snapshots(500), fc.array(fc.nat(60_000)), (snapshot, offsets) => {
        const cursor = parseCursor(EPOCH, formatCursor(EPOCH, snapshot));
        if (!cursor) throw new Error("it did not parse");
        const xids = [snapshot.xmin, snapshot.xmax, ...snapshot.xip];
        for (const xid of [...xids, ...offsets.map((offset) => snapshot.xmin + offset)]) {
          if (isVisibleIn(cursor, xid)) expect(isVisibleIn(snapshot, xid)).toBe(true);
        }
      }),
    );
  });

  it("keeps as many transactions in flight as fit, and has not seen what began with the next", () => {
    const xmin = 1_000_000;
    const inFlight = (count: number): Snapshot => ({
      xmin,
      xmax: xmin + 40,
      xip: Array.from({ length: count }, (_, index) => xmin + index),
    });
    const fits = Array.from({ length: 60 }, (_, count) => count).filter(
      (count) => parseCursor(EPOCH, formatCursor(EPOCH, inFlight(count)))?.xip.length === count,
    );
    const most = Math.max(...fits);
    expect(most).toBeGreaterThan(20);
    expect(formatCursor(EPOCH, inFlight(most)).length).toBeLessThanOrEqual(64);
    for (const count of [most + 1, most + 2, 40]) {
      const { xip } = inFlight(count);
      expect(parseCursor(EPOCH, formatCursor(EPOCH, inFlight(count)))).toEqual({
        xmin,
        xmax: xip[most],
        xip: xip.slice(0, most),
      });
    }
  });

  it("of one long transaction among many short ones forgets the short ones alone", () => {
    const xip = [1_000, ...Array.from({ length: 60 }, (_, index) => 900_000 + index * 2)];
    const snapshot: Snapshot = { xmin: 1_000, xmax: 900_200, xip };
    const cursor = parseCursor(EPOCH, formatCursor(EPOCH, snapshot));
    expect(cursor?.xmax).toBeGreaterThan(900_020);
    expect(cursor?.xip[0]).toBe(1_000);
  });

  it("of a long poll holds a thousand of them", () => {
    const xip = Array.from({ length: 1_000 }, (_, index) => 5_000_000 + index * 3);
    const snapshot: Snapshot = { xmin: 5_000_000, xmax: 5_004_000, xip };
    const cursor = formatCursor(EPOCH, snapshot, POLL_LENGTH);
    expect(cursor.length).toBeLessThanOrEqual(POLL_LENGTH);
    expect(parseCursor(EPOCH, cursor)).toEqual(snapshot);
  });

  it("of another database means nothing", () => {
    const cursor = formatCursor(EPOCH, { xmin: 5, xmax: 5, xip: [] });
    expect(parseCursor("1z141z4", cursor)).toBeUndefined();
    expect(parseCursor(EPOCH, cursor)).toBeDefined();
  });

  it.each([
    ["nothing", ""],
    ["a version", "7"],
    ["an epoch alone", EPOCH],
    ["no xmax", `${EPOCH}-5`],
    ["capital letters", `${EPOCH}-A.1`],
    ["a sign", `${EPOCH}--5.1`],
    ["a part that is missing", `${EPOCH}-5..1`],
    ["two dashes", `${EPOCH}-5.1-5.1`],
    ["a transaction that PostgreSQL never gives", `${EPOCH}-0.5`],
    ["in progress, but not begun", `${EPOCH}-a.3.0.3`],
    ["in progress twice", `${EPOCH}-a.9.3.0`],
    ["above every transaction", `${EPOCH}-${"z".repeat(20)}.1`],
    ["a line end", `${EPOCH}-5.1\n`],
    ["more than a URL should hold", `${EPOCH}-1.${"0".repeat(2_040)}`],
  ])("with %s is none", (_, text) => {
    expect(parseCursor(EPOCH, text)).toBeUndefined();
  });

  it("that was made up is one that PostgreSQL can read, or none", async () => {
    const part = fc.oneof(fc.nat(40), fc.nat(), fc.constant(Number.MAX_SAFE_INTEGER));
    const forged = fc
      .array(part, { minLength: 2, maxLength: 6 })
      .map((parts) => `${EPOCH}-${parts.map((value) => value.toString(36)).join(".")}`);
    const read = fc
      .sample(forged, 3_000)
      .flatMap((text) => parseCursor(EPOCH, text) ?? [])
      .map(formatSnapshot);
    expect(read.length).toBeGreaterThan(100);
    const rows = await db.query<{ snapshot: string }>(
      "select s::pg_snapshot::text as snapshot from unnest($1::text[]) s",
      [read],
    );
    expect(rows.map(({ snapshot }) => snapshot)).toEqual(read);
  });
});

describe("a snapshot", () => {
  it("reads and writes PostgreSQL's own text", () => {
    fc.assert(
      fc.property(snapshots(20), (snapshot) => {
        expect(parseSnapshot(formatSnapshot(snapshot))).toEqual(snapshot);
      }),
    );
    expect(parseSnapshot("10:20:10,14,15")).toEqual({ xmin: 10, xmax: 20, xip: [10, 14, 15] });
    expect(parseSnapshot("10:10:")).toEqual({ xmin: 10, xmax: 10, xip: [] });
  });

  it("sees what pg_visible_in_snapshot sees", async () => {
    const cases = fc.sample(
      fc.tuple(snapshots(60), fc.array(fc.integer({ min: -5, max: 60_000 }))),
      200,
    );
    const questions = cases.flatMap(([snapshot, offsets]) =>
      [
        0,
        snapshot.xmax - snapshot.xmin,
        ...snapshot.xip.map((xid) => xid - snapshot.xmin),
        ...offsets,
      ]
        .map((offset) => Math.max(1, snapshot.xmin + offset))
        .map((xid) => ({ snapshot, xid })),
    );
    const rows = await db.query<{ visible: boolean }>(
      `select pg_visible_in_snapshot(xid::xid8, snapshot::pg_snapshot) as visible
       from unnest($1::text[], $2::text[]) with ordinality as q (xid, snapshot, n) order by n`,
      [
        questions.map(({ xid }) => String(xid)),
        questions.map(({ snapshot }) => formatSnapshot(snapshot)),
      ],
    );
    const answers = questions.map(({ snapshot, xid }) => isVisibleIn(snapshot, xid));
    expect(answers).toEqual(rows.map(({ visible }) => visible));
    expect(new Set(answers)).toEqual(new Set([true, false]));
  });

  it("has passed another when everything that the other missed has ended", () => {
    fc.assert(
      fc.property(
        snapshots(10),
        snapshots(10),
        fc.array(fc.nat(60_000)),
        (later, earlier, xids) => {
          fc.pre(hasPassed(later, earlier));
          for (const xid of [
            ...earlier.xip,
            earlier.xmax - 1,
            ...xids.map((n) => earlier.xmin + n),
          ]) {
            if (xid < earlier.xmax) expect(isVisibleIn(later, xid)).toBe(true);
          }
        },
      ),
    );
  });
});
