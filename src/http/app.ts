import cors from "cors";
import express, { type Express, type RequestHandler } from "express";
import helmet from "helmet";
import type { EventLog } from "../calm-log.ts";
import type { Unsent } from "../stream/unsent.ts";
import { boundAnswers } from "./answers.ts";
import type { Operation } from "./operation.ts";
import type { HttpParts } from "./parts.ts";
import { oneAtATime } from "./pipeline.ts";
import { problemHandler } from "./problem.ts";
import { checkRequestHead, refuseUnknown } from "./request-head.ts";
import { nameRequest } from "./request-id.ts";
import { type ServeOptions, serveOperations } from "./serve.ts";

/** What browsers may keep of a preflight; Chrome caps it at this many seconds. */
const PREFLIGHT_MAX_AGE = 7_200;

const ALLOWED_HEADERS = [
  "Authorization",
  "Cache-Control", // some EventSource libraries send it
  "Content-Type",
  "Last-Event-ID",
  "Idempotency-Key",
  "X-Callback-Token",
  "X-Request-Id",
];

export type AppOptions = ServeOptions & {
  readonly log: EventLog;
  /** Exact origins whose pages may call with credentials. */
  readonly corsOrigins: readonly string[];
  /** The bytes that wait for clients. */
  readonly unsent: Unsent;
  /** Writes the request log. */
  readonly requestLog?: RequestHandler;
};

/** The HTTP side of jobcast; it listens to nothing. Whatever fails ends as a problem document. */
export function createApp(
  operations: readonly Operation[],
  parts: HttpParts,
  options: AppOptions,
): Express {
  const { log, corsOrigins, requestLog, unsent } = options;
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  // Express answers `If-None-Match: *` with a 304 even without an ETag, so nothing is ever fresh.
  Object.defineProperty(app.request, "fresh", { value: false });

  app.use(dropBodies, oneAtATime(), nameRequest);
  if (requestLog) app.use(requestLog);
  app.use(boundAnswers(unsent));
  app.use(protectBrowsers(), allowOrigins(corsOrigins), checkRequestHead);
  app.use(serveOperations(operations, parts, options));
  app.use(refuseUnknown, problemHandler(log));
  return app;
}

/** An API has nothing to show: where it is opened as a page, that page may load and do nothing. */
function protectBrowsers(): RequestHandler {
  const directives = { "default-src": ["'none'"], "frame-ancestors": ["'none'"] };
  return helmet({
    contentSecurityPolicy: { useDefaults: false, directives },
    // These are about a host, which may be somebody else's.
    strictTransportSecurity: false,
    originAgentCluster: false,
  });
}

function allowOrigins(origins: readonly string[]): RequestHandler {
  return cors({
    origin: [...origins],
    credentials: true,
    methods: ["GET", "HEAD", "POST", "PATCH", "DELETE"],
    allowedHeaders: ALLOWED_HEADERS,
    exposedHeaders: ["Retry-After", "Location", "X-Request-Id"],
    maxAge: PREFLIGHT_MAX_AGE,
    preflightContinue: true, // to the route
  });
}

/** A GET has no body; what is sent as one is read, or nobody would notice when its client goes. */
const dropBodies: RequestHandler = (req, _res, next) => {
  if (req.method === "GET" || req.method === "HEAD") req.resume();
  next();
};
