import jwt from "jsonwebtoken";

/** The HS256 secret that test servers are given; long enough to pass as one for production. */
export const TEST_SECRET = "test-secret-of-more-than-32-bytes-for-hs256";

export type TokenClaims = {
  /** The owner. */
  sub?: string;
  /** Space-separated scopes, for example "jobs:create jobs:read". Default: none. */
  scope?: string;
  /** Seconds from now, negative for one that has expired; `null` for no `exp`. Default 3600. */
  expiresIn?: number | null;
  /** Default `TEST_SECRET`. */
  secret?: string;
  [claim: string]: unknown;
};

/** Signs a token as an identity provider would, or with whatever claims a test wants refused. */
export function signToken({
  expiresIn = 3600,
  secret = TEST_SECRET,
  ...claims
}: TokenClaims = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const expiry = expiresIn === null ? {} : { exp: now + expiresIn };
  // `exp` as a claim and not as the option `expiresIn`, which refuses to sign what has expired;
  // `iat` lies before it in any case.
  const iat = Math.min(now, expiry.exp ?? now);
  return jwt.sign({ iat, ...expiry, ...claims }, secret, { algorithm: "HS256" });
}
