import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mayBecome, STATUSES, type Status } from "../../src/protocol/status.ts";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";
import { createRandom } from "../support/random.ts";

const WORKER = bearer("worker", "jobs:write");

/** What may follow what: the one table that SQL, TypeScript and HTTP are held to. */
const MAY_BECOME: Readonly<Record<Status, readonly Status[]>> = {
  pending: ["pending", "queued", "processing", "completed", "failed", "cancelled", "timeout"],
  queued: ["queued", "processing", "completed", "failed", "cancelled", "timeout"],
  processing: ["processing", "completed", "failed", "cancelled", "timeout"],
  completed: ["completed"],
  failed: ["failed"],
  cancelled: ["cancelled"],
  timeout: ["timeout"],
};

const FINAL = ["completed", "failed", "cancelled", "timeout"] as const;

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi();
});
afterAll(() => api.close());

async function createJob(status: Status): Promise<string> {
  const { rows } = await api.pool.query(
    "insert into jobcast.jobs (owner_id, type, status) values ('ada', 't', $1) returning id",
    [status],
  );
  return rows[0].id;
}

async function read(id: string): Promise<{ status: Status; version: number; attempt: number }> {
  const { rows } = await api.pool.query("select * from jobcast.jobs where id = $1", [id]);
  return rows[0];
}

/** The SQLSTATE that a statement ends with, or "done". */
async function outcome(sql: string, params: unknown[]): Promise<string> {
  return api.pool.query(sql, params).then(
    () => "done",
    (error) => error.code,
  );
}

type Patch = Readonly<Record<string, unknown>>;

/** Every path that a patch can take to a job; each says "done" or the SQLSTATE of the refusal. */
const WRITERS: Record<string, (id: string, patch: Patch) => Promise<string>> = {
  update: (id, patch) =>
    outcome(
      `update jobcast.jobs set ${Object.keys(patch).map((key, n) => `${key} = $${n + 2}`)} where id = $1`,
      [id, ...Object.values(patch)],
    ),
  update_job: (id, patch) =>
    outcome("select jobcast.update_job($1, $2)", [id, JSON.stringify(patch)]),
  update_jobs: async (id, patch) => {
    const { rows } = await api.pool.query("select problem from jobcast.update_jobs($1)", [
      JSON.stringify([{ ...patch, id }]),
    ]);
    return rows[0].problem ?? "done";
  },
  PATCH: async (id, patch) => {
    const { status, body } = await api.request
      .patch(`/v1/jobs/${id}`)
      .set("Authorization", WORKER)
      .send(patch);
    if (status === 409 && body.code === "job_conflict") return "JC001";
    return status === 200 ? "done" : body.code;
  },
};

describe("mayBecome", () => {
  it("says what the table says of every pair", () => {
    for (const from of STATUSES) {
      const allowed = STATUSES.filter((to) => mayBecome(from, to));
      expect([from, allowed]).toEqual([from, MAY_BECOME[from]]);
    }
  });
});

describe.each(Object.keys(WRITERS))("%s", (name) => {
  const write = WRITERS[name] as (id: string, patch: Patch) => Promise<string>;

  it("allows and refuses every pair of statuses as the table says", async () => {
    for (const from of STATUSES) {
      for (const to of STATUSES) {
        const id = await createJob(from);
        const isAllowed = MAY_BECOME[from].includes(to);
        expect([from, to, await write(id, { status: to })]).toEqual([
          from,
          to,
          isAllowed ? "done" : "JC001",
        ]);
        const job = await read(id);
        const isChange = isAllowed && from !== to;
        expect([from, to, job.status, job.version]).toEqual(
          isChange ? [from, to, to, 2] : [from, to, from, 1],
        );
      }
    }
  });

  it("changes nothing of a job that has ended, whatever a late report says", async () => {
    for (const end of FINAL) {
      const id = await createJob(end);
      const before = await read(id);
      const reports = [
        { progress: 50 },
        { stage: "s", message: "m" },
        { result: JSON.stringify({ a: 1 }) },
        { status: "processing", progress: 10 },
        { status: end, progress: 10, message: "said again" },
        ...FINAL.filter((other) => other !== end).map((status) => ({ status })),
      ];
      for (const report of reports) await write(id, report);
      expect(await read(id)).toEqual(before);
    }
  });
});

describe("a late report to a job that has ended", () => {
  it("is told to be one by everything but a plain update, whose row is left alone", async () => {
    for (const [name, write] of Object.entries(WRITERS)) {
      const id = await createJob("cancelled");
      expect([name, await write(id, { progress: 50 })]).toEqual([
        name,
        name === "update" ? "done" : "JC001",
      ]);
    }
  });
});

describe("retry_job", () => {
  it("takes a failed, cancelled or timed out job to its next attempt, and no other", async () => {
    for (const status of STATUSES) {
      const id = await createJob(status);
      const isAllowed = ["failed", "cancelled", "timeout"].includes(status);
      const said = await outcome("select jobcast.retry_job($1)", [id]);
      expect([status, said]).toEqual([status, isAllowed ? "done" : "JC001"]);
      expect(await read(id)).toMatchObject(
        isAllowed
          ? { status: "pending", attempt: 2, version: 2 }
          : { status, attempt: 1, version: 1 },
      );
    }
  });

  it("is the only way to another attempt", async () => {
    for (const attempt of [0, 1, 3, 2 ** 31 - 1]) {
      const id = await createJob("failed");
      await outcome("update jobcast.jobs set attempt = $2, status = 'pending' where id = $1", [
        id,
        attempt,
      ]);
      expect(await read(id)).toMatchObject({ status: "failed", attempt: 1, version: 1 });
    }
  });

  it("is done once when many ask at once", async () => {
    const id = await createJob("failed");
    const retry = () => outcome("select jobcast.retry_job($1)", [id]);
    const outcomes = await Promise.all(Array.from({ length: 8 }, retry));
    expect(outcomes.filter((said) => said === "done")).toHaveLength(1);
    expect(await read(id)).toMatchObject({ attempt: 2, version: 2 });
  });
});

describe("ends that race", () => {
  it("leave one of them, and tell the others which", async () => {
    const random = createRandom("ends that race");
    for (let round = 0; round < 50; round++) {
      const id = await createJob("processing");
      const ends = random.shuffled([...FINAL]);
      const said = await Promise.all(
        ends.map(async (status) => ({
          status,
          problem: await api.pool
            .query("select jobcast.update_job($1, $2)", [id, { status }])
            .then(() => undefined)
            .catch((error) => JSON.parse(error.detail)),
        })),
      );
      const winners = said.filter(({ problem }) => problem === undefined);
      expect(winners).toHaveLength(1);
      const { status, version } = await read(id);
      expect(winners[0]?.status).toBe(status);
      expect(version).toBe(2);
      for (const { problem } of said) if (problem) expect(problem).toEqual({ status, version });
    }
  });
});

describe("after all of this", () => {
  it("no job differs from the newest row of its history, and no history has a hole", async () => {
    const { rows } = await api.pool.query(`
      select j.id from jobcast.jobs j
      left join jobcast.status_history h on h.job_id = j.id and h.version = j.version
      where (h.attempt, h.status, h.progress, h.stage, h.message, h.counts, h.result, h.error)
          is distinct from
            (j.attempt, j.status, j.progress, j.stage, j.message, j.counts, j.result, j.error)
        or (select count(*) from jobcast.status_history a where a.job_id = j.id) <> j.version`);
    expect(rows).toEqual([]);
  });
});
