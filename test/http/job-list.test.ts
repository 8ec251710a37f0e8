import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Job } from "../../src/protocol/job.ts";
import { jobListSchema } from "../../src/protocol/job-list.ts";
import { bearer, type JobsApi, startJobsApi } from "../support/jobs-api.ts";

let api: JobsApi;
beforeAll(async () => {
  api = await startJobsApi();
});
afterAll(() => api.close());

/** An owner of its own for each test, so that no other's jobs are in its list. */
let owners = 0;
const newOwner = () => `owner-${++owners}`;

function get(path: string, token: string) {
  return api.request.get(path).set("Authorization", token);
}

describe("GET /v1/jobs", () => {
  it("filters by status, type, batch and time of creation", async () => {
    const owner = newOwner();
    const { rows } = await api.pool.query(
      `with b as (insert into jobcast.batches (owner_id) values ($1) returning id)
       insert into jobcast.jobs (owner_id, type, status, batch_id)
       select $1, n.type, n.status, case n.i when 1 then b.id end
       from b, (values (1, 'render', 'pending'), (2, 'export', 'failed'), (3, 'render', 'queued'))
         as n (i, type, status)
       order by n.i
       returning id, batch_id`,
      [owner],
    );
    const [a, b, c] = rows;

    const ids = async (query: string) => {
      const { body } = await get(`/v1/jobs?${query}`, bearer(owner)).expect(200);
      return jobListSchema.parse(body).items.map(({ id }) => id);
    };
    expect(await ids("")).toEqual([c.id, b.id, a.id]);
    expect(await ids("status=failed,queued")).toEqual([c.id, b.id]);
    expect(await ids("status=failed&status=queued")).toEqual([c.id, b.id]);
    expect(await ids("type=render")).toEqual([c.id, a.id]);
    expect(await ids("type=render&status=pending")).toEqual([a.id]);
    expect(await ids(`batch=${a.batch_id}`)).toEqual([a.id]);
    expect(await ids("to=2001-01-01")).toEqual([]);
    expect(await ids("from=2001-01-01T00:00:00%2B02:00")).toHaveLength(3);
  });

  it("counts from as the first moment and to as the one after the last", async () => {
    const owner = newOwner();
    const at = "2020-02-02T00:00:00.123456Z";
    await api.pool.query(
      "insert into jobcast.jobs (owner_id, type, created_at) values ($1, 't', $2)",
      [owner, at],
    );
    const count = async (query: string) =>
      (await get(`/v1/jobs?${query}`, bearer(owner)).expect(200)).body.items.length;
    expect(await count(`from=${at}`)).toBe(1);
    expect(await count("from=2020-02-02T00:00:00.123457Z")).toBe(0);
    expect(await count(`to=${at}`)).toBe(0);
    expect(await count("to=2020-02-02T00:00:00.123457Z")).toBe(1);
  });

  it("gives every job once when it is paged by cursor, although they differ by microseconds", async () => {
    const owner = newOwner();
    await api.pool.query(
      `insert into jobcast.jobs (owner_id, type, created_at)
       select $1, 't', '2024-01-01T00:00:00Z'::timestamptz + (n / 3) * interval '1 microsecond'
       from generate_series(1, 250) n`,
      [owner],
    );
    const seen: string[] = [];
    let query = "limit=7";
    for (;;) {
      const { body } = await get(`/v1/jobs?${query}`, bearer(owner)).expect(200);
      seen.push(...body.items.map(({ id }: Job) => id));
      expect(body).not.toHaveProperty("total");
      if (body.nextCursor === null) break;
      query = `limit=7&cursor=${body.nextCursor}`;
    }
    const { rows } = await api.pool.query(
      "select id from jobcast.jobs where owner_id = $1 order by created_at desc, id desc",
      [owner],
    );
    expect(seen).toEqual(rows.map(({ id }) => id));
  });

  it("tells the total to those who page by offset, and a cursor to go on from there", async () => {
    const owner = newOwner();
    await api.pool.query(
      `insert into jobcast.jobs (owner_id, type)
       select $1, case n when 1 then 'other' else 'render' end from generate_series(1, 5) n`,
      [owner],
    );
    const { body } = await get("/v1/jobs?type=render&offset=1&limit=2", bearer(owner)).expect(200);
    expect(body.total).toBe(4);
    expect(body.items).toHaveLength(2);

    const next = await get(`/v1/jobs?type=render&cursor=${body.nextCursor}`, bearer(owner));
    expect(next.body.items).toHaveLength(1);
    const none = await get("/v1/jobs?offset=100", bearer(owner)).expect(200);
    expect(none.body).toMatchObject({ items: [], total: 5, nextCursor: null });
  });

  it("gives 50 jobs unless it is told otherwise", async () => {
    const owner = newOwner();
    await api.pool.query(
      "insert into jobcast.jobs (owner_id, type) select $1, 't' from generate_series(1, 51)",
      [owner],
    );
    expect((await get("/v1/jobs", bearer(owner))).body.items).toHaveLength(50);
    const { body } = await get("/v1/jobs?limit=51", bearer(owner));
    expect(body.items).toHaveLength(51);
    expect(body.nextCursor).toBeNull();
  });
});

describe("a list of large jobs", () => {
  const small = { text: "x".repeat(8_000) };
  const large = { text: "x".repeat(9_000) };

  it("leaves out what is larger than 8 KiB, and says so; the job itself has it", async () => {
    const owner = newOwner();
    const { rows } = await api.pool.query(
      `insert into jobcast.jobs (owner_id, type, title, params, metadata, status, message, result)
       values ($1, 'small', 't', $2, $2, 'completed', 'm', $2),
         ($1, 'large', repeat('t', 9000), $3, $3, 'completed', repeat('m', 9000), $3)
       returning id`,
      [owner, JSON.stringify(small), JSON.stringify(large)],
    );
    const { body } = await get("/v1/jobs", bearer(owner)).expect(200);
    const [big, little] = jobListSchema.parse(body).items;
    expect(little).toMatchObject({ params: small, metadata: small, result: small });
    expect(little).not.toHaveProperty("omitted");
    const nothing = { title: null, message: null, params: null, metadata: null, result: null };
    expect(big).toMatchObject(nothing);
    expect(big?.omitted?.toSorted()).toEqual(Object.keys(nothing).sort());
    const whole = await get(`/v1/jobs/${rows[1].id}`, bearer(owner)).expect(200);
    expect(whole.body).toMatchObject({ params: large, metadata: large, result: large });
    expect(whole.body).not.toHaveProperty("omitted");
  });

  it("leaves out what is named, whatever its size, and names what there was", async () => {
    const owner = newOwner();
    await api.pool.query(
      "insert into jobcast.jobs (owner_id, type, params, result) values ($1, 't', '{}', null)",
      [owner],
    );
    for (const query of ["omit=params,result,metadata", "omit=params&omit=result"]) {
      const { body } = await get(`/v1/jobs?${query}`, bearer(owner)).expect(200);
      expect(body.items[0]).toMatchObject({ params: null, result: null, omitted: ["params"] });
    }
    const { body } = await get("/v1/jobs?omit=status", bearer(owner)).expect(400);
    expect(body).toMatchObject({ code: "invalid_request", fields: [{ path: "query.omit.0" }] });
  });
});
