import type { Request } from "express";
import { JobcastError } from "../errors.ts";

/**
 * The Idempotency-Key of a request, if it has one: 1 to 255 visible ASCII characters, with or
 * without the quotes of a structured field.
 * @see https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header
 * @throws {JobcastError} invalid_request
 */
export function idempotencyKeyOf(req: Request): string | undefined {
  const header = req.get("idempotency-key");
  if (header === undefined) return undefined;
  const key = header.replace(/^"(.*)"$/, "$1");
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new JobcastError("invalid_request", "The Idempotency-Key is not valid.", {
    fields: [
      { path: "header.idempotency-key", message: "must be 1 to 255 visible ASCII characters" },
    ],
  });
}
