import { describe, expect, it } from "vitest";
import { z } from "zod";
import { keysAt, meantBy } from "../../src/http/did-you-mean.ts";

const KEYS = ["type", "title", "ownerId", "idempotencyKey", "timeoutSeconds", "params"];

describe("who writes a key that is not known", () => {
  it.each([
    ["owner_id", "ownerId"],
    ["OWNERID", "ownerId"],
    ["ownerID", "ownerId"],
    ["onwerId", "ownerId"],
    ["titel", "title"],
    ["tittle", "title"],
    ["idempotency-key", "idempotencyKey"],
    ["parameters", undefined],
    ["param", "params"],
    ["__proto__", undefined],
    ["", undefined],
  ])("by %s may have meant %s", (key, meant) => {
    expect(meantBy(key, KEYS)).toBe(meant);
  });
});

describe("the keys that a schema knows", () => {
  const inner = z.strictObject({ id: z.string() });
  const schema = z
    .strictObject({
      updates: z.array(inner).optional(),
      either: z.union([inner, z.strictObject({ name: z.string().nullable() })]).default({ id: "" }),
    })
    .transform((value) => value);

  it.each([
    [[], ["updates", "either"]],
    [["updates", 0], ["id"]],
    [["either"], ["id", "name"]],
    [["updates", 0, "id"], []],
    [["nowhere", "at", "all"], []],
  ])("are found at %j", (path, keys) => {
    expect(keysAt(schema, path)).toEqual(keys);
  });
});
