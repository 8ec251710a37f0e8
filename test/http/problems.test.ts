import { STATUS_CODES } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ERROR_CODES, JobcastError } from "../../src/errors.ts";
import { defineOperation } from "../../src/http/operation.ts";
import { PROBLEM_STATUS, toProblem } from "../../src/http/problem.ts";
import { problemSchema } from "../../src/protocol/problem.ts";
import { openTestPool } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";
import { rawRequest } from "../support/raw-request.ts";

const WORKER = bearer("worker", "jobs:write");
const NOBODYS_JOB = "0190f3c2-0000-7000-8000-000000000000";
const ORIGIN = "https://app.example";

const broken = {
  method: "get",
  summary: "It fails",
  description: "It fails in a way that ours should not.",
  access: {},
  answers: {},
  problems: [],
} as const;

const operations = [
  defineOperation({
    ...broken,
    id: "unknown",
    path: "/broken/unknown",
    handler() {
      throw new Error("the password is hunter2");
    },
  }),
  defineOperation({
    ...broken,
    id: "late",
    path: "/broken/late",
    handler(_parts, { res }) {
      res.write("only the beginning");
      throw new Error("too late for a status");
    },
  }),
];

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi({ corsOrigins: [ORIGIN], operations });
});
afterAll(() => api.close());

async function createJob(status = "pending"): Promise<string> {
  const { rows } = await api.pool.query(
    "insert into jobcast.jobs (owner_id, type, status) values ('ada', 't', $1) returning id",
    [status],
  );
  return rows[0].id;
}

function post(body: string | object | undefined, contentType = "application/json") {
  return api.request
    .post("/v1/jobs")
    .set("Authorization", WORKER)
    .set("Content-Type", contentType)
    .send(body);
}

function pathsOf(body: { fields: { path: string }[] }): string[] {
  return body.fields.map(({ path }) => path);
}

describe("a problem", () => {
  it("is a document of RFC 9457 that no cache keeps", async () => {
    const { body, headers } = await api.request
      .get(`/v1/jobs/${NOBODYS_JOB}`)
      .set("Authorization", WORKER)
      .expect(404);
    expect(problemSchema.strict().parse(body)).toEqual({
      type: "about:blank",
      title: "Not Found",
      status: 404,
      detail: "There is no such job, or it is not yours.",
      code: "not_found",
    });
    expect(headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    expect(headers["cache-control"]).toBe("no-store");
    expect(headers["vary"]).toMatch(/\bAuthorization\b/);
  });
});

describe("every code", () => {
  it("has a status and a title, and what it tells besides cannot pass for them", () => {
    for (const code of ERROR_CODES) {
      const details = { status: "completed", code: "other", job: { version: 7 } };
      const problem = toProblem(new JobcastError(code, "a sentence", { details }));
      expect(problemSchema.parse(problem)).toMatchObject({
        status: PROBLEM_STATUS[code],
        title: STATUS_CODES[PROBLEM_STATUS[code]],
        code,
        detail: "a sentence",
        job: { version: 7 },
      });
    }
  });
});

describe("400 invalid_request", () => {
  it("names every wrong field of a body by its path", async () => {
    const { body } = await post({
      type: "",
      params: { a: "\u0000" },
      metadata: [],
      credits: -1,
      owner: "ada",
      timeoutSeconds: 0.5,
      batchId: "b",
    }).expect(400);
    expect(body.code).toBe("invalid_request");
    expect(pathsOf(body).sort()).toEqual([
      "body.batchId",
      "body.credits",
      "body.metadata",
      "body.owner",
      "body.params",
      "body.timeoutSeconds",
      "body.type",
    ]);
  });

  it("names the wrong item of many updates", async () => {
    const { body } = await api.request
      .patch("/v1/jobs")
      .set("Authorization", WORKER)
      .send({
        updates: [
          { id: "a", progress: 1 },
          { id: "b", progress: 101, state: "x" },
        ],
      })
      .expect(400);
    expect(pathsOf(body)).toEqual(["body.updates.1.progress", "body.updates.1.state"]);
  });

  it.each([
    ["no update", { updates: [] }, "body.updates"],
    ["too many", { updates: Array(1_001).fill({ id: "a" }) }, "body.updates"],
  ])("refuses %s at once", async (_, updates, path) => {
    const { body } = await api.request
      .patch("/v1/jobs")
      .set("Authorization", WORKER)
      .send(updates)
      .expect(400);
    expect(pathsOf(body)).toEqual([path]);
  });

  it.each([
    [{ progress: -1 }],
    [{ progress: 100.5 }],
    [{ progress: "50" }],
    [{ progress: null }],
    [{ status: "done" }],
    [{ status: null }],
    [{ attempt: 0 }],
    [{ counts: { total: 1, completed: 0 } }],
    [{ counts: { total: 1, completed: 0, failed: 0.5 } }],
    [{ error: { code: "x" } }],
    [{ error: { code: "x", message: "y", stack: "z" } }],
    [{ error: { code: "", message: "y" } }],
    [{ message: "half \ud83e" }],
    [{ result: { "\u0000": 1 } }],
    [{ type: "cannot change" }],
    [[]],
    [null],
    ["text"],
  ])("refuses the update %j", async (update) => {
    const id = await createJob();
    const { body } = await api.request
      .patch(`/v1/jobs/${id}`)
      .set("Authorization", WORKER)
      .set("Content-Type", "application/json")
      .send(JSON.stringify(update))
      .expect(400);
    expect(body.code).toBe("invalid_request");
    const { rows } = await api.pool.query("select version from jobcast.jobs where id = $1", [id]);
    expect(rows).toEqual([{ version: 1 }]);
  });

  it.each([
    "limit=0",
    "limit=101",
    "limit=",
    "limit=1e1",
    "limit=5&limit=6",
    "offset=-1",
    "offset=1&cursor=x",
    "cursor=x",
    "cursor=",
    "status=done",
    "status=",
    "status=queued,",
    "batch=b",
    "from=yesterday",
    "from=2024-01-01T00:00:00",
    "from=0000-01-01",
    "to=2024-02-30",
    "type=%00",
    "limit=1&limit=2",
    "stauts=failed",
    "__proto__=1",
  ])("refuses the list of ?%s", async (query) => {
    const { body } = await api.request
      .get(`/v1/jobs?${query}`)
      .set("Authorization", WORKER)
      .expect(400);
    expect(body.code).toBe("invalid_request");
  });

  it("refuses a cursor whose moment PostgreSQL cannot read", async () => {
    const cursor = Buffer.from(`2024-13-45T99:00:00.000000Z${NOBODYS_JOB}`).toString("base64url");
    const { body } = await api.request
      .get(`/v1/jobs?cursor=${cursor}`)
      .set("Authorization", WORKER)
      .expect(400);
    expect(body.code).toBe("invalid_request");
  });

  it("refuses a batch that is not the owner's like one that there is not", async () => {
    const { rows } = await api.pool.query(
      "insert into jobcast.batches (owner_id) values ('grace') returning id",
    );
    for (const batchId of [rows[0].id, NOBODYS_JOB]) {
      const { body } = await post({ type: "t", ownerId: "ada", batchId }).expect(400);
      expect(body.fields).toEqual([{ path: "body.batchId", message: "is no batch of this owner" }]);
    }
  });
});

describe("401 unauthenticated", () => {
  it("asks for a bearer token", async () => {
    const { body, headers } = await api.request.get("/v1/jobs").expect(401);
    expect(body.code).toBe("unauthenticated");
    expect(headers["www-authenticate"]).toMatch(/^Bearer /);
    expect(headers["cache-control"]).toBe("no-store");
  });
});

describe("402 insufficient_credits", () => {
  it("tells what a job costs and what is there", async () => {
    const { body } = await post({ type: "t", ownerId: "broke", credits: 5 }).expect(402);
    expect(body).toMatchObject({
      code: "insufficient_credits",
      status: 402,
      credits: { needed: 5, balance: 0 },
    });
  });

  it("refuses a retry too", async () => {
    await api.pool.query("select jobcast.grant_credits('payer', 7)");
    const createPaidJob = async (credits: number): Promise<string> => {
      const { rows } = await api.pool.query(
        "insert into jobcast.jobs (owner_id, type, credits) values ('payer', 't', $1) returning id",
        [credits],
      );
      return rows[0].id;
    };
    const id = await createPaidJob(7);
    await api.pool.query("select jobcast.cancel_job($1)", [id]);
    await createPaidJob(3);
    const { body } = await api.request
      .post(`/v1/jobs/${id}/retry`)
      .set("Authorization", bearer("payer"))
      .expect(402);
    expect(body).toMatchObject({
      code: "insufficient_credits",
      status: 402,
      credits: { needed: 7, balance: 4 },
    });
  });
});

describe("409 job_conflict", () => {
  it("tells the job's present status and version", async () => {
    const id = await createJob("completed");
    const attempts = [
      api.request.patch(`/v1/jobs/${id}`).send({ status: "failed" }),
      api.request.patch(`/v1/jobs/${id}`).send({ status: "pending" }),
      api.request.patch(`/v1/jobs/${id}`).send({ progress: 3 }),
      api.request.post(`/v1/jobs/${id}/cancel`),
      api.request.post(`/v1/jobs/${id}/retry`),
    ];
    for (const attempt of attempts) {
      const { body } = await attempt.set("Authorization", WORKER).expect(409);
      expect(body).toMatchObject({
        status: 409,
        code: "job_conflict",
        job: { status: "completed", version: 1 },
      });
    }
  });
});

describe("422 idempotency_key_reused", () => {
  it("refuses a key that another request of this owner had", async () => {
    const send = (ownerId: string, type: string) =>
      post({ type, ownerId }).set("Idempotency-Key", "order-1");
    const { body: job } = await send("kim", "a").expect(201);
    // The URL for callbacks is signed anew, with the second in which it was.
    const links = { ...job.links, callback: expect.stringContaining(job.id) };
    expect((await send("kim", "a").expect(201)).body).toEqual({ ...job, links });
    expect((await send("kim", "b").expect(422)).body.code).toBe("idempotency_key_reused");
    expect((await send("lee", "b").expect(201)).body.id).not.toBe(job.id);
  });
});

describe("500 internal", () => {
  it("says nothing of what went wrong, which the log does", async () => {
    const { text, body } = await api.request
      .get("/broken/unknown")
      .set("Authorization", WORKER)
      .expect(500);
    expect(body.code).toBe("internal");
    expect(text).not.toMatch(/hunter2|at .*\.ts/);
    const line = api.logged.find(({ level }) => level === 50);
    expect(JSON.stringify(line)).toMatch(/hunter2.*problems\.test\.ts/);
  });

  it("tears the connection down when the answer has begun, so that nobody takes it for whole", async () => {
    const before = api.logged.length;
    const { text, ending } = await rawRequest(
      api.port,
      `GET /broken/late HTTP/1.1\r\nHost: a\r\nAuthorization: ${WORKER}\r\n\r\n`,
    );
    expect(ending).not.toBe("open");
    // Without the empty chunk that would be the end of a whole answer.
    expect(text).toMatch(/only the beginning\r\n$/);
    expect(JSON.stringify(api.logged.slice(before))).toContain("too late for a status");
  });
});

describe("503 database_unavailable", () => {
  it("asks the clients to come back, each at a time of its own", async () => {
    // A port that nobody listens on.
    const dead = await startJobsApi({ databaseUrl: "postgres://a:b@127.0.0.1:1/c" });
    try {
      const waits = new Set<string>();
      for (let n = 0; n < 20; n++) {
        const { body, headers } = await dead.request
          .get("/v1/jobs")
          .set("Authorization", WORKER)
          .expect(503);
        expect(body.code).toBe("database_unavailable");
        expect(JSON.stringify(body)).not.toContain("127.0.0.1");
        expect(Number(headers["retry-after"])).toBeGreaterThan(0);
        waits.add(headers["retry-after"] ?? "");
      }
      expect(waits.size).toBeGreaterThan(1);
      await dead.request.get("/healthz").expect(200);
    } finally {
      await dead.close();
    }
  });

  it("is the answer when the server ends our session in the middle of a query", async () => {
    const id = await createJob();
    const holder = await api.pool.connect();
    const admin = openTestPool(api.databaseUrl);
    try {
      await holder.query("begin");
      await holder.query("select from jobcast.jobs where id = $1 for update", [id]);
      const answer = api.request
        .patch(`/v1/jobs/${id}`)
        .set("Authorization", WORKER)
        .send({ progress: 1 })
        .then((response) => response);
      await until(
        async () => {
          const { rowCount } = await admin.query(
            `select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'`,
          );
          return rowCount === 1;
        },
        10_000,
        "the update to wait for the lock",
      );
      const { status, body } = await answer;
      expect([status, body.code]).toEqual([503, "database_unavailable"]);
    } finally {
      await holder.query("rollback");
      holder.release();
      await admin.end();
    }
  });
});
