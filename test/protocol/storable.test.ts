import fc from "fast-check";
import { expect, it } from "vitest";
import { isStorable, toStorable } from "../../src/protocol/storable.ts";

/** Any text, with the characters that PostgreSQL cannot keep among others. */
const text = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary", maxLength: 3 }),
      fc.constantFrom(
        "\u0000",
        "\ud800",
        "\udbff",
        "\udc00",
        "\udfff",
        "\ud83e\uded6",
        "\\",
        "\\u0000",
        '"',
      ),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));

const mended = (value: string) => value.toWellFormed().replaceAll("\u0000", "\ufffd");

it("replaces what cannot be kept, and that alone", () => {
  fc.assert(
    fc.property(text, text, (key, value) => {
      // [JSON.stringify] writes NUL and single surrogates as escapes, which is how they come.
      const json = toStorable(JSON.stringify({ [key]: [value, key] }));
      expect(JSON.parse(json)).toEqual({ [mended(key)]: [mended(value), mended(key)] });
      expect(isStorable(JSON.stringify(JSON.parse(json)))).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});

it("gives back the text itself where there is nothing to replace", () => {
  const json = '{"a":"\\u0041\\\\u0000 \\ud83e\\uded6","b":[1.10,1e400]}';
  expect(toStorable(json)).toBe(json);
});

it("takes escapes in capital letters too", () => {
  expect(JSON.parse(toStorable('"\\uD800\\uDc00 \\uDFFF \\u0000"'))).toBe(
    "\ud800\udc00 \ufffd \ufffd",
  );
});
