import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pickMembers } from "../../src/http/pick-members.ts";

describe("members that are picked out of JSON", () => {
  it("are written as they were, in their order", () => {
    const json =
      '{"a": 750727362669608961, "b": {"c": [1.10, "}]{,\\"\\\\"]}, "c":"x\\u0000", "d":null}';
    expect(pickMembers(json, new Set(["b", "a"]))).toBe(
      '{"a": 750727362669608961,"b": {"c": [1.10, "}]{,\\"\\\\"]}}',
    );
    expect(pickMembers(json, new Set(["d", "c"]))).toBe('{"c":"x\\u0000","d":null}');
    expect(pickMembers(json, new Set(["x"]))).toBe("{}");
    expect(pickMembers("{}", new Set(["a"]))).toBe("{}");
  });

  it("are those that an object has, whatever is in it", () => {
    const names = ["id", "status", "params", "links"];
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...names), fc.jsonValue({ maxDepth: 4 })),
        fc.subarray(names),
        fc.constantFrom(undefined, 2),
        (object, wanted, space) => {
          const picked = pickMembers(JSON.stringify(object, null, space), new Set(wanted));
          const expected = Object.entries(object).filter(([name]) => wanted.includes(name));
          expect(JSON.stringify(JSON.parse(picked))).toBe(
            JSON.stringify(Object.fromEntries(expected)),
          );
        },
      ),
      { seed: 7, numRuns: 300 },
    );
  });
});
