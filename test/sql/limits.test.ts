import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const MAX_BYTES = 2_097_152;

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

async function createJob(columns: Record<string, string> = {}): Promise<string> {
  const names = ["owner_id", "type", ...Object.keys(columns)];
  const values = ["'ada'", "'t'", ...Object.values(columns)];
  const [job] = await database.query<{ id: string }>(
    `insert into jobcast.jobs (${names}) values (${values}) returning id`,
  );
  return job?.id ?? "";
}

/** As a row may stand that was written before there were limits. */
async function writeUnchecked(statement: string, ...values: unknown[]): Promise<void> {
  const session = await database.connect();
  await session.query("set session_replication_role = replica");
  await session.query(statement, values);
  await session.end();
}

const nested = (levels: number) => `'${"[".repeat(levels)}${"]".repeat(levels)}'::jsonb`;
/** JSON text of just so many bytes. */
const textOf = (bytes: number) => `to_jsonb(repeat('x', ${bytes - 2}))`;

const statusOf = async (id: string) => {
  const [job] = await database.query("select status, version from jobcast.jobs where id = $1", [
    id,
  ]);
  return job;
};

describe("JSON that is nested", () => {
  it("64 levels deep is kept, and no deeper, whoever writes it", async () => {
    const id = await createJob({ params: nested(64), result: nested(64), status: "'processing'" });
    const refused = { code: "23514", constraint: "depth_of_json" };
    for (const levels of [65, 5_000]) {
      for (const column of ["params", "result"]) {
        await expect(createJob({ [column]: nested(levels) })).rejects.toMatchObject(refused);
        const update = `update jobcast.jobs set ${column} = ${nested(levels)} where id = '${id}'`;
        await expect(database.query(update)).rejects.toMatchObject(refused);
      }
      const metadata = `jsonb_build_object('a', ${nested(levels - 1)})`;
      await expect(createJob({ metadata })).rejects.toMatchObject(refused);
      await expect(
        database.query(`select jobcast.complete_job('${id}', ${nested(levels)})`),
      ).rejects.toMatchObject(refused);
    }
    expect(await statusOf(id)).toEqual({ status: "processing", version: 1 });
  });

  it("too deeply since before there was a limit lets its job go on and end", async () => {
    const id = await createJob({ status: "'processing'" });
    await writeUnchecked(
      `update jobcast.jobs set result = ${nested(5_000)}, params = ${nested(5_000)} where id = $1`,
      id,
    );
    await database.query("select jobcast.report_progress($1, 50)", [id]);
    await database.query("select jobcast.cancel_job($1)", [id]);
    expect(await statusOf(id)).toEqual({ status: "cancelled", version: 3 });
  });
});

describe("the size of a job", () => {
  it("is counted for what it is made of", async () => {
    const half = MAX_BYTES / 2;
    await createJob({ title: `repeat('x', ${half})`, params: textOf(half) });
    for (const columns of [
      { title: `repeat('x', ${half})`, params: textOf(half + 1) },
      { title: `repeat('é', ${half + 1})` },
      { params: textOf(half), metadata: `jsonb_build_object('a', ${textOf(half)})` },
      // Eight bytes as jsonb.
      { params: "jsonb_build_array(repeat('9', 131072)::numeric, repeat('9', 2000000))" },
    ]) {
      await expect(createJob(columns)).rejects.toMatchObject({ code: "54000" });
    }
  });

  it("is counted for what a version says, and told to readers of the history", async () => {
    const id = await createJob();
    const update = (result: string, message: string) =>
      database.query(
        `update jobcast.jobs set status = 'processing', result = ${result}, message = ${message} where id = $1`,
        [id],
      );
    await expect(update(textOf(MAX_BYTES), "'x'")).rejects.toMatchObject({ code: "54000" });
    await update(textOf(MAX_BYTES - 1), "'é'").catch(({ code }) => expect(code).toBe("54000"));
    await update(textOf(MAX_BYTES - 2), "'é'");
    const sizes = await database.query(
      "select bytes from jobcast.status_history where job_id = $1 order by version",
      [id],
    );
    expect(sizes).toEqual([{ bytes: 0 }, { bytes: MAX_BYTES }]);
    const [counted] = await database.query(
      `select bool_and(bytes = coalesce(octet_length(stage), 0) + coalesce(octet_length(message), 0)
         + coalesce(octet_length(counts::text), 0) + coalesce(octet_length(result::text), 0)
         + coalesce(octet_length(error::text), 0)) as all
       from jobcast.status_history`,
    );
    expect(counted).toEqual({ all: true });
  });

  it("that is larger since before there was a limit lets its job be written as it is, and end", async () => {
    const id = await createJob({ status: "'processing'", title: "'old'" });
    await writeUnchecked(
      `update jobcast.jobs set params = ${textOf(MAX_BYTES + 10)}, metadata = jsonb_build_object('a', ${nested(70)}) where id = $1`,
      id,
    );
    // An ORM saves all that it has read.
    await database.query(
      `update jobcast.jobs set progress = 50, title = 'new', params = params, metadata = metadata where id = $1`,
      [id],
    );
    await expect(
      database.query(`update jobcast.jobs set params = ${textOf(MAX_BYTES + 1)} where id = $1`, [
        id,
      ]),
    ).rejects.toMatchObject({ code: "54000" });
    await database.query(
      "update jobcast.jobs set status = 'completed', params = params where id = $1",
      [id],
    );
    expect(await statusOf(id)).toEqual({ status: "completed", version: 3 });
  });

  it("bounds the names of those who write, and the titles of batches", async () => {
    const session = await database.connect();
    await session.query(`set jobcast.source = '${"s".repeat(10_000)}'`);
    const { rows } = await session.query(
      `select length(h.source) from jobcast.create_job('ada', 't') j
       cross join lateral (select jobcast.source()) h (source)`,
    );
    expect(rows).toEqual([{ length: 255 }]);
    const batch = `select jobcast.create_batch('ada', repeat('x', 1048577), '[]')`;
    await expect(database.query(batch)).rejects.toMatchObject({ code: "54000" });
    const grant = `select jobcast.grant_credits('ada', 1, repeat('x', 4097))`;
    await expect(database.query(grant)).rejects.toMatchObject({ code: "23514" });
  });
});

describe("counts", () => {
  const counts = (total: string) =>
    `jsonb_build_object('total', ${total}::numeric, 'completed', 0, 'failed', 0)`;
  const refused = { code: "23514", constraint: "counts_shape" };

  it("are whole numbers that JSON can hold, whoever writes them", async () => {
    await createJob({ counts: counts("9007199254740991") });
    const id = await createJob({ counts: counts("1.0") });
    for (const total of ["9007199254740992", "-1", "0.5", "1e131071", "1e-16383"]) {
      await expect(createJob({ counts: counts(total) }), total).rejects.toMatchObject(refused);
      const update = `update jobcast.jobs set counts = ${counts(total)} where id = '${id}'`;
      await expect(database.query(update), total).rejects.toMatchObject(refused);
    }
    // Whole, and eight kilobytes long.
    const long = counts(`('1.' || repeat('0', 8192))`);
    await expect(createJob({ counts: long })).rejects.toMatchObject(refused);
  });

  it("that are anything since before they were looked at let their job end", async () => {
    const id = await createJob({ status: "'processing'" });
    await writeUnchecked(`update jobcast.jobs set counts = ${counts("-0.5")} where id = $1`, id);
    await database.query("select jobcast.complete_job($1)", [id]);
    expect(await statusOf(id)).toEqual({ status: "completed", version: 2 });
  });
});

describe("dates", () => {
  it.each(["-infinity", "infinity", "290000-01-01", "4713-01-01 BC"])(
    "of creation are in years of four digits, and not %s",
    async (date) => {
      await expect(createJob({ created_at: `'${date}'` })).rejects.toMatchObject({ code: "22008" });
    },
  );

  it("of a deadline too, where infinity is as good as none", async () => {
    const id = await createJob({ timeout_at: "'infinity'" });
    const deadline = () =>
      database.query("select timeout_at from jobcast.jobs where id = $1", [id]);
    expect(await deadline()).toEqual([{ timeout_at: null }]);
    for (const date of ["-infinity", "290000-01-01"]) {
      await expect(createJob({ timeout_at: `'${date}'` })).rejects.toMatchObject({ code: "22008" });
      await expect(
        database.query("update jobcast.jobs set timeout_at = $2 where id = $1", [id, date]),
      ).rejects.toMatchObject({ code: "22008" });
    }
    await database.query("update jobcast.jobs set timeout_at = 'infinity' where id = $1", [id]);
    expect(await deadline()).toEqual([{ timeout_at: null }]);
  });

  it("that are older than the limits end nothing but their own job", async () => {
    const [endless, early, later] = [
      await createJob({ status: "'processing'" }),
      await createJob({ status: "'processing'" }),
      await createJob({ status: "'processing'", timeout_at: "now() - interval '1 s'" }),
    ];
    await writeUnchecked(
      "update jobcast.jobs set started_at = 'infinity', created_at = 'infinity' where id = $1",
      endless,
    );
    await writeUnchecked(
      "update jobcast.jobs set timeout_at = '-infinity', started_at = '-infinity' where id = $1",
      early,
    );
    await database.query("select jobcast.report_progress($1, 50)", [endless]);
    await database.query("select jobcast.complete_job($1)", [endless]);
    expect(await statusOf(endless)).toEqual({ status: "completed", version: 3 });
    await database.query("select jobcast.expire_jobs()");
    expect(await statusOf(early)).toEqual({ status: "timeout", version: 2 });
    expect(await statusOf(later)).toEqual({ status: "timeout", version: 2 });
  });
});

describe("an overdue job that cannot be ended", () => {
  it("keeps no other one from its end", async () => {
    const overdue = { status: "'processing'", timeout_at: "now() - interval '1 s'" };
    const [broken, sound] = [await createJob(overdue), await createJob(overdue)];
    await database.query("alter table jobcast.jobs drop constraint counts_shape");
    await writeUnchecked("update jobcast.jobs set counts = '7' where id = $1", broken);
    await database.query(
      "alter table jobcast.jobs add constraint counts_shape check (jobcast.is_counts(counts)) not valid",
    );
    const ended = await database.query("select id from jobcast.expire_jobs()");
    expect(ended).toEqual([{ id: sound }]);
    expect(await statusOf(broken)).toEqual({ status: "processing", version: 1 });
    const [last] = await database.query(
      "select source from jobcast.status_history where job_id = $1 order by version desc limit 1",
      [sound],
    );
    expect(last).toEqual({ source: "sweeper" });
  });
});
