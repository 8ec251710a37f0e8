import type { Request, RequestHandler } from "express";
import { errors } from "jose";
import { z } from "zod";
import type { EventLog } from "../../calm-log.ts";
import { JobcastError } from "../../errors.ts";
import { textSchema } from "../../protocol/json.ts";
import type { RateLimits } from "../rate-limits.ts";
import { type Caller, CLOCK_TOLERANCE_SECONDS, setCaller } from "./caller.ts";
import { isTrustedOrigin } from "./origin.ts";
import { claimsToBeStreamToken } from "./stream-token.ts";
import { checkStreamToken, createUserTokenCheck, type JwtOptions } from "./token-check.ts";
import { findToken, MalformedTokenError } from "./token-source.ts";

export type AuthOptions = {
  readonly jwt: JwtOptions;
  readonly streamTokenKey: StreamTokenKey;
  /** Where browsers find us; without it the origin is told by each request's Host. */
  readonly publicUrl?: string | undefined;
  /** Whose pages may use the cookie beside our own. */
  readonly corsOrigins: readonly string[];
  readonly log: EventLog;
  /** How many bad tokens an address may send. Default: any number */
  readonly limits?: RateLimits | undefined;
};

/** The key of stream tokens, from the database. */
export type StreamTokenKey = {
  read(): Promise<Buffer>;
  /** False once somebody has taken that one away: its tokens are void, and their streams end. */
  isCurrent(key: Buffer): boolean;
};

type Kind = "api" | "reads" | "streams";

const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** The last moment that a Date can hold; a token may be valid for longer. */
const END_OF_TIME_MS = 8.64e15;

const claimsSchema = z.object({
  sub: textSchema(255).min(1),
  exp: z.number(),
  scope: z.string().optional(),
});

const streamClaimsSchema = claimsSchema.extend({
  jobs: z.array(z.string()).optional(),
  batchId: z.string().optional(),
  jti: z.string().optional(),
});

/**
 * Finds out who calls, or refuses: 401 unauthenticated, 403 origin_not_allowed for a cookie sent by
 * another site's page, 503 keys_unavailable. Why a token was refused
 * stands in the log, and in the answer where `explainRefusals` says so.
 *
 * `api` takes the Authorization header or the cookie, and refuses stream tokens with 403
 * insufficient_scope; `reads` takes those too, and `streams` also from `?access_token=`.
 */
export function createAuth(options: AuthOptions): Record<Kind, RequestHandler> {
  const checkUserToken = createUserTokenCheck({ ...options.jwt, log: options.log });
  const { streamTokenKey } = options;

  async function authenticate(req: Request, kind: Kind): Promise<Caller | undefined> {
    const found = findToken(req, { query: kind === "streams" });
    if (!found) return undefined;
    const { token, from } = found;
    const isHarmless = kind !== "streams" && SAFE_METHODS.has(req.method);
    if (from === "cookie" && !isHarmless && !isTrustedOrigin(req, options)) {
      throw new JobcastError("origin_not_allowed", "Pages of this origin may not use the cookie.");
    }
    if (!claimsToBeStreamToken(token)) {
      return toCaller(claimsSchema.parse(await checkUserToken(token)), undefined);
    }
    const key = await streamTokenKey.read();
    const claims = streamClaimsSchema.parse(await checkStreamToken(token, key));
    if (kind !== "api") return toCaller(claims, () => !streamTokenKey.isCurrent(key));
    throw new JobcastError("insufficient_scope", "A stream token can do nothing but watch.");
  }

  /** For strangers every refusal looks the same: the difference would help to forge the next token. */
  function unauthenticated(reason: string): JobcastError {
    const why = options.jwt.explainRefusals ? `: ${reason}` : "";
    return new JobcastError("unauthenticated", `The request has no valid token${why}.`);
  }

  function createHandler(kind: Kind): RequestHandler {
    return async (req, res, next) => {
      try {
        await options.limits?.assertWelcome(req);
        const caller = await authenticate(req, kind);
        if (caller) setCaller(res, caller);
        else return next(unauthenticated("none came"));
      } catch (error) {
        const reason = refusal(error);
        if (reason === undefined) return next(error);
        await options.limits?.countRefusal(req);
        (req.log ?? options.log).info({ reason }, "token refused");
        // [RFC 6750, 3.1] The error code is for a token that is no good, not for one that is missing.
        res.set("WWW-Authenticate", 'Bearer error="invalid_token"');
        return next(unauthenticated(reason));
      }
      next();
    };
  }

  return {
    api: createHandler("api"),
    reads: createHandler("reads"),
    streams: createHandler("streams"),
  };
}

function toCaller(
  { sub, exp, scope, jobs, batchId, jti }: z.infer<typeof streamClaimsSchema>,
  isRevoked: (() => boolean) | undefined,
): Caller {
  const subscribeOnly = isRevoked !== undefined;
  return {
    ownerId: sub,
    scopes: new Set(scope?.split(" ").filter(Boolean)),
    subscribeOnly,
    viewer: subscribeOnly && jti !== undefined ? `token ${jti}` : undefined,
    jobs: jobs && new Set(jobs),
    batchId,
    isRevoked,
    // Whole seconds, upwards: the very rule by which a token is refused from then on.
    expiresAt: Math.min(Math.ceil(exp + CLOCK_TOLERANCE_SECONDS) * 1000, END_OF_TIME_MS),
  };
}

/** For the log, why a token is no good; undefined when something else went wrong. */
function refusal(error: unknown): string | undefined {
  if (error instanceof MalformedTokenError) return error.message;
  if (error instanceof z.ZodError) {
    return error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  }
  return error instanceof errors.JOSEError ? error.message : undefined;
}
