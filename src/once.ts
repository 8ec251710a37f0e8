import { createHash } from "node:crypto";

/**
 * A request that counts once: said again by the same owner under the same key it gives back what the
 * first one made, and is refused when its hash tells that it is another one.
 */
export type Once = { readonly key: string; readonly hash: Buffer };

/** What may be a number that no double holds. */
const LONG_NUMBERS = /\d[\d.eE+-]{15,}/g;

/**
 * @param request what it says, whatever the order of its keys
 * @param text as it came, with its numbers as they were written; "" where they were doubles before
 */
export function once(key: string, request: object, text = ""): Once {
  const hash = createHash("sha256").update(JSON.stringify(request, sortKeys));
  const numbers = text.match(LONG_NUMBERS) ?? [];
  if (numbers.length > 0) hash.update(numbers.sort().join(" "));
  return { key, hash: hash.digest() };
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
