import { createHash } from "node:crypto";

/** Tells whether two requests under one idempotency key are the same, whatever the order of their keys. */
export function requestHash(request: object): Buffer {
  return createHash("sha256").update(JSON.stringify(request, sortKeys)).digest();
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
