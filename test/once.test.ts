import { describe, expect, it } from "vitest";
import { once } from "../src/once.ts";

const hashOf = (text: string) => once("key", JSON.parse(text), text).hash.toString("hex");

describe("what a request is known by", () => {
  it.each([
    ['{"a":1,"b":[true,null]}', '{ "b": [true, null], "a": 1 }'],
    ['{"a":1000000000000000001,"b":1}', '{"b":1,"a":1000000000000000001}'],
    ['{"a":1.50}', '{"a":1.5}'],
    ['{"a":0.0}', '{"a":0}'],
    ['{"a":"1000000000000000001"}', '{"a": "1000000000000000001"}'],
  ])("is the same for %s and %s", (one, other) => {
    expect(hashOf(one)).toBe(hashOf(other));
  });

  it.each([
    [
      '{"a":[1000000000000000001,1000000000000000002]}',
      '{"a":[1000000000000000002,1000000000000000001]}',
    ],
    [
      '{"a":1000000000000000001,"b":1000000000000000002}',
      '{"a":1000000000000000002,"b":1000000000000000001}',
    ],
    ['{"a":1e-400}', '{"a":1e-401}'],
    ['{"a":1e-324}', '{"a":0}'],
    ['{"a":1e400}', '{"a":1e401}'],
    ['{"a":1e-400}', '{"a":"1e-400"}'],
    ['{"a":"\\"1","b":1e-400}', '{"a":"\\"1","b":0}'],
  ])("is another one for %s and %s", (one, other) => {
    expect(hashOf(one)).not.toBe(hashOf(other));
  });
});
