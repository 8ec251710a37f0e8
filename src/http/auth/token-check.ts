import { createSecretKey, type KeyObject } from "node:crypto";
import type { Request, Response } from "express";
import { expressjwt, type Params } from "express-jwt";
import type { Algorithm, Jwt } from "jsonwebtoken";
import type { Logger } from "pino";
import { CLOCK_TOLERANCE_SECONDS } from "./caller.ts";
import { createJwks, type FindKey } from "./jwks.ts";
import { STREAM_AUDIENCE } from "./stream-token.ts";
import { MalformedTokenError } from "./token-source.ts";

export type JwtOptions = {
  /** For HS256, at least 32 bytes. */
  readonly secret?: string | undefined;
  /** For RS*, PS* and ES*: where the public keys are. */
  readonly jwksUrl?: string | undefined;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
};

/** Gives back what a token says, if it is signed as it must be, of its time and meant for us. */
export type CheckToken = (req: Request, res: Response, token: string) => Promise<unknown>;

type Header = { readonly alg: string; readonly kid: string | undefined };
type KeyFor = (header: Header) => Promise<KeyObject | undefined> | KeyObject | undefined;

/** jsonwebtoken knows no EdDSA. */
const ASYMMETRIC: readonly Algorithm[] = [
  ...(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] as const),
  ...(["ES256", "ES384", "ES512"] as const),
];

/** Of the tokens that somebody else signs. */
export function createUserTokenCheck(options: JwtOptions & { readonly log: Logger }): CheckToken {
  const { secret, jwksUrl, issuer, audience, log } = options;
  const secretKey = secret === undefined ? undefined : createSecretKey(Buffer.from(secret));
  const findKey: FindKey | undefined = jwksUrl ? createJwks({ url: jwksUrl, log }) : undefined;

  // The secret is for HS256 and a public key never is, or everybody could sign with it.
  function keyFor({ alg, kid }: Header) {
    if (alg === "HS256") return secretKey;
    return (ASYMMETRIC as readonly string[]).includes(alg) ? findKey?.(kid, alg) : undefined;
  }

  return createCheck(keyFor, {
    algorithms: [...(secretKey ? ["HS256" as const] : []), ...(findKey ? ASYMMETRIC : [])],
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  });
}

/** Of the stream tokens that we sign ourselves. */
export function createStreamTokenCheck(key: () => Promise<Buffer>): CheckToken {
  return createCheck(async () => createSecretKey(await key()), {
    algorithms: ["HS256"],
    audience: STREAM_AUDIENCE,
  });
}

function createCheck(
  keyFor: KeyFor,
  options: Pick<Params, "algorithms" | "audience" | "issuer">,
): CheckToken {
  const tokens = new WeakMap<object, string>();
  const middleware = expressjwt({
    ...options,
    clockTolerance: CLOCK_TOLERANCE_SECONDS,
    requestProperty: "jobcastClaims",
    getToken: (req) => tokens.get(req),
    // An async function, because what a plain one throws is a rejection that nobody hears.
    secret: async (_req, token) => keyFor(toHeader(token)),
  });
  return async (req, res, token) => {
    tokens.set(req, token);
    await new Promise<void>((resolve, reject) => {
      const next = (error?: unknown) => (error ? reject(error) : resolve());
      middleware(req, res, next).catch(reject);
    });
    // Undefined for an OPTIONS request, which express-jwt lets pass unseen.
    return (req as { jobcastClaims?: unknown }).jobcastClaims;
  };
}

/** The header comes from the token and can be any JSON, or nothing at all. */
function toHeader(token: Jwt | undefined): Header {
  const header: unknown = token?.header;
  if (typeof header !== "object" || header === null) throw new MalformedTokenError("no header");
  // [RFC 7515, 4.1.11] "crit" names extensions that must be understood, or the token is invalid.
  // We understand none, and jsonwebtoken does not look.
  if ("crit" in header) throw new MalformedTokenError("a critical extension");
  const { alg, kid }: { alg?: unknown; kid?: unknown } = header;
  if (typeof alg !== "string") throw new MalformedTokenError("no alg");
  if (kid !== undefined && typeof kid !== "string") throw new MalformedTokenError("kid is no text");
  return { alg, kid };
}
