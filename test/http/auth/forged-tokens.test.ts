import { createHmac } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TEST_SECRET } from "../../support/tokens.ts";
import { type AuthApp, inSeconds, STREAM_TOKEN_KEY, serveAuth } from "./auth-app.ts";
import { type KeyServer, makeRsaKey, serveKeys } from "./key-server.ts";

const rsa = makeRsaKey("rsa-1");
let app: AuthApp;
let keys: KeyServer;

beforeAll(async () => {
  keys = await serveKeys([rsa]);
  app = await serveAuth({ jwt: { secret: TEST_SECRET, jwksUrl: keys.url } });
});
afterAll(async () => {
  await app.close();
  await keys.close();
});

const encode = (value: unknown) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

function sign(header: unknown, payload: unknown, secret: string | Buffer = TEST_SECRET): string {
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

async function statusOf(authorization: string, path = "/api"): Promise<number> {
  const response = await fetch(`${app.url}${path}`, { headers: { authorization } });
  await response.arrayBuffer();
  return response.status;
}

const HS256 = { alg: "HS256", typ: "JWT" };
const claims = { sub: "ann", exp: inSeconds(3600) };

/** Values that a program may take for something else than they are. */
const odd = fc.oneof(
  fc.constantFrom<unknown>("__proto__", "constructor", "jobcast", "rsa-1", "", null, true, [], {}),
  fc.constantFrom<unknown>({ toString: "ann" }, ["ann"], -1, 0, 1e308, 2 ** 53, "9999999999"),
  fc.jsonValue({ maxDepth: 2 }),
);

describe("what is no good token", () => {
  it("is let in when it is a good one, so that the rest of this file can fail", async () => {
    expect(await statusOf(`Bearer ${sign(HS256, claims)}`)).toBe(200);
    expect(await statusOf(`Bearer ${sign({ ...HS256, kid: "any" }, claims)}`)).toBe(200);
  });

  it.each([
    ["alg none, without a signature", `${encode({ alg: "none" })}.${encode(claims)}.`],
    ["alg None", sign({ ...HS256, alg: "None" }, claims)],
    ["alg none, with a signature", sign({ ...HS256, alg: "none" }, claims)],
    ["no alg", sign({ typ: "JWT" }, claims)],
    ["an alg that is a list", sign({ ...HS256, alg: ["HS256"] }, claims)],
    ["an alg that nobody knows", sign({ ...HS256, alg: "HS1024" }, claims)],
    ["an alg that we do not take", sign({ ...HS256, alg: "HS512" }, claims)],
    ["a public alg under the secret's signature", sign({ ...HS256, alg: "RS256" }, claims)],
    ["a crit that must be understood", sign({ ...HS256, crit: ["exp"] }, claims)],
    ["a crit that is null", sign({ ...HS256, crit: null }, claims)],
    ["an unencoded payload", sign({ ...HS256, b64: false, crit: ["b64"] }, claims)],
    ["a kid that is an object", sign({ ...HS256, kid: { a: 1 } }, claims)],
    ["another secret", sign(HS256, claims, "another-secret-of-more-than-32-bytes")],
    ["the empty secret", sign(HS256, claims, "")],
    ["a header that is a text", sign('"HS256"', claims)],
    ["a header that is null", sign("null", claims)],
    ["a header that is no JSON", sign("{", claims)],
    ["a payload that is a text", sign(HS256, '"ann"')],
    ["a payload that is null", sign(HS256, "null")],
    ["a payload that is no JSON", sign(HS256, "ann")],
    ["a payload that is no JSON, without a typ", sign({ alg: "HS256" }, "ann")],
    ["no exp", sign(HS256, { sub: "ann" })],
    ["an exp in the past", sign(HS256, { ...claims, exp: inSeconds(-10) })],
    ["an exp that is a text", sign(HS256, { ...claims, exp: "9999999999" })],
    ["an exp that is null", sign(HS256, { ...claims, exp: null })],
    ["an exp that is infinite", sign(HS256, '{"sub":"ann","exp":1e999}')],
    ["no sub", sign(HS256, { exp: claims.exp })],
    ["an empty sub", sign(HS256, { ...claims, sub: "" })],
    ["a sub that is an object", sign(HS256, { ...claims, sub: { id: "ann" } })],
    ["a sub that is a number", sign(HS256, { ...claims, sub: 7 })],
    ["a sub that is a list", sign(HS256, { ...claims, sub: ["ann"] })],
    ["a sub that is too long", sign(HS256, { ...claims, sub: "a".repeat(256) })],
    ["a sub that PostgreSQL cannot hold", sign(HS256, { ...claims, sub: "a\0" })],
    ["a sub with half a character", sign(HS256, `{"sub":"\\ud800","exp":${claims.exp}}`)],
    ["a sub in its prototype", sign(HS256, `{"__proto__":{"sub":"ann"},"exp":${claims.exp}}`)],
    ["a scope that is a list", sign(HS256, { ...claims, scope: ["jobs:write"] })],
    ["an nbf in the future", sign(HS256, { ...claims, nbf: inSeconds(60) })],
    ["an nbf that is a text", sign(HS256, { ...claims, nbf: "0" })],
    ["the kid of stream tokens", sign({ ...HS256, kid: "jobcast" }, claims)],
  ])("is refused with %s", async (_, token) => {
    expect(await statusOf(`Bearer ${token}`)).toBe(401);
    expect(await statusOf(`Bearer ${token}`, "/streams")).toBe(401);
  });

  it("is refused whatever the header holds", async () => {
    const header = fc
      .string({ unit: "binary-ascii", maxLength: 200 })
      .map((text) => text.replace(/[^\t\x20-\x7e]/g, ""));
    await fc.assert(
      fc.asyncProperty(
        header,
        fc.constantFrom("", "Bearer ", "Bearer a.b."),
        async (text, before) => {
          expect(await statusOf(before + text)).toBe(401);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("is refused whatever its parts hold, unless the signature is right", async () => {
    const header = fc.record(
      { alg: fc.constantFrom<unknown>("HS256", "RS256", "ES256", "none", 1), kid: odd, crit: odd },
      { requiredKeys: [] },
    );
    const payload = fc.record({ sub: odd, exp: odd, scope: odd, aud: odd }, { requiredKeys: [] });
    const signature = fc.oneof(fc.base64String(), fc.constant(""), fc.constant("AAAA"));
    const parts = fc.tuple(fc.oneof(header, odd), fc.oneof(payload, odd), signature);
    await fc.assert(
      fc.asyncProperty(parts, async ([head, body, mac]) => {
        const token = `${encode(head)}.${encode(body)}.${mac.replace(/[+/=]/g, "_")}`;
        expect(await statusOf(`Bearer ${token}`)).toBe(401);
        expect(await statusOf(`Bearer ${token}`, "/streams")).toBe(401);
      }),
      { numRuns: 200 },
    );
  });

  it("is refused whatever its claims hold, unless they are what they must be", async () => {
    const payload = fc.record(
      {
        sub: fc.oneof(odd, fc.string({ unit: "binary", maxLength: 300 })),
        exp: fc.oneof(odd, fc.integer({ min: 0, max: 2 ** 33 }), fc.double()),
        scope: fc.oneof(odd, fc.constant("jobs:read")),
        nbf: fc.oneof({ weight: 1, arbitrary: odd }, { weight: 3, arbitrary: fc.constant(0) }),
      },
      { requiredKeys: ["sub", "exp"] },
    );
    const isGood = ({ sub, exp, scope = "", nbf = 0 }: Record<string, unknown>) =>
      typeof sub === "string" &&
      /^[^\0]{1,255}$/s.test(sub) &&
      sub.isWellFormed() &&
      typeof exp === "number" &&
      exp > inSeconds(0) &&
      typeof scope === "string" &&
      typeof nbf === "number" &&
      nbf <= inSeconds(0);
    await fc.assert(
      fc.asyncProperty(payload, fc.boolean(), async (claimed, isStreamToken) => {
        const parsed = JSON.parse(JSON.stringify(claimed)); // NaN and -0 do not survive this
        const expected = isGood(parsed) ? 200 : 401;
        const token = isStreamToken
          ? sign(
              { ...HS256, kid: "jobcast" },
              { ...parsed, aud: "jobcast:streams" },
              STREAM_TOKEN_KEY,
            )
          : sign(HS256, parsed);
        expect(await statusOf(`Bearer ${token}`, "/streams")).toBe(expected);
      }),
      { numRuns: 300 },
    );
  });
});
