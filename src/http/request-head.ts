import type { Request, RequestHandler } from "express";
import { JobcastError } from "../errors.ts";
import { MAX_BODY, MAX_HEADERS } from "./limits.ts";

/** A name, an IPv4 address or an IPv6 address in brackets, and a port. */
const HOST = /^([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?$/i;

/**
 * Refuses a Host and a URL that no part after this one could read: each would meet its own
 * exception, and answer with a 500 to what is the client's mistake.
 */
export const checkRequestHead: RequestHandler = (req, _res, next) => {
  if (req.rawHeaders.length >= 2 * MAX_HEADERS) {
    throw new JobcastError("invalid_request", `A request has fewer than ${MAX_HEADERS} headers.`);
  }
  const { host } = req.headers;
  if (host !== undefined && !HOST.test(host)) {
    throw new JobcastError("invalid_request", "The Host header is malformed.");
  }
  if (!isDecodable(req.url)) {
    throw new JobcastError("invalid_request", "The URL is not valid percent-encoded UTF-8.");
  }
  next();
};

/** Where no route is there is nothing, but for who asks what he may ask: static files may be there. */
export const refuseUnknown: RequestHandler = (req, res) => {
  if (req.method !== "OPTIONS") {
    throw new JobcastError("not_found", "There is nothing at this path.");
  }
  res.status(204).set("Allow", "GET, HEAD, OPTIONS").end();
};

/**
 * Refuses a body that says that it is too large, before it is read: the parser would first read it
 * to its end.
 */
export function checkBodySize({ headers }: Request, maxBytes: number = MAX_BODY): void {
  if (Number(headers["content-length"]) > maxBytes) throw tooLarge(maxBytes);
}

export function tooLarge(maxBytes: number): JobcastError {
  const limit = maxBytes === MAX_BODY ? "1 MiB" : `${maxBytes / 1_024} KiB`;
  return new JobcastError("payload_too_large", `The body of the request is larger than ${limit}.`);
}

/**
 * The same, and refuses a body that does not say that it is JSON, which a form of a foreign page
 * cannot: a browser would ask first, by a preflight.
 */
export const checkBodyHead: RequestHandler = (req, _res, next) => {
  checkBodySize(req);
  if (req.headers["content-length"] !== "0" && req.is("application/json") === false) {
    throw new JobcastError("unsupported_media_type", "The body must be application/json.");
  }
  next();
};

function isDecodable(url: string): boolean {
  try {
    decodeURIComponent(url);
    return true;
  } catch {
    return false; // URIError is its only one
  }
}
