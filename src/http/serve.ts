import express, {
  type ErrorRequestHandler,
  type IRoute,
  type Request,
  type RequestHandler,
  type Response,
  type Router,
} from "express";
import type { z } from "zod";
import { JobcastError } from "../errors.ts";
import { requireScope } from "./access.ts";
import { type Caller, callerIfKnown, callerOf } from "./auth/caller.ts";
import { TOKEN_PARAMETER } from "./auth/token-source.ts";
import { parseBodyJson } from "./body.ts";
import type { Call, Operation, Reply } from "./operation.ts";
import type { HttpParts } from "./parts.ts";
import type { LimitedKind, RateLimits } from "./rate-limits.ts";
import { checkBodyHead } from "./request-head.ts";
import { namesOnly, parseBody, parseId, parseQuery } from "./validate.ts";

export type ServeOptions = {
  /** Finds out who calls: by the header or the cookie; of streams, by the URL too. */
  readonly auth: Readonly<Record<"api" | "reads" | "streams", RequestHandler>>;
  /** What a request for events could not be given, its authentication included. */
  readonly streamErrors: ErrorRequestHandler;
  /** How often one may ask. Default: as often as he likes */
  readonly limits?: RateLimits | undefined;
};

/** The routes of all operations: each path with its methods, and an answer to every other one. */
export function serveOperations(
  operations: readonly Operation[],
  parts: HttpParts,
  options: ServeOptions,
): Router {
  const router = express.Router();
  for (const path of new Set(operations.map((operation) => operation.path))) {
    const ofPath = operations.filter((operation) => operation.path === path);
    const route = router.route(path.replaceAll(/\{(\w+)\}/g, ":$1"));
    const allowed = allowedBy(ofPath);
    route.options((_req, res) => {
      res.status(204).set("Allow", allowed).end();
    });
    for (const operation of ofPath) serve(route, operation, parts, options);
    route.all((req, res) => {
      res.set("Allow", allowed);
      throw new JobcastError("method_not_allowed", `This path does not take ${req.method}.`);
    });
  }
  return router;
}

const METHODS = ["get", "post", "patch", "delete"] as const;

function allowedBy(operations: readonly Operation[]): string {
  const methods = METHODS.filter((each) => operations.some(({ method }) => method === each));
  const names = methods.flatMap((each) =>
    each === "get" ? ["GET", "HEAD"] : [each.toUpperCase()],
  );
  return [...names, "OPTIONS"].join(", ");
}

function serve(
  route: IRoute,
  operation: Operation,
  parts: HttpParts,
  { auth, streamErrors, limits }: ServeOptions,
): void {
  const { access, method, reads } = operation;
  const known = reads && namesOnly([...Object.keys(reads.shape), TOKEN_PARAMETER]);
  const kind = limitedKind(operation);
  const handle: RequestHandler = async (req, res) => {
    if (kind) await limits?.take(kind, req, callerIfKnown(res)?.ownerId);
    if (typeof access !== "string" && access.scopes && access.ownersMay === undefined) {
      requireScope(callerOf(res), ...access.scopes);
    }
    if (known) parseQuery(known, req);
    const answer = await operation.handler(parts, createCall(operation, parts, req, res));
    if (answer) send(res, answer);
  };
  if (typeof access === "string") route[method](handle);
  else if (access.isStream) route[method](neverStore, auth.streams, handle, streamErrors);
  else route[method](neverStore, access.isWatched ? auth.reads : auth.api, checkBodyHead, handle);
}

/** Reading is bounded by the turns that callers take at the database. */
function limitedKind({ access, method }: Operation): LimitedKind | undefined {
  if (access === "provider") return "callback";
  if (typeof access === "string") return undefined;
  if (access.isStream) return "stream";
  return method === "get" ? undefined : "write";
}

/** Whatever is said here is said to one caller: no cache may say it to the next one. */
const neverStore: RequestHandler = (_req, res, next) => {
  res.set("Cache-Control", "no-store").vary("Authorization");
  next();
};

function createCall(
  { query, body }: Operation,
  { readBody, publicUrl }: HttpParts,
  req: Request,
  res: Response,
): Call<z.output<z.ZodObject>> {
  return {
    req,
    res,
    get caller(): Caller {
      return callerOf(res);
    },
    get id(): string {
      return parseId(req);
    },
    query: query ? parseQuery(query, req) : {},
    baseUrl: publicUrl ?? prefixOf(req),
    async body() {
      if (!body) throw new TypeError("this operation takes no body");
      const bytes = await readBody(req, res, callerOf(res).ownerId, { maxBytes: body.maxBytes });
      const json = parseBodyJson(bytes, req.get("content-type"));
      return { value: parseBody(body.schema, json), text: json.text };
    },
  };
}

/** Where it is mounted: Express says so; connect, and Fastify's middie, leave the URL as it came. */
function prefixOf({ baseUrl, originalUrl, url }: Request): string {
  if (baseUrl !== "" || !originalUrl.endsWith(url)) return baseUrl;
  return originalUrl.slice(0, originalUrl.length - url.length);
}

/** Sends what is JSON already. */
function send(res: Response, { json, status = 200, location }: Reply): void {
  if (location !== undefined) res.location(location);
  if (json === undefined) res.status(204).end();
  else res.status(status).type("json").send(json);
}
