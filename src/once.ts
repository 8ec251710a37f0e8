import { createHash } from "node:crypto";

/**
 * A request that counts once: said again by the same owner under the same key it gives back what the
 * first one made, and is refused when its hash tells that it is another one.
 */
export type Once = { readonly key: string; readonly hash: Buffer };

/** @param request what it says, whatever the order of its keys */
export function once(key: string, request: object): Once {
  return { key, hash: createHash("sha256").update(JSON.stringify(request, sortKeys)).digest() };
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
