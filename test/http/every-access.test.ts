import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ACCESS, type TokenAccess } from "../../src/http/access.ts";
import type { Operation } from "../../src/http/operation.ts";
import { RESOURCES } from "../../src/http/operations/all.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

const SCOPES = ["jobs:create", "jobs:write", "jobs:read", "credits:grant", "stats:read"] as const;

let db: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url, presence: "on" });
});
afterAll(async () => {
  await server.stop();
  await db.drop();
});

type Mine = { readonly job: string; readonly batch: string };

/** A job, a batch and credits of an owner that nobody has met. */
async function createOwner(): Promise<Mine & { readonly owner: string }> {
  const owner = `owner-${randomUUID()}`;
  const [made] = await db.query<Mine>(
    `with batch as (select id from jobcast.create_batch($1, 'b', '[{"type": "t"}]')),
       grant_ as (select from jobcast.grant_credits($1, 100)),
       job as (insert into jobcast.jobs (owner_id, type, status) values ($1, 't', 'failed') returning id)
     select job.id as job, batch.id as batch from job, batch, grant_`,
    [owner],
  );
  return { owner, job: "", batch: "", ...made };
}

/** What an operation says of whose thing it is about, by its parameters or its body. */
function bodyOf({ id, body }: Operation, { owner, job }: { owner: string; job: string }): unknown {
  const [example] = Object.values(body?.examples ?? {}) as object[];
  if (id === "createStreamToken") return { jobs: [job] };
  if (id === "updateJobs") return { updates: [{ id: job, message: "m" }] };
  // A retry is of what has failed, and what has failed takes no report.
  if (id === "updateJob") return { message: "m" };
  if (!example) return undefined;
  if (id === "addJobs" || id === "emitEvent") return example;
  const isMade = [
    "createJob",
    "createBatch",
    "grantCredits",
    "adjustCredits",
    "setOverdraft",
  ].includes(id);
  return isMade ? { ...example, credits: undefined, ownerId: owner } : {};
}

async function call(operation: Operation, mine: Mine & { owner: string }, token?: string) {
  const id = operation.path.includes("batches") ? mine.batch : mine.job;
  const url = new URL(operation.path.replace("{id}", id), server.url);
  if (operation.query && "ownerId" in operation.query.shape)
    url.searchParams.set("ownerId", mine.owner);
  if (operation.id === "streamJobs") url.searchParams.set("jobs", mine.job);
  if (operation.reads) url.searchParams.set("wait", "0");
  const body = bodyOf(operation, mine);
  const response = await fetch(url, {
    method: operation.method.toUpperCase(),
    headers: {
      accept: "application/json",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  await response.arrayBuffer();
  return response.status;
}

const operations = RESOURCES.flatMap((resource) => resource.operations);
const withTokens = operations.flatMap((operation) =>
  typeof operation.access === "string" ? [] : [{ operation, access: operation.access }],
);

const has = (scope: string | undefined, some: readonly string[] | undefined) =>
  scope !== undefined && (some ?? []).includes(scope);

/** A job that has failed takes no report, which its worker is told. */
const isDone = (operation: Operation, status: number) =>
  status < 300 || (ENDED_OR_NOT.includes(operation.id) && status === 409);
const ENDED_OR_NOT = ["updateJob", "cancelJob", "deleteBatch", "emitEvent"];

/** Those that name whose thing it is: who may not is told what he lacks, and not that there is none. */
const NAMES_ITS_OWNER = new Set([
  "createJob",
  "createBatch",
  "listJobs",
  "listBatches",
  "getCredits",
  "listCreditTransactions",
]);

/** What the rule says of a caller with one scope or none, and of whose thing it is. */
function expected(id: string, access: TokenAccess, scope: string | undefined, isOwn: boolean) {
  if (access.scopes && !has(scope, access.scopes)) return 403;
  if (isOwn || !access.others || has(scope, access.others)) return "done";
  if (NAMES_ITS_OWNER.has(id)) return 403;
  // Whoever may see it is told that he may do no more.
  return has(scope, ACCESS.getJob.others) ? 403 : 404;
}

describe("every operation", () => {
  it("has a rule, and every rule an operation", () => {
    expect(operations.map(({ id }) => id).sort()).toEqual(Object.keys(ACCESS).sort());
    for (const { id, access } of operations) expect(access).toBe(ACCESS[id as keyof typeof ACCESS]);
  });

  it("is for nobody without a token, where it needs one", async () => {
    const mine = await createOwner();
    for (const { operation } of withTokens) {
      expect([operation.id, await call(operation, mine)]).toEqual([operation.id, 401]);
    }
  });

  for (const scope of [undefined, ...SCOPES]) {
    for (const isOwn of [true, false]) {
      const whose = isOwn ? "one's own things" : "somebody else's";
      it(`is as its rule says for ${scope ?? "no scope"} and ${whose}`, async () => {
        for (const { operation, access } of withTokens) {
          const mine = await createOwner();
          const sub = isOwn ? mine.owner : "stranger";
          const status = await call(operation, mine, server.token({ sub, scope: scope ?? "" }));
          const found = isDone(operation, status) ? "done" : status;
          const wanted = expected(operation.id, access, scope, isOwn);
          expect([operation.id, found]).toEqual([operation.id, wanted]);
        }
      });
    }
  }

  it("takes a stream token where its rule says so, and for the jobs that it names", async () => {
    const [mine, other] = [await createOwner(), await createOwner()];
    const mint = async (owner: string, jobs?: string[]) => {
      const claims = { sub: owner, scope: "jobs:write" };
      const { body } = await server.call("POST", "/v1/stream-tokens", jobs ? { jobs } : {}, claims);
      return body.token;
    };
    const [ofAll, ofOne] = [await mint(mine.owner), await mint(mine.owner, [mine.job])];
    for (const { operation, access } of withTokens) {
      const about = async (whose: typeof mine, token: string) => call(operation, whose, token);
      if (operation.id === "listJobs") {
        expect(await about(mine, ofAll)).toBe(200);
        expect(await about(mine, ofOne)).toBe(403);
        continue;
      }
      if (!access.isStream && !access.isWatched) {
        expect([operation.id, await about(mine, ofAll)]).toEqual([operation.id, 403]);
        continue;
      }
      expect([operation.id, await about(mine, ofAll)]).toEqual([operation.id, 200]);
      expect([operation.id, await about(other, ofAll)]).toEqual([operation.id, 404]);
      const isOfBatch = ["streamBatch", "getBatch"].includes(operation.id);
      expect([operation.id, await about(mine, ofOne)]).toEqual([
        operation.id,
        isOfBatch ? 404 : 200,
      ]);
    }
  });
});
