import pg from "pg";
import { describe, expect, it } from "vitest";
import { toJobcastError } from "../../src/http/foreign-errors.ts";

function ofServer(code: string): pg.DatabaseError {
  const error = new pg.DatabaseError("words of the server", 1, "error");
  return Object.assign(error, { code, severity: "ERROR" });
}

describe("a database that is not what it was", () => {
  it.each([
    ["is gone", "3D000"],
    ["lets this role in no more", "28000"],
    ["has another password", "28P01"],
    ["has no schema", "3F000"],
    ["has no table", "42P01"],
    ["is a standby", "25006"],
    ["is full", "53300"],
    ["is starting", "57P03"],
    ["lets nobody in", "55000"],
    ["broke the connection", "08006"],
  ])("%s: 503, whoever asks again may be lucky", (_, code) => {
    expect(toJobcastError(ofServer(code)).code).toBe("database_unavailable");
  });

  it.each(["ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EMFILE", "ENFILE", "EADDRNOTAVAIL"])(
    "cannot be reached (%s)",
    (code) => {
      const error = Object.assign(new Error("words of the system"), { code });
      expect(toJobcastError(error).code).toBe("database_unavailable");
    },
  );

  it("is told from a mistake of ours", () => {
    expect(toJobcastError(ofServer("42703")).code).toBe("internal");
    expect(toJobcastError(new TypeError("x is not a function")).code).toBe("internal");
  });
});
