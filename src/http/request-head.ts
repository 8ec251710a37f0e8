import type { Request, RequestHandler } from "express";
import { JobcastError } from "../errors.ts";
import type { RouteTable } from "./route-table.ts";

/** A name, an IPv4 address or an IPv6 address in brackets, and a port. */
const HOST = /^([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?$/i;

/** Headers of a request; Node keeps no more, and nobody has so many. */
export const MAX_HEADERS = 100;

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

/** Answers every OPTIONS, so that none reaches a handler, and none needs a token. */
export function answerOptions(routes: RouteTable): RequestHandler {
  return (req, res, next) => {
    if (req.method === "OPTIONS") res.status(204).set("Allow", allowed(routes, req)).end();
    else next();
  };
}

/** Refuses what no route will take; before authentication, which it has nothing to do with. */
export function refuseUnknown(routes: RouteTable): RequestHandler {
  return (req, res, next) => {
    const methods = routes.methodsOf(req.path);
    if (methods.size === 0) throw new JobcastError("not_found", "There is nothing at this path.");
    if (!methods.has(req.method)) {
      res.set("Allow", allowed(routes, req));
      throw new JobcastError("method_not_allowed", `This path does not take ${req.method}.`);
    }
    next();
  };
}

/** Bytes of a body, as it was sent and after decompression. */
export const MAX_BODY = 1_048_576;

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

function allowed(routes: RouteTable, req: Request): string {
  const methods = routes.methodsOf(req.path);
  // Where no route is, static files may be.
  return [...(methods.size > 0 ? methods : ["GET", "HEAD"]), "OPTIONS"].join(", ");
}

function isDecodable(url: string): boolean {
  try {
    decodeURIComponent(url);
    return true;
  } catch {
    return false; // URIError is its only one
  }
}
