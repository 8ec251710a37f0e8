import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { calm, type EventLog } from "../src/calm-log.ts";
import { JobcastError } from "../src/errors.ts";

type Line = { level: string; details: { err?: unknown }; message: string };

let lines: Line[];
let log: EventLog;

beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  const at = (level: string) => (details: object, message: string) =>
    void lines.push({ level, details, message });
  log = calm({ info: at("info"), warn: at("warn"), error: at("error") });
});
afterEach(() => {
  vi.useRealTimers();
});

const REFUSED = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });

describe("a warning that comes again and again", () => {
  it("is written once, and how often it came when it is over", () => {
    for (let count = 0; count < 1_000; count += 1) {
      log.warn({ count }, "the database is away");
      vi.advanceTimersByTime(8);
    }
    vi.advanceTimersByTime(9_900);
    expect(lines).toEqual([
      { level: "warn", details: { count: 0 }, message: "the database is away" },
    ]);
    vi.advanceTimersByTime(200);
    expect(lines.slice(1)).toEqual([
      {
        level: "info",
        details: { times: 1_000, seconds: 8 },
        message: "no longer: the database is away",
      },
    ]);
    log.warn({}, "the database is away");
    expect(lines).toHaveLength(3);
  });

  it("is said again every ten minutes while it lasts", () => {
    for (let second = 0; second < 1_205; second += 5) {
      log.warn({}, "the database is away");
      vi.advanceTimersByTime(5_000);
    }
    expect(lines).toHaveLength(3);
  });

  it("needs no end when it came once, and hides no other and no error", () => {
    log.warn({}, "one thing");
    log.warn({}, "another");
    log.error({}, "a mistake");
    log.error({}, "a mistake");
    vi.advanceTimersByTime(60_000);
    expect(lines.map(({ message }) => message)).toEqual([
      ...["one thing", "another"],
      ...["a mistake", "a mistake"],
    ]);
  });
});

describe("the error of a warning", () => {
  it("is a reason without a stack when something out there is wrong", () => {
    const err = new JobcastError("database_unavailable", "It is away.", { cause: REFUSED });
    log.warn({ err }, "a request failed");
    expect(lines[0]?.details).toEqual({
      reason: "It is away. (database_unavailable): connect ECONNREFUSED",
    });
  });

  it("keeps it when the program is", () => {
    for (const err of [new TypeError("not a function"), new JobcastError("internal", "?")]) {
      log.warn({ err }, err.message);
      expect(lines.at(-1)?.details.err).toBe(err);
    }
  });
});
