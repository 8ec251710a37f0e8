import jwt from "jsonwebtoken";
import request from "supertest";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { mayRead, requireScope } from "../../../src/http/access.ts";
import type { Caller } from "../../../src/http/auth/caller.ts";
import { rawRequest } from "../../support/raw-request.ts";
import { signToken, TEST_SECRET } from "../../support/tokens.ts";
import { type AuthApp, inSeconds, STREAM_TOKEN_KEY, serveAuth } from "./auth-app.ts";

let app: AuthApp;

beforeAll(async () => {
  app = await serveAuth({ corsOrigins: ["https://app.example"] });
});
afterAll(() => app.close());
beforeEach(() => {
  app.lines.length = 0;
});

const ann = signToken({ sub: "ann" });
const bob = signToken({ sub: "bob" });
const long = signToken({ sub: "ann", note: "a".repeat(20_000) });
const bad = `${ann.slice(0, -4)}AAAA`;

function get(path: string, headers: Record<string, string> = {}) {
  return request(app.server).get(path).set(headers);
}

const UNAUTHENTICATED = {
  type: "about:blank",
  title: "Unauthorized",
  status: 401,
  detail: "The request has no valid token.",
  code: "unauthenticated",
};

describe("a token", () => {
  it("tells the owner, the scopes and when its streams end", async () => {
    const token = signToken({ sub: "ann", scope: "jobs:read  jobs:create", exp: 4_000_000_000.5 });
    const { body } = await get("/api", { authorization: `Bearer ${token}` }).expect(200);
    expect(body).toEqual({
      ownerId: "ann",
      scopes: ["jobs:read", "jobs:create"],
      subscribeOnly: false,
      jobs: null,
      expiresAt: 4_000_000_006_000,
    });
  });

  it("gives no rights of a stream token, whatever it says", async () => {
    const token = signToken({ sub: "ann", jobs: ["a"], subscribeOnly: true });
    const { body } = await get("/streams", { authorization: `Bearer ${token}` }).expect(200);
    expect(body).toMatchObject({ jobs: null, subscribeOnly: false, scopes: [] });
  });

  it("may be valid for longer than a timer or a Date can tell", async () => {
    for (const exp of [inSeconds(2 ** 31 / 1000 + 60), 1e300]) {
      const token = signToken({ sub: "ann", exp });
      const { body } = await get("/api", { authorization: `Bearer ${token}` }).expect(200);
      expect(new Date(body.expiresAt).getTime()).toBe(body.expiresAt);
    }
  });

  it("is good for the tolerance after its end, and no longer", async () => {
    const late = signToken({ sub: "ann", expiresIn: -3 });
    const { body } = await get("/api", { authorization: `Bearer ${late}` }).expect(200);
    expect(body.expiresAt).toBeGreaterThan(Date.now());
    const over = signToken({ sub: "ann", expiresIn: -5 });
    await get("/api", { authorization: `Bearer ${over}` }).expect(401);
  });

  it("is good for the tolerance before its beginning, and no earlier", async () => {
    const early = signToken({ sub: "ann", nbf: inSeconds(4) });
    await get("/api", { authorization: `Bearer ${early}` }).expect(200);
    const tooEarly = signToken({ sub: "ann", nbf: inSeconds(60) });
    await get("/api", { authorization: `Bearer ${tooEarly}` }).expect(401);
  });
});

describe("a refusal", () => {
  it("is the same for every reason, which stands in the log without the token", async () => {
    const expired = signToken({ sub: "ann", expiresIn: -60 });
    for (const [token, reason] of [
      [expired, '"exp" claim timestamp check failed'],
      [bad, "signature verification failed"],
      ["garbage", "no header"],
      [signToken({}), "sub: Invalid input: expected string, received undefined"],
    ] as const) {
      app.lines.length = 0;
      const { body, headers } = await get("/api", { authorization: `Bearer ${token}` }).expect(401);
      expect(body).toEqual(UNAUTHENTICATED);
      expect(headers["www-authenticate"]).toBe('Bearer error="invalid_token"');
      expect(headers["content-type"]).toMatch(/^application\/problem\+json/);
      expect(JSON.parse(app.lines.join(""))).toMatchObject({ reason, msg: "token refused" });
      expect(app.lines.join("")).not.toContain(token);
    }
  });

  it("says its reason to who may know it", async () => {
    const open = await serveAuth({ jwt: { secret: TEST_SECRET, explainRefusals: true } });
    const detailOf = async (token?: string) => {
      const asked = request(open.server).get("/api");
      if (token !== undefined) asked.set("authorization", `Bearer ${token}`);
      return (await asked.expect(401)).body.detail;
    };
    expect(await detailOf()).toBe("The request has no valid token: none came.");
    expect(await detailOf(signToken({ sub: "ann", expiresIn: null }))).toMatch(
      /^The request has no valid token: exp: Invalid input/,
    );
    await open.close();
  });

  it("quotes nothing of a token whose parts are no JSON", async () => {
    const part = Buffer.from("my-secret-text").toString("base64url");
    const header = Buffer.from('{"alg":"HS256","typ":"JWT"}').toString("base64url");
    await get("/api", { authorization: `Bearer ${header}.${part}.${part}` }).expect(401);
    expect(app.lines.join("")).toContain("signature verification failed");
    await get("/api", { authorization: `Bearer ${part}.${part}.${part}` }).expect(401);
    expect(app.lines.join("")).toContain("no header");
    expect(app.lines.join("")).not.toMatch(/my-s/);
  });

  it("names no error and logs nothing when there is no token at all", async () => {
    for (const path of ["/api", "/streams"]) {
      const { body, headers } = await get(path).expect(401);
      expect(body).toEqual(UNAUTHENTICATED);
      expect(headers["www-authenticate"]).toMatch(/^Bearer realm="[^"]+"$/);
    }
    expect(app.lines).toEqual([]);
  });

  it("meets OPTIONS too", async () => {
    const asked = { "access-control-request-headers": "authorization" };
    await request(app.server).options("/api").set(asked).expect(401);
    const withToken = { ...asked, authorization: `Bearer ${ann}` };
    await request(app.server).options("/api").set(withToken).expect(200);
  });
});

describe("the place of a token", () => {
  it("is the Authorization header, whose scheme may be written in any case", async () => {
    for (const scheme of ["Bearer", "bearer", "BEARER "]) {
      await get("/api", { authorization: `${scheme} ${ann}` }).expect(200);
    }
  });

  it("is the query for streams only", async () => {
    const { body } = await get(`/streams?access_token=${ann}`).expect(200);
    expect(body.ownerId).toBe("ann");
    await get(`/api?access_token=${ann}`).expect(401);
  });

  it("is the cookie jobcast_token, among others and in quotes too", async () => {
    for (const cookie of [
      `jobcast_token=${ann}`,
      `a=b; jobcast_token="${ann}"; jobcast_token_2=x`,
      `jobcast_token=; jobcast_token=${ann}`,
    ]) {
      const { body } = await get("/api", { cookie }).expect(200);
      expect(body.ownerId).toBe("ann");
    }
  });

  it("is the header before the query before the cookie, even where the first is no good", async () => {
    const cookie = `jobcast_token=${ann}`;
    const header = { cookie, authorization: `Bearer ${bob}` };
    const first = await get(`/streams?access_token=${ann}`, header).expect(200);
    expect(first.body.ownerId).toBe("bob");
    const second = await get(`/streams?access_token=${bob}`, { cookie }).expect(200);
    expect(second.body.ownerId).toBe("bob");
    await get("/streams", { cookie, authorization: `Bearer ${bad}` }).expect(401);
    await get(`/streams?access_token=${bad}`, { cookie }).expect(401);
    await get("/streams?access_token=", { cookie }).expect(401);
  });

  it("is another one where the Authorization header is for a proxy", async () => {
    const authorization = "Basic dXNlcjpwYXNz";
    await get(`/streams?access_token=${ann}`, { authorization }).expect(200);
    await get("/api", { authorization, cookie: `jobcast_token=${ann}` }).expect(200);
    await get("/api", { authorization }).expect(401);
  });

  it.each([
    ["no scheme", { authorization: ann }],
    ["no token", { authorization: "Bearer" }],
    ["a token of three dots", { authorization: "Bearer ..." }],
    ["empty parts", { authorization: `Bearer ${ann.split(".")[0]}..` }],
    ["no signature", { authorization: `Bearer ${ann.split(".").slice(0, 2).join(".")}.` }],
    ["two tokens", { authorization: `Bearer ${ann} ${ann}` }],
    ["two tokens and a comma", { authorization: `Bearer ${ann},Bearer ${ann}` }],
    ["100 KB", { authorization: `Bearer ${"a".repeat(100_000)}` }],
    ["100 KB of dots", { authorization: `Bearer ${".".repeat(100_000)}` }],
    ["too long a token, even a good one", { authorization: `Bearer ${long}` }],
    ["two different cookies", { cookie: `jobcast_token=${ann}; jobcast_token=${bob}` }],
    ["a cookie that is no token", { cookie: "jobcast_token=%00" }],
  ])("is refused when it holds %s", async (_, headers) => {
    for (const path of ["/api", "/streams"]) {
      const { body, headers: answered } = await get(path, headers).expect(401);
      expect(body).toEqual(UNAUTHENTICATED);
      expect(answered["www-authenticate"]).toBe('Bearer error="invalid_token"');
    }
  });

  it("is refused when the query has it twice, or as an array or object", async () => {
    const names = ["access_token=a&access_token", "access_token[]", "access_token[a]"];
    for (const name of names) await get(`/streams?${name}=${ann}`).expect(401);
  });

  it("is refused when there are two Authorization headers, even the same", async () => {
    const line = `Authorization: Bearer ${ann}\r\n`;
    const head = "GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    const once = await rawRequest(app.port, `${head}${line}\r\n`);
    expect(once.text).toMatch(/^HTTP\/1.1 200 /);
    const twice = await rawRequest(app.port, `${head}${line}${line}\r\n`);
    expect(twice.text).toMatch(/^HTTP\/1.1 401 /);
  });
});

describe("a cookie", () => {
  const cookie = `jobcast_token=${ann}`;

  it.each([
    ["no page at all", {}],
    ["our own page", { "sec-fetch-site": "same-origin" }],
    [
      "our own page, by a name that a proxy changed",
      { origin: "https://x.example", "sec-fetch-site": "same-origin" },
    ],
    ["a person's own hand", { "sec-fetch-site": "none" }],
    ["our own page in an older browser", { host: "jobs.example", origin: "https://jobs.example" }],
    ["a named origin", { origin: "https://app.example", "sec-fetch-site": "cross-site" }],
  ])("is taken from %s", async (_, headers) => {
    await get("/streams", { cookie, ...headers }).expect(200);
    await request(app.server)
      .post("/api")
      .set({ cookie, ...headers })
      .expect(200);
  });

  it.each([
    ["another site", { origin: "https://evil.example", "sec-fetch-site": "cross-site" }],
    ["another site in an older browser", { origin: "https://evil.example" }],
    ["a sibling domain", { origin: "https://evil.jobs.example", "sec-fetch-site": "same-site" }],
    ["an image of another site", { "sec-fetch-site": "cross-site" }],
    ["a sandboxed page", { origin: "null" }],
    ["an origin that begins like a named one", { origin: "https://app.example.evil.example" }],
    ["another port", { host: "jobs.example", origin: "https://jobs.example:8443" }],
  ])("is refused from %s, where it could do harm", async (_, headers) => {
    const { body } = await get("/streams", { cookie, ...headers }).expect(403);
    expect(body).toMatchObject({ code: "origin_not_allowed" });
    await request(app.server)
      .post("/api")
      .set({ cookie, ...headers })
      .expect(403);
    await request(app.server)
      .patch("/api")
      .set({ cookie, ...headers })
      .expect(403);
    await get("/api", { cookie, ...headers }).expect(200);
  });

  it("is taken from the origin of the public URL and from no other host, once that is set", async () => {
    const behindProxy = await serveAuth({ publicUrl: "https://jobs.example/sub" });
    const from = (origin: string) =>
      request(behindProxy.server).get("/streams").set({ cookie, host: "inner:3000", origin });
    await from("https://jobs.example").expect(200);
    await from("http://inner:3000").expect(403);
    await from("http://jobs.example").expect(403);
    await behindProxy.close();
  });

  it("does not matter beside a token that only our own pages can know", async () => {
    const headers = { cookie, authorization: `Bearer ${bob}`, origin: "https://evil.example" };
    await request(app.server).post("/api").set(headers).expect(200);
  });
});

describe("a stream token", () => {
  it("opens streams, by header or query, and nothing else", async () => {
    const grant = { ownerId: "ann", jobs: ["a", "b"], scope: "jobs:read", ttlSeconds: 60 } as const;
    const { token, exp } = await app.mint(grant);
    expect(exp).toBeGreaterThanOrEqual(inSeconds(59));
    for (const answer of [
      get("/streams", { authorization: `Bearer ${token}` }),
      get(`/streams?access_token=${token}`),
    ]) {
      const { body } = await answer.expect(200);
      expect(body).toEqual({
        ownerId: "ann",
        scopes: ["jobs:read"],
        subscribeOnly: true,
        jobs: ["a", "b"],
        expiresAt: (exp + 5) * 1000,
      });
    }
    const { body } = await get("/api", { authorization: `Bearer ${token}` }).expect(403);
    expect(body.code).toBe("insufficient_scope");
  });

  it("is checked with its own key alone, by its kid", async () => {
    const claims = { sub: "ann", aud: "jobcast:streams" };
    const options = { keyid: "jobcast", expiresIn: 60 };
    const forged = jwt.sign(claims, TEST_SECRET, options);
    await get("/streams", { authorization: `Bearer ${forged}` }).expect(401);
    await get("/api", { authorization: `Bearer ${forged}` }).expect(401);
    const other = jwt.sign(claims, TEST_SECRET, { ...options, keyid: "other" });
    await get("/streams", { authorization: `Bearer ${other}` }).expect(200);
  });

  it("is not what another purpose of its key signed", async () => {
    const sign = (audience: string) =>
      jwt.sign({ sub: "ann" }, STREAM_TOKEN_KEY, { keyid: "jobcast", expiresIn: 60, audience });
    await get("/streams", { authorization: `Bearer ${sign("jobcast:streams")}` }).expect(200);
    await get("/streams", { authorization: `Bearer ${sign("jobcast:callbacks")}` }).expect(401);
  });

  it("is told to come back while its key cannot be read", async () => {
    const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const down = await serveAuth({
      streamTokenKey: { read: () => Promise.reject(refused), isCurrent: () => true },
    });
    const { token } = await app.mint({ ownerId: "ann" });
    const asked = request(down.server).get("/streams").set("authorization", `Bearer ${token}`);
    const { body, headers } = await asked.expect(503);
    expect(body.code).toBe("database_unavailable");
    expect(headers["retry-after"]).toMatch(/^\d+$/);
    await down.close();
  });
});

describe("the kind of a token", () => {
  const statusOf = async (header: object) => {
    const token = jwt.sign({ sub: "ann" }, TEST_SECRET, {
      expiresIn: 60,
      header: { alg: "HS256", ...header },
    });
    return (await get("/api", { authorization: `Bearer ${token}` })).status;
  };

  it.each(["JWT", "jwt", "at+jwt", "application/at+jwt", undefined])(
    "may be that of an access token: %s",
    async (typ) => {
      expect(await statusOf({ typ })).toBe(200);
    },
  );

  it.each(["logout+jwt", "dpop+jwt", "secevent+jwt", "", 7, null, ["JWT"]])(
    "may be no other: %s",
    async (typ) => {
      expect(await statusOf({ typ })).toBe(401);
    },
  );

  it("may not depend on an extension that nobody here knows", async () => {
    expect(await statusOf({ crit: ["b64"], b64: false })).toBe(401);
    expect(await statusOf({ crit: ["x"], x: 1 })).toBe(401);
  });
});

describe("a secret that changes", () => {
  it("leaves the tokens good that the one before it signed, and no others", async () => {
    const [before, other] = ["b", "o"].map((letter) => letter.repeat(32));
    const both = await serveAuth({ jwt: { secret: TEST_SECRET, previousSecret: before } });
    const statusOf = async (secret: string | undefined, claims = {}) => {
      const token = signToken({ sub: "ann", ...(secret && { secret }), ...claims });
      const asked = request(both.server).get("/api").set("authorization", `Bearer ${token}`);
      return (await asked).status;
    };
    expect(await statusOf(TEST_SECRET)).toBe(200);
    expect(await statusOf(before)).toBe(200);
    expect(await statusOf(before, { expiresIn: -60 })).toBe(401);
    expect(await statusOf(other)).toBe(401);
    await both.close();
  });
});

describe("issuer and audience", () => {
  it("must be right once they are set", async () => {
    const issuer = "https://id.example";
    const strict = await serveAuth({ jwt: { secret: TEST_SECRET, issuer, audience: "jobs" } });
    const status = async (claims: object) => {
      const token = signToken({ sub: "ann", ...claims });
      const asked = request(strict.server).get("/api").set("authorization", `Bearer ${token}`);
      return (await asked).status;
    };
    const iss = issuer;
    expect(await status({ iss, aud: "jobs" })).toBe(200);
    expect(await status({ iss, aud: ["mail", "jobs"] })).toBe(200);
    expect(await status({ iss, aud: "mail" })).toBe(401);
    expect(await status({ iss })).toBe(401);
    expect(await status({ aud: "jobs" })).toBe(401);
    expect(await status({ iss: "https://evil.example", aud: "jobs" })).toBe(401);
    await strict.close();
  });
});

describe("what a caller may do", () => {
  const caller: Caller = {
    ownerId: "ann",
    scopes: new Set(["stats:read"]),
    subscribeOnly: false,
    viewer: undefined,
    jobs: undefined,
    batchId: undefined,
    expiresAt: Number.MAX_SAFE_INTEGER,
  };

  it("is what its scopes say, and nothing for a stream token", () => {
    const code = (of: Caller, scope: "stats:read" | "jobs:read") => {
      try {
        requireScope(of, scope);
      } catch (error) {
        return (error as { code: string }).code;
      }
      return "allowed";
    };
    expect(code(caller, "stats:read")).toBe("allowed");
    expect(code(caller, "jobs:read")).toBe("insufficient_scope");
    expect(code({ ...caller, subscribeOnly: true }, "stats:read")).toBe("insufficient_scope");
  });

  it("is to read its own jobs, with a scope any, and with a limited token only those", () => {
    const own = { id: "1", ownerId: "ann" };
    const foreign = { id: "2", ownerId: "bob" };
    const reads = (of: Caller) => [mayRead(of, own), mayRead(of, foreign)];
    expect(reads(caller)).toEqual([true, false]);
    expect(reads({ ...caller, scopes: new Set(["jobs:read"]) })).toEqual([true, true]);
    expect(reads({ ...caller, scopes: new Set(["jobs:write"]) })).toEqual([true, true]);
    expect(reads({ ...caller, jobs: new Set(["2"]) })).toEqual([false, false]);
    const limited = { ...caller, jobs: new Set(["2"]), scopes: new Set(["jobs:read"]) };
    expect(reads(limited)).toEqual([false, true]);
  });
});
