import { createSecretKey, type KeyObject } from "node:crypto";
import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import type { EventLog } from "../../calm-log.ts";
import { CLOCK_TOLERANCE_SECONDS } from "./caller.ts";
import { createJwks } from "./jwks.ts";
import { STREAM_AUDIENCE } from "./stream-token.ts";
import { MalformedTokenError } from "./token-source.ts";

export type JwtOptions = {
  /** For HS256, at least 32 bytes. */
  readonly secret?: string | undefined;
  /** The one before it, while tokens that it signed are about. */
  readonly previousSecret?: string | undefined;
  /** For RS*, PS*, ES* and EdDSA: where the public keys are. */
  readonly jwksUrl?: string | undefined;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  /** Whether a 401 says why. */
  readonly explainRefusals?: boolean | undefined;
};

/**
 * Gives back what a token says, if it is signed as it must be, of its time and meant for us.
 * @throws MalformedTokenError and jose's errors for one that is no good
 */
export type CheckToken = (token: string) => Promise<JWTPayload>;

type Header = { readonly alg: string; readonly kid: string | undefined };

/**
 * [RFC 8725, 3.11] What kind of token it is, where it says so: an access token. One that somebody
 * gets for another purpose (a logout, a proof of possession) opens nothing here.
 */
const ACCESS_TOKEN = /^(application\/)?(at\+)?jwt$/i;

/** Of the tokens that somebody else signs. */
export function createUserTokenCheck(options: JwtOptions & { readonly log: EventLog }): CheckToken {
  const { secret, previousSecret, jwksUrl, issuer, audience, log } = options;
  const secrets = [secret, previousSecret].flatMap((each) =>
    each === undefined ? [] : [createSecretKey(Buffer.from(each))],
  );
  const findKey = jwksUrl === undefined ? undefined : createJwks({ url: jwksUrl, log });
  const claims = {
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };

  // The secret is for HS256 and a public key never is, or everybody could sign with it.
  async function keysFor({ alg, kid }: Header): Promise<readonly KeyObject[]> {
    if (alg === "HS256") return secrets;
    const key = await findKey?.(kid, alg);
    return key ? [key] : [];
  }

  return async (token) => {
    const header = readHeader(token);
    return verify(token, header, await keysFor(header), claims);
  };
}

/** Made once for each key: jose keeps what it makes of one. */
const streamKeys = new WeakMap<Buffer, KeyObject>();

/** Of a stream token that we signed ourselves. */
export async function checkStreamToken(token: string, key: Buffer): Promise<JWTPayload> {
  const header = readHeader(token);
  const secretKey = streamKeys.get(key) ?? createSecretKey(key);
  streamKeys.set(key, secretKey);
  const keys = header.alg === "HS256" ? [secretKey] : [];
  return verify(token, header, keys, { audience: STREAM_AUDIENCE });
}

/** With the first of the keys that fits. */
async function verify(
  token: string,
  { alg }: Header,
  keys: readonly KeyObject[],
  claims: { issuer?: string; audience?: string },
): Promise<JWTPayload> {
  const options = { ...claims, algorithms: [alg], clockTolerance: CLOCK_TOLERANCE_SECONDS };
  let refusal: unknown = new MalformedTokenError("no key for it");
  for (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      refusal = error;
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) break;
    }
  }
  throw refusal;
}

/** The header comes from the token and can be any JSON, or nothing at all. */
function readHeader(token: string): Header {
  const { alg, kid, typ } = decodeHeader(token);
  if (typeof alg !== "string") throw new MalformedTokenError("no alg");
  if (kid !== undefined && typeof kid !== "string") throw new MalformedTokenError("kid is no text");
  if (typ !== undefined && !(typeof typ === "string" && ACCESS_TOKEN.test(typ))) {
    throw new MalformedTokenError("typ is of another kind of token");
  }
  return { alg, kid };
}

function decodeHeader(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token);
  } catch (cause) {
    // Its message may quote what could not be parsed, which is a part of the token: it is not logged.
    throw new MalformedTokenError("no header", { cause });
  }
}
