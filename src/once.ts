import { createHash } from "node:crypto";

/**
 * A request that counts once: said again by the same owner under the same key it gives back what the
 * first one made, and is refused when its hash tells that it is another one.
 */
export type Once = { readonly key: string; readonly hash: Buffer };

/** A text or a number of JSON; what is between quotes is no number. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** So many digits every double keeps. */
const EXACT_DIGITS = 15;

/** Below it doubles keep fewer. */
const SMALLEST_NORMAL = 2.2250738585072014e-308;

/**
 * @param request what it says, whatever the order of its keys
 * @param text as it came, with its numbers as they were written; "" where they were doubles before
 */
export function once(key: string, request: object, text = ""): Once {
  const hash = createHash("sha256").update(JSON.stringify(request, sortKeys));
  let hasInexact = false;
  const exact = text.replace(TOKENS, (token) => {
    if (token.startsWith('"') || isExact(token)) return token;
    hasInexact = true;
    return `"${token}"`;
  });
  if (hasInexact) hash.update(JSON.stringify(JSON.parse(exact), sortKeys));
  return { key, hash: hash.digest() };
}

/** Whether a double says what is written. */
function isExact(number: string): boolean {
  const [mantissa = ""] = number.split(/[eE]/);
  const digits = mantissa.replace(/[-.]/g, "").replace(/^0+|0+$/g, "");
  if (digits === "") return true;
  const value = Math.abs(Number(number));
  return digits.length <= EXACT_DIGITS && value >= SMALLEST_NORMAL && value < Infinity;
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
