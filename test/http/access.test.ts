import type { Response } from "supertest";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Job } from "../../src/protocol/job.ts";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";

const MISSING = "0190f3c2-0000-7000-8000-000000000000";

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi();
});
afterAll(() => api.close());

async function createJob(ownerId: string, status = "pending"): Promise<string> {
  const { rows } = await api.pool.query(
    "insert into jobcast.jobs (owner_id, type, status) values ($1, 't', $2) returning id",
    [ownerId, status],
  );
  return rows[0].id;
}

type Send = (token: string, id: string) => PromiseLike<Response>;

function calling(method: "get" | "post" | "patch", path: string, body?: object): Send {
  return (token, id) => {
    const test = api.request[method](path.replace(":id", id));
    if (token !== "") test.set("Authorization", token);
    return body ? test.send(body) : test;
  };
}

const OPERATIONS = {
  read: calling("get", "/v1/jobs/:id"),
  history: calling("get", "/v1/jobs/:id/history"),
  cancel: calling("post", "/v1/jobs/:id/cancel"),
  retry: calling("post", "/v1/jobs/:id/retry"),
  update: calling("patch", "/v1/jobs/:id", { message: "m" }),
  updateMany: calling("patch", "/v1/jobs", { updates: [{ id: MISSING, progress: 1 }] }),
  createForBob: calling("post", "/v1/jobs", { type: "t", ownerId: "bob" }),
  createForAda: calling("post", "/v1/jobs", { type: "t", ownerId: "ada" }),
  list: calling("get", "/v1/jobs"),
  listOfAda: calling("get", "/v1/jobs?owner=ada"),
} satisfies Record<string, Send>;

type Operation = keyof typeof OPERATIONS;

/** What each caller gets for a job of ada's: one table, so that no pair is forgotten. */
const MATRIX: Record<string, { token: string; expected: Record<Operation, number> }> = {
  nobody: {
    token: "",
    expected: {
      read: 401,
      history: 401,
      cancel: 401,
      retry: 401,
      update: 401,
      updateMany: 401,
      createForBob: 401,
      createForAda: 401,
      list: 401,
      listOfAda: 401,
    },
  },
  "ada, without scope": {
    token: bearer("ada"),
    expected: {
      read: 200,
      history: 200,
      cancel: 200,
      retry: 200,
      update: 403,
      updateMany: 403,
      createForBob: 403,
      createForAda: 403,
      list: 200,
      listOfAda: 200,
    },
  },
  "ada with jobs:create": {
    token: bearer("ada", "jobs:create"),
    expected: {
      read: 200,
      history: 200,
      cancel: 200,
      retry: 200,
      update: 403,
      updateMany: 403,
      createForBob: 403,
      createForAda: 201,
      list: 200,
      listOfAda: 200,
    },
  },
  "bob, without scope": {
    token: bearer("bob"),
    expected: {
      read: 404,
      history: 404,
      cancel: 404,
      retry: 404,
      update: 403,
      updateMany: 403,
      createForBob: 403,
      createForAda: 403,
      list: 200,
      listOfAda: 403,
    },
  },
  "bob with jobs:create": {
    token: bearer("bob", "jobs:create"),
    expected: {
      read: 404,
      history: 404,
      cancel: 404,
      retry: 404,
      update: 403,
      updateMany: 403,
      createForBob: 201,
      createForAda: 403,
      list: 200,
      listOfAda: 403,
    },
  },
  "bob with jobs:read": {
    token: bearer("bob", "jobs:read"),
    expected: {
      read: 200,
      history: 200,
      cancel: 403,
      retry: 403,
      update: 403,
      updateMany: 403,
      createForBob: 403,
      createForAda: 403,
      list: 200,
      listOfAda: 200,
    },
  },
  "bob with jobs:write": {
    token: bearer("bob", "jobs:write"),
    expected: {
      read: 200,
      history: 200,
      cancel: 200,
      retry: 200,
      update: 200,
      updateMany: 200,
      createForBob: 201,
      createForAda: 201,
      list: 200,
      listOfAda: 200,
    },
  },
  "bob with the scopes of other things": {
    token: bearer("bob", "credits:grant stats:read jobs jobs:writes JOBS:READ"),
    expected: {
      read: 404,
      history: 404,
      cancel: 404,
      retry: 404,
      update: 403,
      updateMany: 403,
      createForBob: 403,
      createForAda: 403,
      list: 200,
      listOfAda: 403,
    },
  },
};

const CODES: Record<number, string> = {
  401: "unauthenticated",
  403: "insufficient_scope",
  404: "not_found",
};

describe("access to a job of ada's", () => {
  for (const [caller, { token, expected }] of Object.entries(MATRIX)) {
    it(`is as the table says for ${caller}`, async () => {
      for (const operation of Object.keys(OPERATIONS) as Operation[]) {
        const id = await createJob("ada", operation === "retry" ? "failed" : "pending");
        const { status, body } = await OPERATIONS[operation](token, id);
        expect([operation, status]).toEqual([operation, expected[operation]]);
        if (status >= 400) expect(body.code).toBe(CODES[status]);
        const { rows } = await api.pool.query("select version from jobcast.jobs where id = $1", [
          id,
        ]);
        const isWrite = ["cancel", "retry", "update"].includes(operation);
        expect(rows[0].version).toBe(isWrite && status === 200 ? 2 : 1);
      }
    });
  }
});

describe("a job that the caller may not know of", () => {
  const sends = [
    OPERATIONS.read,
    OPERATIONS.history,
    OPERATIONS.cancel,
    OPERATIONS.retry,
    calling("post", "/v1/jobs/:id/cancel", { mesage: "a wrong body" }),
  ];

  it("is the same 404 as none and as an id that is none, byte for byte", async () => {
    const foreign = await createJob("ada");
    for (const send of sends) {
      const answers = [];
      for (const id of [
        foreign,
        MISSING,
        "x",
        "%00",
        `{${MISSING}}`,
        MISSING.replaceAll("-", ""),
      ]) {
        const { status, text, headers } = await send(bearer("bob"), id);
        delete headers["date"];
        delete headers["x-request-id"];
        answers.push({ status, text, headers });
      }
      expect(answers[0]).toMatchObject({ status: 404 });
      for (const answer of answers) expect(answer).toEqual(answers[0]);
    }
  });

  it("is the same 403 as any other to those who may not update, before anything is looked up", async () => {
    const ids = [await createJob("bob"), await createJob("ada"), MISSING, "x"];
    const answers = [];
    for (const id of ids) answers.push((await OPERATIONS.update(bearer("bob"), id)).text);
    const invalid = await calling("patch", "/v1/jobs/:id", { progress: 200 })(
      bearer("bob"),
      MISSING,
    );
    expect(new Set([...answers, invalid.text]).size).toBe(1);
    expect(JSON.parse(invalid.text).code).toBe("insufficient_scope");
  });

  it("is in no list but for those who may read every job", async () => {
    const id = await createJob("carol");
    const hasIt = async (token: string, query = "") => {
      const { body } = await api.request.get(`/v1/jobs${query}`).set("Authorization", token);
      return body.items.some((job: Job) => job.id === id);
    };
    expect(await hasIt(bearer("carol"))).toBe(true);
    expect(await hasIt(bearer("dave"))).toBe(false);
    expect(await hasIt(bearer("dave", "jobs:create"))).toBe(false);
    for (const scope of ["jobs:read", "jobs:write"]) {
      expect(await hasIt(bearer("dave", scope))).toBe(true);
      expect(await hasIt(bearer("dave", scope), "?owner=carol")).toBe(true);
      expect(await hasIt(bearer("dave", scope), "?owner=dave")).toBe(false);
    }
  });
});
