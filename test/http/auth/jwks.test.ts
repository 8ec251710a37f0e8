import { createHmac, generateKeyPairSync } from "node:crypto";
import { SignJWT } from "jose";
import jwt, { type Algorithm } from "jsonwebtoken";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createJwks, type FindKey } from "../../../src/http/auth/jwks.ts";
import { createLog } from "../../../src/log.ts";
import { until } from "../../support/deadline.ts";
import { TEST_SECRET } from "../../support/tokens.ts";
import { type AuthApp, serveAuth } from "./auth-app.ts";
import {
  type KeyServer,
  makeEcKey,
  makeEdKey,
  makeRsaKey,
  type SigningKey,
  serveKeys,
} from "./key-server.ts";

const MINUTE = 60_000;

let rsa: SigningKey;
let ec: SigningKey;
let next: SigningKey;
let server: KeyServer;

beforeAll(() => {
  [rsa, ec, next] = [makeRsaKey("rsa-1"), makeEcKey("ec-1"), makeRsaKey("rsa-2")];
});
beforeEach(async () => {
  server = await serveKeys([rsa, ec]);
});
afterEach(() => server.close());

describe("tokens with public keys", () => {
  let app: AuthApp;

  beforeEach(async () => {
    app = await serveAuth({ jwt: { jwksUrl: server.url } });
  });
  afterEach(() => app.close());

  async function statusOf(key: SigningKey, algorithm: Algorithm): Promise<number> {
    const options = { algorithm, expiresIn: 60, ...(key.kid && { keyid: key.kid }) };
    const token = jwt.sign({ sub: "ann" }, key.privateKey, options);
    const { status } = await fetch(`${app.url}/api`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return status;
  }

  it("are taken with RS*, PS* and ES* signatures", async () => {
    const p384 = makeEcKey("ec-2", "P-384");
    server.serve([rsa, ec, p384]);
    for (const algorithm of ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] as const) {
      expect(await statusOf(rsa, algorithm), algorithm).toBe(200);
    }
    expect(await statusOf(ec, "ES256")).toBe(200);
    expect(await statusOf(p384, "ES384")).toBe(200);
    expect(server.requests()).toBe(1);
  });

  it("are taken with EdDSA signatures, by either of its names", async () => {
    const ed = makeEdKey("ed-1");
    server.serve([ed, rsa]);
    for (const alg of ["EdDSA", "Ed25519"]) {
      const token = await new SignJWT({ sub: "ann" })
        .setProtectedHeader({ alg, kid: "ed-1" })
        .setExpirationTime("1m")
        .sign(ed.privateKey);
      const headers = { authorization: `Bearer ${token}` };
      expect((await fetch(`${app.url}/api`, { headers })).status, alg).toBe(200);
    }
    expect(await statusOf({ ...rsa, kid: "ed-1" }, "RS256")).toBe(401);
  });

  it("are refused when their curve is not the one of their algorithm", async () => {
    const p384 = makeEcKey("ec-1", "P-384");
    server.serve([p384]);
    const token = await new SignJWT({ sub: "ann" })
      .setProtectedHeader({ alg: "ES384", kid: "ec-1" })
      .setExpirationTime("1m")
      .sign(p384.privateKey);
    const [, ...rest] = token.split(".");
    const header = Buffer.from('{"alg":"ES256","kid":"ec-1"}').toString("base64url");
    const headers = { authorization: `Bearer ${[header, ...rest].join(".")}` };
    expect((await fetch(`${app.url}/api`, { headers })).status).toBe(401);
  });

  it("are refused when their RSA key is shorter than 2048 bits, and the others are taken", async () => {
    const short: SigningKey = {
      kid: "short",
      ...generateKeyPairSync("rsa", { modulusLength: 1_024 }),
    };
    server.serve([short, rsa]);
    const options = { keyid: "short", algorithm: "RS256", expiresIn: 60 } as const;
    const insecure = { ...options, allowInsecureKeySizes: true };
    const token = jwt.sign({ sub: "ann" }, short.privateKey, insecure);
    const headers = { authorization: `Bearer ${token}` };
    expect((await fetch(`${app.url}/api`, { headers })).status).toBe(401);
    expect(await statusOf(rsa, "RS256")).toBe(200);
  });

  it("are refused when another key signed them under a known kid", async () => {
    expect(await statusOf({ ...next, kid: "rsa-1" }, "RS256")).toBe(401);
    expect(await statusOf({ ...next, kid: "ec-1" }, "RS256")).toBe(401);
  });

  it("are refused when the public key itself was used as the secret of HS256", async () => {
    const secrets = [
      rsa.publicKey.export({ format: "pem", type: "spki" }),
      rsa.publicKey.export({ format: "pem", type: "pkcs1" }),
      JSON.stringify(rsa.publicKey.export({ format: "jwk" })),
    ];
    for (const secret of secrets) {
      const header = Buffer.from('{"alg":"HS256","typ":"JWT","kid":"rsa-1"}').toString("base64url");
      const exp = Math.floor(Date.now() / 1000) + 60;
      const payload = Buffer.from(JSON.stringify({ sub: "ann", exp })).toString("base64url");
      const mac = createHmac("sha256", secret).update(`${header}.${payload}`).digest("base64url");
      const { status } = await fetch(`${app.url}/api`, {
        headers: { authorization: `Bearer ${header}.${payload}.${mac}` },
      });
      expect(status).toBe(401);
    }
  });

  it("are taken beside tokens of the secret, where both are set", async () => {
    const both = await serveAuth({ jwt: { jwksUrl: server.url, secret: TEST_SECRET } });
    const status = async (token: string) => {
      const headers = { authorization: `Bearer ${token}` };
      return (await fetch(`${both.url}/api`, { headers })).status;
    };
    const claims = { sub: "ann" };
    expect(await status(jwt.sign(claims, TEST_SECRET, { expiresIn: 60 }))).toBe(200);
    const options = { algorithm: "RS256", keyid: "rsa-1", expiresIn: 60 } as const;
    expect(await status(jwt.sign(claims, rsa.privateKey, options))).toBe(200);
    const forged = jwt.sign(claims, "another-secret-of-more-than-32-bytes", { expiresIn: 60 });
    expect(await status(forged)).toBe(401);
    await both.close();
  });

  it("are told to come back when no key could ever be read", async () => {
    server.serve("down");
    expect(await statusOf(rsa, "RS256")).toBe(503);
    expect(app.lines.join("")).toContain("the JSON Web Key Set cannot be read");
  });
});

describe("the keys", () => {
  let time: number;
  let find: FindKey;

  beforeEach(() => {
    time = 1_000_000_000_000;
    find = createJwks({ url: server.url, log: createLog("silent"), now: () => time });
  });

  const isKnown = async (kid: string | undefined, alg = "RS256") =>
    (await find(kid, alg)) !== undefined;

  async function flood(count: number): Promise<void> {
    const found = Array.from({ length: count }, () => isKnown(`random-${crypto.randomUUID()}`));
    expect(new Set(await Promise.all(found))).toEqual(new Set([false]));
  }

  it("are read once for everybody who needs the first one at the same time", async () => {
    const found = await Promise.all(Array.from({ length: 100 }, () => isKnown("rsa-1")));
    expect(found).not.toContain(false);
    expect(server.requests()).toBe(1);
  });

  it("are taken on first use after a rotation, even right after they were read", async () => {
    expect(await isKnown("rsa-1")).toBe(true);
    server.serve([next]);
    expect(await isKnown("rsa-2")).toBe(true);
    expect(server.requests()).toBe(2);
    expect(await isKnown("rsa-1")).toBe(false);
  });

  it("are asked for at most every 30 seconds because of unknown ones, and stay good", async () => {
    await isKnown("rsa-1");
    for (let second = 0; second < 60; second += 1) {
      await flood(100);
      expect(await isKnown("rsa-1")).toBe(true);
      time += 1000;
    }
    expect(server.requests()).toBe(1 + 2);
    server.serve([rsa, next]);
    expect(await isKnown("rsa-2")).toBe(true);
  });

  it("are read again every ten minutes, while nobody waits", async () => {
    await isKnown("rsa-1");
    time += 10 * MINUTE - 1;
    await isKnown("rsa-1");
    expect(server.requests()).toBe(1);
    time += 1;
    server.serve([next]);
    expect(await isKnown("rsa-1")).toBe(true);
    await until(() => server.requests() === 2, 5_000, "the second read");
    expect(await isKnown("rsa-2")).toBe(true); // waits for the read, if it is still under way
    expect(await isKnown("rsa-1")).toBe(false);
  });

  it("are tried again every 30 seconds after that failed, while nobody waits", async () => {
    await isKnown("rsa-1");
    server.serve("down");
    time += 10 * MINUTE;
    await isKnown("rsa-1");
    await until(() => server.requests() === 2, 5_000, "the read that fails");
    // Only an unknown key waits for it.
    await expect(find("rsa-2", "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
    const before = server.requests();
    time += 29_999;
    await isKnown("rsa-1");
    expect(server.requests()).toBe(before);
    time += 1;
    await isKnown("rsa-1");
    await until(() => server.requests() === before + 1, 5_000, "another read");
  });

  it("stay good while the set cannot be read, and unknown ones are told to come back", async () => {
    await isKnown("rsa-1");
    server.serve("down");
    time += 60 * MINUTE;
    expect(await isKnown("rsa-1")).toBe(true);
    await expect(find("rsa-2", "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
    expect(await isKnown("rsa-1")).toBe(true);
    server.serve([rsa, next]);
    time += 30_000;
    expect(await isKnown("rsa-2")).toBe(true);
  });

  it("come as soon as the set can be read for the first time", async () => {
    server.serve("down");
    await expect(find("rsa-1", "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
    server.serve([rsa]);
    await expect(find("rsa-1", "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
    expect(server.requests()).toBe(1);
    time += 1000;
    expect(await isKnown("rsa-1")).toBe(true);
  });

  it.each([
    ["no JSON", "<html>"],
    ["no set", "[]"],
    ["null", "null"],
    ["no keys", '{"keys":[]}'],
    ["keys that are none", '{"keys":[null]}'],
    ["keys in an object", '{"keys":{"length":1}}'],
    ["a private secret", '{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"rsa-1"}]}'],
  ])("cannot be read from an answer with %s", async (_, answer) => {
    server.serve(answer);
    await expect(find("rsa-1", "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
  });

  it("cannot be read from an answer of more than a megabyte", async () => {
    const keys = [rsa.publicKey.export({ format: "jwk" })];
    server.serve(JSON.stringify({ keys, padding: "x".repeat(1_000_000) }));
    expect(await isKnown(undefined)).toBe(true);
    server.serve(JSON.stringify({ keys, padding: "x".repeat(1_100_000) }));
    find = createJwks({ url: server.url, log: createLog("silent") });
    await expect(find(undefined, "RS256")).rejects.toMatchObject({ code: "keys_unavailable" });
  });

  it("are never what every object has", async () => {
    for (const kid of ["__proto__", "constructor", "toString", "0", "length", ""]) {
      expect(await isKnown(kid)).toBe(false);
    }
  });

  it("need no kid where there is only one that fits", async () => {
    server.serve([makeRsaKey(), makeRsaKey()]);
    expect(await isKnown(undefined, "RS256")).toBe(false);
    time += 30_000;
    server.serve([makeRsaKey(), ec]);
    expect(await isKnown(undefined, "RS256")).toBe(true);
    expect(await isKnown("rsa-1")).toBe(false);
  });

  it("are told apart by their type where they have one kid", async () => {
    server.serve([makeRsaKey("both"), makeEcKey("both")]);
    const found = [await find("both", "ES256"), await find("both", "PS256")];
    expect(found.map((key) => key?.asymmetricKeyType)).toEqual(["ec", "rsa"]);
  });
});
