import cors from "cors";
import express, {
  type ErrorRequestHandler,
  type Express,
  type RequestHandler,
  type Router,
} from "express";
import helmet from "helmet";
import type { Logger } from "pino";
import type { Unsent } from "../stream/unsent.ts";
import { boundAnswers } from "./answers.ts";
import { oneAtATime } from "./pipeline.ts";
import { problemHandler } from "./problem.ts";
import { answerOptions, checkBodyHead, checkRequestHead, refuseUnknown } from "./request-head.ts";
import { createRouteTable, type RouteTable } from "./route-table.ts";

/** What browsers may keep of a preflight; Chrome caps it at this many seconds. */
const PREFLIGHT_MAX_AGE = 7_200;

const ALLOWED_HEADERS = [
  "Authorization",
  "Cache-Control", // some EventSource libraries send it
  "Content-Type",
  "Last-Event-ID",
  "Idempotency-Key",
  "X-Callback-Token",
];

export type AppParts = {
  readonly log: Logger;
  /** Exact origins whose pages may call with credentials. */
  readonly corsOrigins: readonly string[];
  readonly auth: { readonly api: RequestHandler; readonly streams: RequestHandler };
  /** Routers with full paths. What is in `open` needs no token, and may be more than routes. */
  readonly routers: {
    readonly open: readonly Router[];
    readonly streams: readonly Router[];
    readonly api: readonly Router[];
  };
  /** What the routers for streams, and the authentication before them, could not do. */
  readonly streamErrors: ErrorRequestHandler;
  /** The bytes that wait for clients. */
  readonly unsent: Unsent;
  /** Writes the request log. */
  readonly requestLog?: RequestHandler;
};

/** The HTTP side of jobcast; it listens to nothing. Whatever fails ends as a problem document. */
export function createApp(parts: AppParts): Express {
  const { log, corsOrigins, auth, routers, requestLog, unsent } = parts;
  const streams = createRouteTable(routers.streams);
  const all = createRouteTable([...routers.open, ...routers.streams, ...routers.api]);

  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  // Express answers `If-None-Match: *` with a 304 even without an ETag, so nothing is ever fresh.
  Object.defineProperty(app.request, "fresh", { value: false });

  app.use(dropBodies, oneAtATime());
  if (requestLog) app.use(requestLog);
  app.use(boundAnswers(unsent));
  app.use(protectBrowsers(), allowOrigins(corsOrigins), checkRequestHead, answerOptions(all));
  for (const router of routers.open) app.use(router);
  app.use(refuseUnknown(all), neverStore, onlyFor(streams, auth.streams));
  for (const router of routers.streams) app.use(router);
  app.use(errorsOf(streams, parts.streamErrors));
  app.use(auth.api, checkBodyHead);
  for (const router of routers.api) app.use(router);
  app.use(problemHandler(log));
  return app;
}

/** An API has nothing to show: where it is opened as a page, that page may load and do nothing. */
function protectBrowsers(): RequestHandler {
  const directives = { "default-src": ["'none'"], "frame-ancestors": ["'none'"] };
  return helmet({ contentSecurityPolicy: { useDefaults: false, directives } });
}

function allowOrigins(origins: readonly string[]): RequestHandler {
  return cors({
    origin: [...origins],
    credentials: true,
    methods: ["GET", "HEAD", "POST", "PATCH"],
    allowedHeaders: ALLOWED_HEADERS,
    exposedHeaders: ["Retry-After", "Location"],
    maxAge: PREFLIGHT_MAX_AGE,
    preflightContinue: true, // to answerOptions
  });
}

/** Whatever is said here is said to one caller: no cache may say it to the next one. */
const neverStore: RequestHandler = (_req, res, next) => {
  res.set("Cache-Control", "no-store").vary("Authorization");
  next();
};

function errorsOf(routes: RouteTable, handler: ErrorRequestHandler): ErrorRequestHandler {
  return (error, req, res, next) => {
    if (routes.methodsOf(req.path).size > 0) return handler(error, req, res, next);
    next(error);
  };
}

/** A GET has no body; what is sent as one is read, or nobody would notice when its client goes. */
const dropBodies: RequestHandler = (req, _res, next) => {
  if (req.method === "GET" || req.method === "HEAD") req.resume();
  next();
};

function onlyFor(routes: RouteTable, handler: RequestHandler): RequestHandler {
  return (req, res, next) => {
    if (routes.methodsOf(req.path).size > 0) return handler(req, res, next);
    next();
  };
}
