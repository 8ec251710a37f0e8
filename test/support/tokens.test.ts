import jwt from "jsonwebtoken";
import { describe, expect, it } from "vitest";
import { signToken, TEST_SECRET } from "./tokens.ts";

const verify = (token: string, secret = TEST_SECRET) =>
  jwt.verify(token, secret, { algorithms: ["HS256"] }) as jwt.JwtPayload;

describe("signToken", () => {
  it("signs the claims with the test secret, valid for an hour", () => {
    const claims = verify(signToken({ sub: "ann", scope: "jobs:read", tenant: 7 }));
    expect(claims).toMatchObject({ sub: "ann", scope: "jobs:read", tenant: 7 });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(3600);
  });

  it("signs one that has expired", () => {
    const token = signToken({ sub: "ann", expiresIn: -5 });
    expect(() => verify(token)).toThrow(jwt.TokenExpiredError);
  });

  it("signs one that never expires, and one without an owner", () => {
    expect(verify(signToken({ expiresIn: null }))).toEqual({ iat: expect.any(Number) });
  });

  it("signs with another secret", () => {
    const token = signToken({ sub: "ann", secret: "another secret of more than 32 bytes" });
    expect(() => verify(token)).toThrow("invalid signature");
  });

  it("has a secret that production would accept", () => {
    expect(Buffer.byteLength(TEST_SECRET)).toBeGreaterThanOrEqual(32);
  });
});
