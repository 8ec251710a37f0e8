import express, { type Request, type Response } from "express";
import { JobcastError } from "../errors.ts";
import { digitsOfExponents } from "../protocol/json.ts";
import type { BodyPlaces } from "./body-places.ts";
import { MAX_BODY } from "./limits.ts";
import { checkBodySize, tooLarge } from "./request-head.ts";

/** A body of JSON, as what it says and as the text that said it, in which no number was rounded. */
export type JsonBody = { readonly value: unknown; readonly text: string };

/**
 * @param owner whose part of the room it takes
 * @param options.maxBytes above which it is refused. Default: 1 MiB, which no body may have more than
 * @param options.withinMs how long it may take to come. Default: 30 s
 */
export type ReadBody = (
  req: Request,
  res: Response,
  owner: string,
  options?: { readonly maxBytes?: number | undefined; readonly withinMs?: number },
) => Promise<Buffer>;

/** Of a body that says a word or two: a megabyte of keys that nobody knows costs to be refused. */
export const SMALL_BODY = 64 * 1_024;

/** Digits that the exponents of a body may stand for. */
const MAX_DIGITS = 16 * MAX_BODY;

const raw = express.raw({ type: () => true, limit: MAX_BODY });

/** How long a client may take to send a body. */
const BODY_MS = 30_000;

/**
 * Reads bodies, of which no more are here at a time than there is room for: they lie in memory until
 * their requests are answered.
 */
export function createBodyReader(places: BodyPlaces): ReadBody {
  return async (req, res, owner, { maxBytes = MAX_BODY, withinMs = BODY_MS } = {}) => {
    checkBodySize(req, maxBytes);
    await places.take(req, res, owner, maxBytes);
    const bytes = await readRaw(req, res, withinMs);
    if (bytes.length > maxBytes) throw tooLarge(maxBytes);
    return bytes;
  };
}

/** The bytes as they came: a signature is of them, and not of what a parser made of them. */
async function readRaw(req: Request, res: Response, withinMs: number): Promise<Buffer> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve, reject) => {
    timer = setTimeout(() => {
      // The rest of it may still come, and would be taken for the next request.
      res.set("Connection", "close");
      reject(new JobcastError("request_timeout", "The body did not come in time."));
    }, withinMs);
    raw(req, res, (error) => (error === undefined ? resolve() : reject(error)));
  }).finally(() => clearTimeout(timer));
  return givenBytes(req);
}

/**
 * What we have read, or what a parser of the application around us has: the bytes if it kept them,
 * else what it understood, whose numbers are doubles by then and whose signature may not hold.
 */
function givenBytes({ body, rawBody }: { body?: unknown; rawBody?: unknown }): Buffer {
  for (const bytes of [body, rawBody]) if (Buffer.isBuffer(bytes)) return bytes;
  if (body === undefined || body === null) return Buffer.alloc(0);
  return Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
}

/** No body says nothing, which is `undefined`. @throws {JobcastError} invalid_json */
export function parseBodyJson(bytes: Buffer, contentType: string | undefined): JsonBody {
  if (bytes.length === 0) return { value: undefined, text: "{}" };
  checkCharset(contentType);
  return parseJson(bytes);
}

/** @throws {JobcastError} invalid_json, also for what is not UTF-8; payload_too_large */
export function parseJson(bytes: Buffer): JsonBody {
  const body = readJson(bytes);
  if (digitsOfExponents(body.text) <= MAX_DIGITS) return body;
  const message = "The numbers of the body are too long when they are written without exponents.";
  throw new JobcastError("payload_too_large", message);
}

function readJson(bytes: Buffer): JsonBody {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { value: JSON.parse(text), text };
  } catch (cause) {
    throw notJson(cause);
  }
}

/** [RFC 8259, 8.1] JSON is in UTF-8, whatever else its type may be said to have. */
function checkCharset(contentType = ""): void {
  const [, charset = "utf-8"] = /;\s*charset\s*=\s*"?([^\s;"]{1,40})/i.exec(contentType) ?? [];
  if (/^utf-?8$/i.test(charset)) return;
  if (/^utf-?(7|16|32)/i.test(charset)) throw notJson(`a charset of ${charset}`);
  throw new JobcastError("unsupported_media_type", "The body of the request must be UTF-8.");
}

function notJson(cause: unknown): JobcastError {
  return new JobcastError("invalid_json", "The body of the request is not JSON.", { cause });
}
