import type { Request } from "express";
import { JobcastError } from "../errors.ts";
import { type Once, once } from "../once.ts";

/**
 * What makes this request count once, if it has an Idempotency-Key: 1 to 255 visible ASCII
 * characters, with or without the quotes of a structured field.
 * @see https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header
 * @throws {JobcastError} invalid_request
 */
export function onceOf(req: Request, request: object, text: string): Once | undefined {
  const header = req.get("idempotency-key");
  if (header === undefined) return undefined;
  const isQuoted = header.length > 1 && header.startsWith('"') && header.endsWith('"');
  const key = isQuoted ? header.slice(1, -1) : header;
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return once(key, request, text);
  throw new JobcastError("invalid_request", "The Idempotency-Key is not valid.", {
    fields: [
      { path: "header.idempotency-key", message: "must be 1 to 255 visible ASCII characters" },
    ],
  });
}
