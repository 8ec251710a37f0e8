import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Job, jobSchema } from "../../src/protocol/job.ts";
import { jobHistorySchema } from "../../src/protocol/job-list.ts";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";

const WORKER = bearer("worker", "jobs:write");

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi({ publicUrl: "https://jobs.example" });
});
afterAll(() => api.close());

let owners = 0;
const newOwner = () => `owner-${++owners}`;

async function create(body: object = {}, owner = newOwner()): Promise<Job> {
  const { body: job } = await api.request
    .post("/v1/jobs")
    .set("Authorization", WORKER)
    .send({ type: "render", ownerId: owner, ...body })
    .expect(201);
  return job;
}

async function createBatch(owner: string): Promise<string> {
  const { rows } = await api.pool.query(
    "insert into jobcast.batches (owner_id) values ($1) returning id",
    [owner],
  );
  return rows[0].id;
}

async function patch(job: Job, body: object, status = 200) {
  const answer = await api.request
    .patch(`/v1/jobs/${job.id}`)
    .set("Authorization", WORKER)
    .send(body)
    .expect(status);
  return answer.body;
}

function get(path: string, token: string) {
  return api.request.get(path).set("Authorization", token);
}

describe("POST /v1/jobs", () => {
  it("creates a pending job of the caller and says where it is", async () => {
    const batchId = await createBatch("ada");
    const { body, headers } = await api.request
      .post("/v1/jobs")
      .set("Authorization", bearer("ada", "jobs:create"))
      .send({
        type: "render",
        title: "A teapot",
        params: { size: [1, 2], note: "ünïcödé 🫖" },
        metadata: { team: "x" },
        batchId,
        timeoutSeconds: 60,
      })
      .expect(201);

    const job = jobSchema.strict().parse(body);
    expect(job).toMatchObject({
      ownerId: "ada",
      type: "render",
      title: "A teapot",
      params: { size: [1, 2], note: "ünïcödé 🫖" },
      metadata: { team: "x" },
      batchId,
      status: "pending",
      progress: 0,
      version: 1,
      attempt: 1,
      source: "api",
      credits: { charged: 0, refunded: 0 },
      startedAt: null,
      finishedAt: null,
      estimatedSecondsRemaining: null,
    });
    expect(Date.parse(job.timeoutAt ?? "") - Date.parse(job.createdAt)).toBe(60_000);
    expect(job.links).toEqual({
      self: `https://jobs.example/v1/jobs/${job.id}`,
      events: `https://jobs.example/v1/jobs/${job.id}/events`,
    });
    expect(headers["location"]).toBe(job.links.self);
  });

  it("keeps any JSON value as params, arrays and scalars too", async () => {
    for (const params of [[1, { a: null }], "text", 0, false, { "": [[]] }, null]) {
      const job = await create({ params });
      expect(job.params).toEqual(params);
      expect((await get(`/v1/jobs/${job.id}`, WORKER)).body.params).toEqual(params);
    }
  });

  it("makes a job for somebody else on behalf of a worker", async () => {
    const job = await create({}, "grace");
    expect(job.ownerId).toBe("grace");
    await get(`/v1/jobs/${job.id}`, bearer("grace")).expect(200);
  });
});

describe("GET /v1/jobs/{id}", () => {
  it("answers with the job as its newest version left it", async () => {
    const job = await create();
    await patch(job, { status: "processing", progress: 40, stage: "mesh", message: "half way" });
    await api.pool.query(
      `select set_config('jobcast.source', 'psql', true);
       update jobcast.jobs set stage = 'paint' where id = '${job.id}'`,
    );

    const { body } = await get(`/v1/jobs/${job.id}`, WORKER).expect(200);
    expect(jobSchema.strict().parse(body)).toMatchObject({
      version: 3,
      status: "processing",
      progress: 40,
      stage: "paint",
      message: "half way",
      source: "psql",
    });
  });

  it("tells the estimate of the newest version and not of the moment", async () => {
    const job = await create();
    await patch(job, { status: "processing" });
    // An hour ago, by the back door: the rules keep started_at to themselves.
    await api.pool.query("alter table jobcast.jobs disable trigger user");
    await api.pool.query(
      "update jobcast.jobs set started_at = started_at - interval '1 hour' where id = $1",
      [job.id],
    );
    await api.pool.query("alter table jobcast.jobs enable trigger user");
    const updated = await patch(job, { progress: 50 });
    expect(updated.estimatedSecondsRemaining).toBe(3_600);

    const { body } = await get(`/v1/jobs/${job.id}`, WORKER).expect(200);
    const { body: history } = await get(`/v1/jobs/${job.id}/history`, WORKER).expect(200);
    expect(body.estimatedSecondsRemaining).toBe(3_600);
    expect(history.items.at(-1).estimatedSecondsRemaining).toBe(3_600);
    expect(body.occurredAt).toBe(history.items.at(-1).occurredAt);
  });

  it("finds a job by an id in upper case, and one whose id no RFC foresaw", async () => {
    const job = await create();
    const { body } = await get(`/v1/jobs/${job.id.toUpperCase()}`, WORKER).expect(200);
    expect(body.id).toBe(job.id);

    const id = "00000000-0000-0000-0000-000000000001";
    await api.pool.query("insert into jobcast.jobs (id, owner_id, type) values ($1, 'o', 't')", [
      id,
    ]);
    await get(`/v1/jobs/${id}`, WORKER).expect(200);
  });

  it("tells null for a timeout that a producer set to infinity", async () => {
    const job = await create();
    await api.pool.query("update jobcast.jobs set timeout_at = 'infinity' where id = $1", [job.id]);
    const { body } = await get(`/v1/jobs/${job.id}`, WORKER).expect(200);
    expect(body.timeoutAt).toBeNull();
  });
});

describe("GET /v1/jobs/{id}/history", () => {
  it("pages through the versions in ascending order", async () => {
    const owner = newOwner();
    const job = await create({ batchId: await createBatch(owner) }, owner);
    for (const progress of [10, 20, 30, 40]) await patch(job, { progress });

    const first = await get(`/v1/jobs/${job.id}/history?limit=2`, WORKER).expect(200);
    const page = jobHistorySchema.parse(first.body);
    expect(page.items.map(({ version }) => version)).toEqual([1, 2]);
    expect(page.items[1]).toMatchObject({ jobId: job.id, batchId: job.batchId, progress: 10 });

    for (const name of ["cursor", "after"]) {
      const query = `${name}=${page.nextCursor}`;
      const rest = await get(`/v1/jobs/${job.id}/history?${query}`, WORKER).expect(200);
      expect(rest.body.items.map((event: { version: number }) => event.version)).toEqual([3, 4, 5]);
      expect(rest.body.nextCursor).toBeNull();
    }
  });

  it("has no next page when the last one is just full", async () => {
    const job = await create();
    await patch(job, { progress: 10 });
    const { body } = await get(`/v1/jobs/${job.id}/history?limit=2`, WORKER).expect(200);
    expect(body.items).toHaveLength(2);
    expect(body.nextCursor).toBeNull();
    const beyond = await get(`/v1/jobs/${job.id}/history?after=99`, WORKER).expect(200);
    expect(beyond.body).toEqual({ items: [], nextCursor: null });
  });
});

describe("POST /v1/jobs/{id}/cancel", () => {
  it("ends the job with the owner's message, and is the same when said again", async () => {
    const owner = newOwner();
    const job = await create({}, owner);
    const cancel = () =>
      api.request
        .post(`/v1/jobs/${job.id}/cancel`)
        .set("Authorization", bearer(owner))
        .send({ message: "no longer needed" })
        .expect(200);
    const { body } = await cancel();
    expect(body).toMatchObject({ status: "cancelled", message: "no longer needed", version: 2 });
    expect(body.finishedAt).not.toBeNull();
    expect((await cancel()).body).toEqual(body);
  });

  it("needs no body", async () => {
    const owner = newOwner();
    const bodies: ((test: ReturnType<typeof api.request.post>) => typeof test)[] = [
      (test) => test,
      (test) => test.set("Content-Length", "0"),
      (test) => test.set("Content-Type", "application/json"),
      (test) => test.send({}),
    ];
    for (const withBody of bodies) {
      const { id } = await create({}, owner);
      const test = api.request.post(`/v1/jobs/${id}/cancel`).set("Authorization", bearer(owner));
      expect((await withBody(test).expect(200)).body.status).toBe("cancelled");
    }
  });
});

describe("POST /v1/jobs/{id}/retry", () => {
  it("begins the next attempt with a clean slate", async () => {
    const owner = newOwner();
    const job = await create({ timeoutSeconds: 60 }, owner);
    await patch(job, { progress: 70, stage: "s", counts: { total: 3, completed: 1, failed: 2 } });
    await patch(job, { status: "failed", error: { code: "oom", message: "too big" } });
    const { body } = await api.request
      .post(`/v1/jobs/${job.id}/retry`)
      .set("Authorization", bearer(owner))
      .expect(200);
    expect(body).toMatchObject({
      status: "pending",
      attempt: 2,
      version: 4,
      progress: 0,
      stage: null,
      counts: null,
      error: null,
      startedAt: null,
      finishedAt: null,
      source: "api",
    });
  });

  it("can say why", async () => {
    const owner = newOwner();
    const job = await create({}, owner);
    await patch(job, { status: "failed", message: "no disk" });
    const { body } = await api.request
      .post(`/v1/jobs/${job.id}/retry`)
      .set("Authorization", bearer(owner))
      .send({ message: "once more" })
      .expect(200);
    expect(body).toMatchObject({ attempt: 2, version: 3, message: "once more" });
  });
});

describe("PATCH /v1/jobs/{id}", () => {
  it("changes what is named, empties what is null and leaves the rest", async () => {
    const job = await create();
    await patch(job, { status: "processing", progress: 10, stage: "a", message: "b" });
    const body = await patch(job, {
      stage: null,
      counts: { total: 4, completed: 1, failed: 0 },
      result: [{ part: 1 }],
    });
    expect(body).toMatchObject({
      version: 3,
      progress: 10,
      stage: null,
      message: "b",
      counts: { total: 4, completed: 1, failed: 0 },
      result: [{ part: 1 }],
      source: "api",
    });
    expect((await patch(job, { counts: null, result: null })).result).toBeNull();
  });

  it("takes whole numbers however JSON writes them", async () => {
    const job = await create();
    const { body } = await api.request
      .patch(`/v1/jobs/${job.id}`)
      .set("Authorization", WORKER)
      .set("Content-Type", "application/json")
      .send('{"attempt":1.0,"progress":5e1,"counts":{"total":2.0,"completed":1e0,"failed":0}}')
      .expect(200);
    expect(body).toMatchObject({ progress: 50, counts: { total: 2, completed: 1, failed: 0 } });
  });

  it("makes no version for an update that changes nothing", async () => {
    const job = await create();
    const before = await patch(job, { progress: 50, message: "x" });
    expect(await patch(job, { progress: 50, message: "x" })).toEqual(before);
    expect(await patch(job, {})).toEqual(before);
    expect(await patch(job, { progress: 20, message: "late" })).toEqual(before);
  });

  it("starts, fails and completes a job", async () => {
    const job = await create();
    expect((await patch(job, { status: "processing" })).startedAt).not.toBeNull();
    const done = await patch(job, { status: "completed", result: { url: "u" } });
    expect(done).toMatchObject({ status: "completed", progress: 100, result: { url: "u" } });
    const other = await create();
    const failed = await patch(other, { status: "failed", error: { code: "c", message: "m" } });
    expect(failed).toMatchObject({ status: "failed", error: { code: "c", message: "m" } });
  });

  it("refuses a worker of an attempt that was replaced, however it reports", async () => {
    const job = await create();
    await patch(job, { attempt: 1, status: "failed" });
    await api.request.post(`/v1/jobs/${job.id}/retry`).set("Authorization", WORKER).expect(200);
    for (const body of [{ progress: 90 }, { status: "completed" }, { status: "failed" }]) {
      const problem = await patch(job, { ...body, attempt: 1 }, 409);
      expect(problem).toMatchObject({ code: "attempt_mismatch", job: { attempt: 2 } });
    }
    expect((await patch(job, { attempt: 2, progress: 5 })).version).toBe(4);
  });
});

describe("PATCH /v1/jobs", () => {
  async function patchMany(updates: object[]) {
    const { body } = await api.request
      .patch("/v1/jobs")
      .set("Authorization", WORKER)
      .send({ updates })
      .expect(200);
    return body.results;
  }

  it("answers each update in order, and one refusal undoes none of the others", async () => {
    const [a, b, c] = [await create(), await create(), await create()];
    await patch(b, { status: "completed" });
    const missing = "0190f3c2-0000-7000-8000-000000000000";
    const results = await patchMany([
      { id: c.id, progress: 30 },
      { id: missing, progress: 1 },
      { id: b.id, progress: 30 },
      { id: "no-id-at-all", progress: 1 },
      { id: a.id, attempt: 7, progress: 1 },
      { id: a.id.toUpperCase(), status: "processing", progress: 20 },
    ]);
    expect(results).toMatchObject([
      { id: c.id, ok: true, job: { id: c.id, progress: 30, version: 2, source: "api" } },
      { id: missing, ok: false, problem: { code: "not_found", status: 404 } },
      {
        id: b.id,
        ok: false,
        problem: { code: "job_conflict", status: 409, job: { status: "completed", version: 2 } },
      },
      { id: "no-id-at-all", ok: false, problem: { code: "not_found" } },
      { id: a.id, ok: false, problem: { code: "attempt_mismatch", job: { attempt: 1 } } },
      { id: a.id.toUpperCase(), ok: true, job: { id: a.id, progress: 20, version: 2 } },
    ]);
    expect(results[1].problem).toEqual(results[3].problem);
    expect(jobSchema.strict().parse(results[0].job).links.self).toContain("https://");
    expect((await get(`/v1/jobs/${a.id}`, WORKER)).body).toEqual(results[5].job);
  });

  it("applies several updates of one job one after the other, however its id is written", async () => {
    const job = await create();
    const results = await patchMany([
      { id: job.id, progress: 10 },
      { id: job.id.toUpperCase(), progress: 20, stage: "s" },
      { id: job.id, status: "completed" },
      { id: job.id, progress: 30 },
    ]);
    expect(results.map((result: { ok: boolean; job?: Job }) => result.job?.version)).toEqual([
      2,
      3,
      4,
      undefined,
    ]);
    expect(results[3].problem.code).toBe("job_conflict");
  });

  it("carries out the others when PostgreSQL refuses one", async () => {
    const ids = await Promise.all([1, 2, 3].map(async () => (await create()).id));
    await api.pool.query(`
      create function public.refuse() returns trigger language plpgsql as $$
      begin raise check_violation using message = 'not this one'; end $$;
      create trigger refuse before update on jobcast.jobs for each row
        when (new.message = 'refused') execute function public.refuse()`);
    const updates = [
      `{"id":"${ids[0]}","progress":10,"message":"refused"}`,
      // Whole numbers, as some languages write them.
      `{"id":"${ids[1]}","progress":20.0,"attempt":1.0}`,
      // No double is so small, and it is none for JavaScript.
      `{"id":"${ids[2]}","progress":1e-400}`,
      `{"id":"${ids[2]}","progress":30,"attempt":1e0}`,
    ];
    const { body } = await api.request
      .patch("/v1/jobs")
      .set("Authorization", WORKER)
      .set("Content-Type", "application/json")
      .send(`{"updates":[${updates}]}`)
      .expect(200);
    await api.pool.query("drop function public.refuse() cascade");
    expect(body.results).toMatchObject([
      { ok: false, problem: { code: "invalid_request", status: 400 } },
      { ok: true, job: { progress: 20 } },
      { ok: false, problem: { code: "invalid_request" } },
      { ok: true, job: { progress: 30, version: 2 } },
    ]);
  });

  it("takes a thousand updates in one transaction", async () => {
    const owner = newOwner();
    const { rows } = await api.pool.query(
      "insert into jobcast.jobs (owner_id, type) select $1, 't' from generate_series(1, 1000) returning id",
      [owner],
    );
    const results = await patchMany(rows.map(({ id }, n) => ({ id, progress: 1 + (n % 99) })));
    expect(results.every(({ ok }: { ok: boolean }) => ok)).toBe(true);
    const { rows: history } = await api.pool.query(
      `select count(*), count(distinct h.xid) as transactions
       from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
       where j.owner_id = $1 and h.version = 2 and h.source = 'api'`,
      [owner],
    );
    expect(history).toEqual([{ count: 1_000, transactions: 1 }]);
  });
});
