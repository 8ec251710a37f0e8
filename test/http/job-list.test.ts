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

  it("counts a day whole, at both ends", async () => {
    const owner = newOwner();
    await api.pool.query(
      `insert into jobcast.jobs (owner_id, type, created_at)
       select $1, 't', d from unnest(array['2020-02-28T00:00:00Z', '2020-02-28T23:59:59.999999Z',
         '2020-02-29T12:00:00Z', '2020-03-01T00:00:00Z']::timestamptz[]) d`,
      [owner],
    );
    const count = async (query: string) =>
      (await get(`/v1/jobs?${query}`, bearer(owner)).expect(200)).body.items.length;
    expect(await count("from=2020-02-28&to=2020-02-28")).toBe(2);
    expect(await count("to=2020-02-29")).toBe(3);
    expect(await count("from=2020-02-29")).toBe(2);
    expect(await count("to=9999-12-31")).toBe(4);
  });

  it("finds what is in a title, at the start of an id, or in the metadata", async () => {
    const owner = newOwner();
    const create = async (title: string | null, metadata: object | null) => {
      const { rows } = await api.pool.query(
        "select id from jobcast.create_job($1, 't', title => $2, metadata => $3)",
        [owner, title, metadata],
      );
      return rows[0].id as string;
    };
    const bicycle = await create("A Red 100% Bicycle_1", {
      project: "a",
      tags: ["x", "y"],
      n: 1.5,
    });
    const boat = await create("boat", { project: "b", deep: { a: { b: 1 } } });
    const bare = await create(null, null);
    const find = async (query: Record<string, string>) => {
      const search = new URLSearchParams(query).toString();
      const { body } = await get(`/v1/jobs?${search}`, bearer(owner)).expect(200);
      return body.items.map(({ id }: { id: string }) => id);
    };
    expect(await find({ q: "red 100% b" })).toEqual([bicycle]);
    expect(await find({ q: "E_1" })).toEqual([bicycle]);
    expect(await find({ q: "e%1" })).toEqual([]);
    expect(await find({ q: bare.slice(0, 30).toUpperCase() })).toEqual([bare]);
    expect(await find({ metadata: '{"project":"a"}' })).toEqual([bicycle]);
    expect(await find({ metadata: '{"tags":["y"],"n":1.50}' })).toEqual([bicycle]);
    expect(await find({ metadata: '{"deep":{"a":{}}}', q: "BOAT" })).toEqual([boat]);
    expect(await find({ metadata: "{}" })).toEqual([boat, bicycle]);
    const { body } = await get(`/v1/jobs?offset=0&q=b`, bearer(owner)).expect(200);
    expect(body.total).toBe(2);
  });

  it.each([
    "q=",
    "metadata=x",
    "metadata=[]",
    "metadata=1",
    "metadata=null",
    "sort=title",
    `q=${"x".repeat(201)}`,
  ])("refuses ?%s", async (query) => {
    await get(`/v1/jobs?${query}`, bearer(newOwner())).expect(400);
  });

  it("gives only the members that are named, as they are written", async () => {
    const owner = newOwner();
    await api.pool.query(
      `select jobcast.create_job($1, 't', title => 'A, "b"', params => '{"n": 750727362669608961}',
         metadata => '{"a": [1]}')`,
      [owner],
    );
    const { body, text } = await get(
      "/v1/jobs?fields=status,id,params&fields=links",
      bearer(owner),
    );
    expect(Object.keys(body.items[0])).toEqual(["id", "status", "params", "links"]);
    expect(text).toContain('"params":{"n": 750727362669608961}');
    const few = await get("/v1/jobs?fields=title", bearer(owner)).expect(200);
    expect(few.body.items).toEqual([{ title: 'A, "b"' }]);
    const refused = await get("/v1/jobs?fields=id,stauts", bearer(owner)).expect(400);
    expect(refused.body.fields[0].path).toBe("query.fields.1");
  });

  it("gives the oldest first to who asks for it, page by page", async () => {
    const owner = newOwner();
    await api.pool.query(
      "insert into jobcast.jobs (owner_id, type) select $1, 't' from generate_series(1, 10)",
      [owner],
    );
    const newest = await get("/v1/jobs?limit=10", bearer(owner)).expect(200);
    const seen: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query: string = `sort=createdAt&limit=3${cursor && `&cursor=${cursor}`}`;
      const { body } = await get(`/v1/jobs?${query}`, bearer(owner)).expect(200);
      seen.push(...body.items.map(({ id }: { id: string }) => id));
      cursor = body.nextCursor;
    }
    expect(seen).toEqual(newest.body.items.map(({ id }: { id: string }) => id).reverse());
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
