import { createSecretKey, randomUUID } from "node:crypto";
import { decodeProtectedHeader, SignJWT } from "jose";

/** The `kid` of our own tokens. A token that has it is checked with our own key and no other. */
const KEY_ID = "jobcast";

/** So that no token that the key may sign for another purpose opens a stream. */
export const STREAM_AUDIENCE = "jobcast:streams";

/** What a stream token says. */
export type StreamGrant = {
  readonly ownerId: string;
  /** Left out: all jobs of the owner. */
  readonly jobs?: readonly string[] | undefined;
  /** Left out: see `jobs`. */
  readonly batchId?: string | undefined;
  /** What lets the owner see the jobs that are named and somebody else's. */
  readonly scope?: "jobs:read" | undefined;
  /** Whether its streams are counted by themselves: it is one viewer of many. */
  readonly isForOneViewer?: boolean | undefined;
  /** Default: 300 */
  readonly ttlSeconds?: number | undefined;
  /** The end of the token that asks for it, which it must not outlive: milliseconds since the epoch. */
  readonly notAfter?: number | undefined;
};

const TTL_SECONDS = 300;

/** A token, and its end in whole seconds since the epoch. */
export type MintStreamToken = (
  grant: StreamGrant,
) => Promise<{ readonly token: string; readonly exp: number }>;

/** Signs stream tokens with the key that all processes on one database share. */
export function createStreamTokenMint(key: () => Promise<Buffer>): MintStreamToken {
  return async (grant) => {
    const { ownerId, jobs, batchId, scope, isForOneViewer } = grant;
    const { ttlSeconds = TTL_SECONDS, notAfter } = grant;
    const wanted = Math.floor(Date.now() / 1_000) + ttlSeconds;
    const exp = Math.min(wanted, (notAfter ?? Number.POSITIVE_INFINITY) / 1_000);
    const claims = {
      sub: ownerId,
      exp,
      ...(jobs && { jobs }),
      ...(batchId !== undefined && { batchId }),
      ...(scope && { scope }),
      ...(isForOneViewer && { jti: randomUUID() }),
    };
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256", typ: "JWT", kid: KEY_ID })
      .setIssuedAt()
      .setAudience(STREAM_AUDIENCE)
      .sign(createSecretKey(await key()));
    return { token, exp };
  };
}

/** Whether a token says that it is one of these; whether it is remains to be checked. */
export function claimsToBeStreamToken(token: string): boolean {
  try {
    return decodeProtectedHeader(token).kid === KEY_ID;
  } catch {
    return false; // it is no token at all, which its check will say
  }
}
