import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createRandom, type Random } from "../support/random.ts";
import { outcome, watchDuring } from "./storm.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  // What an end costs, the same whoever says it: so it can be told afterwards from the history.
  await database.query(`
    create function public.cost_of(id uuid, attempt integer, status text) returns integer
    language sql immutable as $$ select abs(hashtext(id::text || attempt || status)) % 15 $$`);
});
afterAll(() => database.drop());

let owners = 0;
async function createOwner(credits: number, overdraft = 0): Promise<string> {
  const owner = `owner-${++owners}`;
  if (credits > 0) await database.query("select jobcast.grant_credits($1, $2)", [owner, credits]);
  await database.query("select jobcast.set_overdraft($1, $2)", [owner, overdraft]);
  return owner;
}

async function createJob(owner: string, credits: number): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select (jobcast.create_job($1, 't', credits => $2)).id",
    [owner, credits],
  );
  return job?.id ?? "";
}

const end = (id: string, status: string, cost?: number) =>
  database.query("select jobcast.update_job($1, $2)", [id, JSON.stringify({ status, cost })]);

async function ledger(owner: string): Promise<string[]> {
  const rows = await database.query<{ line: string }>(
    `select format('%s %s -> %s', kind, amount, balance_after) as line
     from jobcast.credit_transactions where owner_id = $1 order by entry`,
    [owner],
  );
  return rows.map(({ line }) => line);
}

describe("what an attempt has cost", () => {
  it.each([
    ["less, when it completed", "completed", 3, ["refund 7 -> 97"]],
    ["nothing, when it completed", "completed", 0, ["refund 10 -> 100"]],
    ["as much", "completed", 10, []],
    ["more, when it completed", "completed", 25, ["settlement -15 -> 75"]],
    ["a part, when it failed", "failed", 4, ["refund 6 -> 96"]],
    ["all, when it was cancelled", "cancelled", 10, []],
    ["more, when it failed", "failed", 12, ["settlement -2 -> 88"]],
    ["what nobody said, when it failed", "failed", undefined, ["refund 10 -> 100"]],
    ["what nobody said, when it completed", "completed", undefined, []],
  ])("is settled at its end: %s", async (_, status, cost, entries) => {
    const owner = await createOwner(100);
    const id = await createJob(owner, 10);
    await end(id, status, cost);
    expect(await ledger(owner)).toEqual(["grant 100 -> 100", "charge -10 -> 90", ...entries]);
    // Said again it changes nothing, nor does another cost.
    await end(id, status, cost);
    await database.query("update jobcast.jobs set cost = 50 where id = $1", [id]);
    expect(await ledger(owner)).toHaveLength(2 + entries.length);
  });

  it("is of the attempt: a retry is charged its credits, and settled by its own end", async () => {
    const owner = await createOwner(100);
    const id = await createJob(owner, 10);
    await end(id, "failed", 4);
    await database.query("select jobcast.retry_job($1)", [id]);
    await end(id, "completed", 12);
    expect((await ledger(owner)).slice(1)).toEqual([
      ...["charge -10 -> 90", "refund 6 -> 96", "charge -10 -> 86", "settlement -2 -> 84"],
    ]);
  });

  it("may be said before the end, and counts then", async () => {
    const owner = await createOwner(100);
    const id = await createJob(owner, 10);
    await database.query(`select jobcast.update_job($1, '{"progress": 50, "cost": 4}')`, [id]);
    expect(await ledger(owner)).toHaveLength(2);
    await end(id, "completed");
    expect((await ledger(owner)).at(-1)).toBe("refund 6 -> 96");
  });

  it("is charged of a job that was to cost nothing", async () => {
    const owner = await createOwner(10);
    const id = await createJob(owner, 0);
    await end(id, "completed", 4);
    expect((await ledger(owner)).at(-1)).toBe("settlement -4 -> 6");
  });

  it("takes a balance below zero as far as the account allows, and what begins is paid for", async () => {
    const owner = await createOwner(10, 5);
    const [one, two] = [await createJob(owner, 5), await createJob(owner, 5)];
    await expect(end(one, "completed", 11)).rejects.toMatchObject({ code: "JC004" });
    await end(one, "completed", 8);
    expect((await ledger(owner)).at(-1)).toBe("settlement -3 -> -3");
    await expect(createJob(owner, 1)).rejects.toMatchObject({ code: "JC004" });
    await expect(end(two, "completed", 8)).rejects.toMatchObject({ code: "JC004" });
    await end(two, "failed");
    await database.query("select jobcast.grant_credits($1, 1)", [owner]);
    expect((await ledger(owner)).slice(-2)).toEqual(["refund 5 -> 2", "grant 1 -> 3"]);
  });

  it("is told with others in one statement", async () => {
    const owner = await createOwner(30);
    const jobs = [
      await createJob(owner, 10),
      await createJob(owner, 10),
      await createJob(owner, 10),
    ];
    const updates = jobs.map((id, index) => ({ id, status: "completed", cost: index * 10 }));
    const outcomes = await database.query<{ problem: string | null }>(
      "select problem from jobcast.update_jobs($1, skip_locked => true)",
      [JSON.stringify(updates)],
    );
    expect(outcomes).toEqual([{ problem: null }, { problem: null }, { problem: null }]);
    expect((await ledger(owner)).at(-1)).toMatch(/-> 0$/);
  });

  it.each([-1, 2 ** 31])("is no %s", async (cost) => {
    const id = await createJob(await createOwner(10), 1);
    await expect(end(id, "completed", cost)).rejects.toMatchObject({
      code: expect.stringMatching(/^2[23]/),
    });
  });
});

describe("an adjustment", () => {
  const adjust = (owner: string, amount: number, more = "") =>
    database.query(`select jobcast.adjust_credits($1, $2, 'why' ${more})`, [owner, amount]);

  it("goes either way, and never below zero unless that is said", async () => {
    const owner = await createOwner(10);
    await adjust(owner, 5);
    await expect(adjust(owner, -16)).rejects.toMatchObject({ code: "JC004" });
    await adjust(owner, -16, ", may_overdraw => true");
    expect((await ledger(owner)).slice(1)).toEqual(["adjustment 5 -> 15", "adjustment -16 -> -1"]);
  });

  it("counts once under its key, and is of one's own jobs", async () => {
    const [owner, other] = [await createOwner(10), await createOwner(10)];
    const job = await createJob(owner, 5);
    const of = (job_id: string, key: string) =>
      `, job_id => '${job_id}', idempotency_key => '${key}', request_hash => '\\x01'`;
    await Promise.all([1, 2, 3].map(() => adjust(owner, 2, of(job, "k"))));
    expect(await ledger(owner)).toHaveLength(3);
    await expect(adjust(other, 2, of(job, "k"))).rejects.toMatchObject({ code: "JC002" });
  });
});

/** Rows that must never be: a balance that is not its ledger, an attempt that was settled wrongly. */
const WRONG = `
  select 'balance' as what, a.owner_id as which, null::int as attempt
  from jobcast.credit_accounts a
  where a.balance < -a.overdraft - 1000 or a.balance <> (
    select coalesce(sum(t.amount), 0) from jobcast.credit_transactions t where t.owner_id = a.owner_id
  )
  union all
  select 'attempt', h.job_id::text, h.attempt
  from (
    select h.job_id, h.attempt, j.credits,
      max(h.status) filter (where jobcast.is_final(h.status)) as ended,
      count(*) filter (where jobcast.is_final(h.status)) as ends
    from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
    where j.type = 'race'
    group by h.job_id, h.attempt, j.credits
  ) h
  left join (
    select t.job_id, t.attempt, count(*) as entries, sum(t.amount) as net
    from jobcast.credit_transactions t where t.attempt is not null
    group by t.job_id, t.attempt
  ) t using (job_id, attempt)
  where h.ends > 1 or coalesce(t.entries, 0) > 2 or -coalesce(t.net, 0) <> case
    when h.ended is null then h.credits
    when h.ended = 'timeout' then 0
    else public.cost_of(h.job_id, h.attempt, h.ended)
  end`;

describe("the ledger", () => {
  const ending = (status: string) => (id: string) =>
    `
    update jobcast.jobs set status = '${status}', cost = public.cost_of(id, attempt, '${status}')
      where id = '${id}' and not jobcast.is_final(status);`;
  const OPERATIONS: Readonly<Record<string, (id: string, owner: string) => string>> = {
    complete: ending("completed"),
    fail: ending("failed"),
    cancel: ending("cancelled"),
    timeout: (id) => `
      update jobcast.jobs set timeout_at = clock_timestamp() - interval '1 second'
        where id = '${id}' and not jobcast.is_final(status);
      select jobcast.expire_jobs();`,
    retry: (id) => `select jobcast.retry_job('${id}');`,
    take: (id, owner) => `select jobcast.adjust_credits('${owner}', -3, 'x', '${id}');`,
    give: (id, owner) => `select jobcast.adjust_credits('${owner}', 3, 'x', '${id}');`,
  };

  type Raced = { readonly id: string; readonly owner: string };

  /** One operation, mostly; some are taken back, and some follow one that was taken back. */
  function transaction({ id, owner }: Raced, random: Random): string {
    const [first, second] = [1, 2].map(() => random.oneOf(Object.values(OPERATIONS))(id, owner));
    const how = random.next();
    if (how < 0.1) return `begin; ${first} rollback;`;
    if (how < 0.2) return `begin; savepoint s; ${first} rollback to s; ${second} commit;`;
    return `begin; ${first} commit;`;
  }

  it("is exact at every moment of 5,000 races to settle, adjust, expire and retry", async () => {
    const random = createRandom("races for settlements");
    const accounts = await Promise.all([60, 60, 60].map((credits) => createOwner(credits, 20)));
    const outcomes = new Map<string, number>();

    async function createAffordableJob(): Promise<Raced> {
      const owner = random.oneOf(accounts);
      try {
        const [job] = await database.query<{ id: string }>(
          "select (jobcast.create_job($1, 'race', credits => $2)).id",
          [owner, random.below(11)],
        );
        return { id: job?.id ?? "", owner };
      } catch (error) {
        if ((error as { code?: string }).code !== "JC004") throw error;
        await database.query("select jobcast.grant_credits($1, 25)", [owner]);
        return createAffordableJob();
      }
    }

    /** Two sessions that race for one job after the other: jobs of their own, accounts of all. */
    async function race(rounds: number): Promise<void> {
      const sessions: pg.Client[] = [await database.connect(), await database.connect()];
      const jobs = await Promise.all([1, 2, 3].map(createAffordableJob));
      for (let round = 0; round < rounds; round++) {
        const slot = random.below(jobs.length);
        const job = jobs[slot] ?? { id: "", owner: "" };
        const ended = await Promise.all(
          sessions.map((session) => outcome(session, transaction(job, random))),
        );
        for (const each of ended) outcomes.set(each, (outcomes.get(each) ?? 0) + 1);
        const [now] = await database.query<{ status: string }>(
          "select status from jobcast.jobs where id = $1",
          [job.id],
        );
        if (now?.status === "completed") jobs[slot] = await createAffordableJob();
      }
    }

    const races = Promise.all(Array.from({ length: 4 }, () => race(1_250)));
    const { found, looks } = await watchDuring(database, WRONG, races);
    expect(found).toEqual([]);
    expect(looks).toBeGreaterThan(10);
    expect([...outcomes.keys()].sort()).toEqual(["JC001", "JC004", "done"]);
    const kinds = await database.query(
      `select kind from jobcast.credit_transactions
       where job_id is not null group by kind having count(*) > 200 order by kind`,
    );
    expect(kinds).toEqual([
      ...["adjustment", "charge", "refund", "settlement"].map((kind) => ({ kind })),
    ]);
  }, 240_000);
});
