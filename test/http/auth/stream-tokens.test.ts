import express from "express";
import jwt from "jsonwebtoken";
import request from "supertest";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createOwnerReader } from "../../../src/db/job-owners.ts";
import { Lanes } from "../../../src/db/lanes.ts";
import type { Query } from "../../../src/db/query.ts";
import { SigningKey } from "../../../src/db/signing-key.ts";
import { mayRead } from "../../../src/http/access.ts";
import { createAuth } from "../../../src/http/auth/auth.ts";
import { callerOf } from "../../../src/http/auth/caller.ts";
import { createStreamTokenMint } from "../../../src/http/auth/stream-token.ts";
import { createBodyReader } from "../../../src/http/body.ts";
import { BodyPlaces } from "../../../src/http/body-places.ts";
import { streamTokens } from "../../../src/http/operations/stream-tokens.ts";
import type { HttpParts } from "../../../src/http/parts.ts";
import { problemHandler } from "../../../src/http/problem.ts";
import { serveOperations } from "../../../src/http/serve.ts";
import { createLog } from "../../../src/log.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { signToken, TEST_SECRET } from "../../support/tokens.ts";
import { inSeconds } from "./auth-app.ts";

const NOWHERE = "00000000-0000-0000-0000-000000000000";

let database: TestDatabase;
let lanes: Lanes;
let app: express.Express;
let ofAnn: string;
let ofBob: string;

beforeAll(async () => {
  database = await createTestDatabase();
  lanes = new Lanes({ connectionString: database.url, size: 4, onError: () => undefined });
  ofAnn = await createJob("ann");
  ofBob = await createJob("bob");
  app = createService();
});
afterAll(async () => {
  await lanes.end();
  await database.drop();
});

async function createJob(owner: string): Promise<string> {
  const sql = "select id from jobcast.create_job($1, 'export')";
  const [job] = await database.query<{ id: string }>(sql, [owner]);
  return job?.id ?? "";
}

/** One process's share: `GET /seen/{id}` is a stream as far as authorisation goes. */
function createService(): express.Express {
  const log = createLog("silent");
  const streamTokenKey = new SigningKey(lanes.service.for({}), "stream tokens");
  const auth = createAuth({ jwt: { secret: TEST_SECRET }, streamTokenKey, corsOrigins: [], log });
  const findOwners = createOwnerReader(lanes.reads);
  const service = express();
  service.get("/seen/:id", auth.streams, async (req, res) => {
    const id = String(req.params["id"]);
    const ownerId = (await findOwners([id], "ann")).get(id);
    res.sendStatus(ownerId && mayRead(callerOf(res), { id, ownerId }) ? 200 : 404);
  });
  const parts: Partial<HttpParts> = {
    mintStreamToken: createStreamTokenMint(() => streamTokenKey.read()),
    findOwners,
    readBody: createBodyReader(new BodyPlaces()),
  };
  service.use(
    serveOperations(streamTokens.operations, parts as HttpParts, {
      auth,
      streamErrors: (error, _req, _res, next) => next(error),
    }),
  );
  service.use(problemHandler(log));
  return service;
}

function mint(body: object | undefined, claims: object = {}) {
  const token = signToken({ sub: "ann", ...claims });
  const asked = request(app).post("/v1/stream-tokens").set("authorization", `Bearer ${token}`);
  return body === undefined ? asked : asked.send(body);
}

async function seen(token: string, id: string, by = app): Promise<number> {
  return (await request(by).get(`/seen/${id}?access_token=${token}`)).status;
}

describe("POST /v1/stream-tokens", () => {
  it("answers with a token for all of the caller's jobs, for five minutes", async () => {
    for (const body of [undefined, {}]) {
      const before = Date.now();
      const { body: answer, headers } = await mint(body).expect(201);
      expect(headers["cache-control"]).toBe("no-store");
      expect(Object.keys(answer)).toEqual(["token", "expiresAt"]);
      const left = new Date(answer.expiresAt).getTime() - before;
      expect(left).toBeGreaterThan(298_000);
      expect(left).toBeLessThan(302_000);
      expect(await seen(answer.token, ofAnn)).toBe(200);
      expect(await seen(answer.token, ofBob)).toBe(404);
    }
  });

  it("answers with a token that is good again and again, in every process on the database", async () => {
    const { body } = await mint({}).expect(201);
    for (const by of [app, app, createService()])
      expect(await seen(body.token, ofAnn, by)).toBe(200);
  });

  it("limits the token to the jobs that are named, in whatever case", async () => {
    const another = await createJob("ann");
    const { body } = await mint({ jobs: [ofAnn.toUpperCase()] }).expect(201);
    expect(await seen(body.token, ofAnn)).toBe(200);
    expect(await seen(body.token, another)).toBe(404);
  });

  it("lets the token of somebody with jobs:read or jobs:write see what it names, and no more", async () => {
    for (const scope of ["jobs:read", "jobs:write"]) {
      const named = await mint({ jobs: [ofBob] }, { scope }).expect(201);
      expect(await seen(named.body.token, ofBob)).toBe(200);
      expect(await seen(named.body.token, ofAnn)).toBe(404);
      const all = await mint({}, { scope }).expect(201);
      expect(await seen(all.body.token, ofAnn)).toBe(200);
      expect(await seen(all.body.token, ofBob)).toBe(404);
    }
  });

  it("gives no token any scope that it does not need", async () => {
    const everything = { scope: "jobs:read jobs:write credits:grant" };
    const scopeOf = async (jobs: string[]) => {
      const { body } = await mint({ jobs }, everything).expect(201);
      return (jwt.decode(body.token) as jwt.JwtPayload)["scope"];
    };
    expect(await scopeOf([ofAnn])).toBeUndefined();
    expect(await scopeOf([ofAnn, ofBob])).toBe("jobs:read");
  });

  it("answers the same for a job that is somebody else's as for one that is nowhere", async () => {
    const foreign = await mint({ jobs: [ofAnn, ofBob] }).expect(404);
    const absent = await mint({ jobs: [ofAnn, NOWHERE] }).expect(404);
    expect(foreign.body.code).toBe("not_found");
    expect(foreign.body).toEqual(absent.body);
  });

  it("gives no token that outlives the one it was asked with", async () => {
    const exp = inSeconds(60);
    const { body } = await mint({ ttlSeconds: 3600 }, { exp }).expect(201);
    expect(new Date(body.expiresAt).getTime()).toBe(exp * 1000);
    expect((jwt.decode(body.token) as jwt.JwtPayload).exp).toBe(exp);
    const longer = await mint({ ttlSeconds: 3600 }, { exp: 1e300 }).expect(201);
    expect(new Date(longer.body.expiresAt).getTime()).toBeLessThan(Date.now() + 3_601_000);
  });

  it("gives no token for a stream token", async () => {
    const { body } = await mint({}).expect(201);
    const again = await request(app)
      .post("/v1/stream-tokens")
      .set("authorization", `Bearer ${body.token}`)
      .expect(403);
    expect(again.body.code).toBe("insufficient_scope");
  });

  it.each([
    ["no jobs in the list", { jobs: [] }, "body.jobs"],
    ["too many jobs", { jobs: Array.from({ length: 101 }, () => NOWHERE) }, "body.jobs"],
    ["an id that is none", { jobs: ["1"] }, "body.jobs.0"],
    ["too short a time", { ttlSeconds: 9 }, "body.ttlSeconds"],
    ["too long a time", { ttlSeconds: 3601 }, "body.ttlSeconds"],
    ["half a second", { ttlSeconds: 10.5 }, "body.ttlSeconds"],
    ["what nobody asked for", { scope: "jobs:write" }, "body.scope"],
    ["a list", [], "body"],
  ])("refuses %s", async (_, body, path) => {
    const { body: problem } = await mint(body).expect(400);
    expect(problem.code).toBe("invalid_request");
    expect(problem.fields.map((field: { path: string }) => field.path)).toContain(path);
  });
});

describe("the key of stream tokens", () => {
  it("is made once, however many processes start at once", async () => {
    const keys = await Promise.all(
      Array.from({ length: 10 }, () =>
        new SigningKey(lanes.service.for({}), "made at once").read(),
      ),
    );
    expect(new Set(keys.map((key) => key.toString("hex"))).size).toBe(1);
    expect(keys[0]?.length).toBe(32);
  });

  it("is another one for another purpose", async () => {
    const [one, two] = await Promise.all([
      new SigningKey(lanes.service.for({}), "one").read(),
      new SigningKey(lanes.service.for({}), "two").read(),
    ]);
    expect(one.equals(two)).toBe(false);
  });

  it("is read again after a failure, and only once after that", async () => {
    let isDown = true;
    let reads = 0;
    const query = lanes.service.for({});
    const flaky: Query = (...statement) => {
      reads += 1;
      return isDown ? Promise.reject(new Error("down")) : query(...statement);
    };
    const key = new SigningKey(flaky, "flaky");
    await expect(key.read()).rejects.toThrow("down");
    isDown = false;
    const [first] = await Promise.all([key.read(), key.read(), key.read()]);
    const after = reads;
    expect((await key.read()).equals(first)).toBe(true);
    expect(reads).toBe(after);
  });

  it("cannot be read by a role that may do everything else with jobs", async () => {
    const session = await database.connect();
    await session.query("begin");
    await session.query("create role jobcast_reader_of_nothing");
    await session.query("grant usage on schema jobcast to jobcast_reader_of_nothing");
    await session.query("set local role jobcast_reader_of_nothing");
    await expect(session.query("select * from jobcast.signing_keys")).rejects.toMatchObject({
      code: "42501",
    });
    await session.query("rollback");
  });
});
