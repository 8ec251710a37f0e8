import { randomBytes } from "node:crypto";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createRandom, type Random } from "../support/random.ts";
import { outcome, watchDuring } from "./storm.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

let owners = 0;
/** An owner with that many credits. */
async function createOwner(credits: number): Promise<string> {
  const owner = `owner-${++owners}`;
  await database.query("select jobcast.grant_credits($1, $2)", [owner, credits]);
  return owner;
}

async function createJob(owner: string, credits: number): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select (jobcast.create_job($1, 't', credits => $2)).id",
    [owner, credits],
  );
  return job?.id ?? "";
}

async function balance(owner: string): Promise<number | undefined> {
  const [account] = await database.query<{ balance: number }>(
    "select balance from jobcast.credit_accounts where owner_id = $1",
    [owner],
  );
  return account?.balance;
}

/** "<kind> <amount> -> <balance>" of each entry, in their order. */
async function ledger(owner: string): Promise<string[]> {
  const rows = await database.query<{ line: string }>(
    `select format('%s %s -> %s', kind, amount, balance_after) as line
     from jobcast.credit_transactions where owner_id = $1 order by entry`,
    [owner],
  );
  return rows.map(({ line }) => line);
}

/** Rows that must never be: a balance that is not its ledger, an attempt that was settled wrongly. */
const WRONG = `
  select 'balance' as what, a.owner_id as which, null::int as attempt
  from jobcast.credit_accounts a
  where a.balance <> (
    select coalesce(sum(t.amount), 0) from jobcast.credit_transactions t where t.owner_id = a.owner_id
  )
  union all
  select 'attempt', job_id::text, attempt
  from (
    select h.job_id, h.attempt, j.credits, h.attempt < j.attempt as is_over,
      count(*) filter (where jobcast.is_final(h.status)) as ends,
      count(*) filter (where h.status in ('failed', 'cancelled', 'timeout')) as refundable
    from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
    where j.credits > 0
    group by h.job_id, h.attempt, j.credits, j.attempt
    -- Not what was written as ended from the beginning, which nobody charged.
    having not bool_and(jobcast.is_final(h.status))
  ) h
  full join (
    select t.job_id, t.attempt,
      count(*) filter (where t.kind = 'charge') as charges,
      count(*) filter (where t.kind = 'refund') as refunds,
      max(abs(t.amount)) as highest, min(abs(t.amount)) as lowest
    from jobcast.credit_transactions t
    where t.job_id is not null
    group by t.job_id, t.attempt
  ) t using (job_id, attempt)
  where ends > 1 or (is_over and ends <> 1)
    or (charges, refunds, highest, lowest) is distinct from (1, refundable, credits, credits)`;

describe("a balance", () => {
  const most = 10 ** 15;

  it("is granted no more than leaves room for every refund", async () => {
    const owner = await createOwner(most);
    const grant = (amount: string) =>
      database.query("select jobcast.grant_credits($1, $2::bigint)", [owner, amount]);
    for (const amount of ["1", "9223372036854775807"]) {
      await expect(grant(amount), amount).rejects.toMatchObject({ code: "22003" });
    }
    const job = await createJob(owner, 10);
    await grant("10");
    await database.query("select jobcast.fail_job($1)", [job]);
    expect(await balance(owner)).toBe(most + 10);
  });

  it("pays for nothing that was done elsewhere", async () => {
    const owner = await createOwner(10);
    const [job] = await database.query<{ id: string }>(
      `insert into jobcast.jobs (owner_id, type, credits, status) values ($1, 't', 5, 'failed')
       returning id, credits`,
      [owner],
    );
    expect(job).toMatchObject({ credits: 0 });
    expect(await ledger(owner)).toEqual(["grant 10 -> 10"]);
  });
});

describe("charges and refunds", () => {
  const OPERATIONS: Readonly<Record<string, (id: string) => string>> = {
    cancel: (id) => `select jobcast.cancel_job('${id}');`,
    fail: (id) => `select jobcast.fail_job('${id}');`,
    complete: (id) => `select jobcast.complete_job('${id}');`,
    // The sweeper also ends what others have made overdue meanwhile.
    timeout: (id) => `
      update jobcast.jobs set timeout_at = clock_timestamp() - interval '1 second'
        where id = '${id}' and not jobcast.is_final(status);
      select jobcast.expire_jobs();`,
    retry: (id) => `select jobcast.retry_job('${id}');`,
  };

  /** One operation, mostly; some are taken back, and some follow one that was taken back. */
  function transaction(id: string, random: Random): string {
    const [first, second] = [1, 2].map(() => random.oneOf(Object.values(OPERATIONS))(id));
    const how = random.next();
    if (how < 0.1) return `begin; ${first} rollback;`;
    if (how < 0.2) return `begin; savepoint s; ${first} rollback to s; ${second} commit;`;
    return `begin; ${first} commit;`;
  }

  it("are exact at every moment of 5,000 races to cancel, fail, complete, expire and retry", async () => {
    const random = createRandom("races for credits");
    const accounts = await Promise.all([60, 60, 60].map(createOwner));
    const outcomes = new Map<string, number>();

    /** With nothing to spare in its account: some retries will find that it is gone. */
    async function createAffordableJob(): Promise<string> {
      const owner = random.oneOf(accounts);
      const credits = 1 + random.below(10);
      return createJob(owner, credits).catch(async (error: { code?: string }) => {
        if (error.code !== "JC004") throw error;
        await database.query("select jobcast.grant_credits($1, $2)", [owner, credits]);
        return createAffordableJob();
      });
    }

    /** Two sessions that race for one job after the other: jobs of their own, accounts of all. */
    async function race(rounds: number): Promise<void> {
      const sessions: pg.Client[] = [await database.connect(), await database.connect()];
      const jobs = await Promise.all([1, 2, 3].map(createAffordableJob));
      for (let round = 0; round < rounds; round++) {
        const slot = random.below(jobs.length);
        const id = jobs[slot] ?? "";
        const ended = await Promise.all(
          sessions.map((session) => outcome(session, transaction(id, random))),
        );
        for (const each of ended) outcomes.set(each, (outcomes.get(each) ?? 0) + 1);
        const [job] = await database.query<{ status: string }>(
          "select status from jobcast.jobs where id = $1",
          [id],
        );
        if (job?.status === "completed") jobs[slot] = await createAffordableJob();
      }
    }

    const races = Promise.all(Array.from({ length: 4 }, () => race(1_250)));
    const { found, looks } = await watchDuring(database, WRONG, races);
    expect(found).toEqual([]);
    expect(looks).toBeGreaterThan(10);
    // Won, lost to another end, and a retry that its owner could not pay: nothing else, no deadlock.
    expect([...outcomes.keys()].sort()).toEqual(["JC001", "JC004", "done"]);
    const settled = await database.query(
      `select kind from jobcast.credit_transactions
       where job_id is not null group by kind having count(*) > 300 order by kind`,
    );
    expect(settled).toEqual([{ kind: "charge" }, { kind: "refund" }]);
  }, 240_000);

  it("are told by the job's ends alone, whatever else is reported or said again", async () => {
    const owner = await createOwner(10);
    const id = await createJob(owner, 4);
    for (const patch of [
      { progress: 10 },
      { progress: 5 },
      { status: "failed", error: { code: "E", message: "m" } },
      { status: "failed" },
    ]) {
      await database.query("select jobcast.update_job($1, $2)", [id, JSON.stringify(patch)]);
    }
    await database.query("update jobcast.jobs set status = 'failed' where id = $1", [id]);
    expect(await ledger(owner)).toEqual(["grant 10 -> 10", "charge -4 -> 6", "refund 4 -> 10"]);
  });

  it("are not of a job that costs nothing, nor of one that was written as ended", async () => {
    const owner = await createOwner(10);
    await database.query("select jobcast.cancel_job($1)", [await createJob(owner, 0)]);
    await database.query(
      "insert into jobcast.jobs (owner_id, type, status, credits) values ($1, 't', 'failed', 5)",
      [owner],
    );
    expect(await ledger(owner)).toEqual(["grant 10 -> 10"]);
  });

  it.each([
    ["first", ["failing", "waiting"]],
    ["last", ["waiting", "failing"]],
  ])(
    "need the sum of a statement, of which what comes in counts first, also when it comes %s",
    async (_, order) => {
      const owner = await createOwner(10);
      const jobs = new Map<string, string>();
      for (const name of order) {
        const id = await createJob(owner, name === "failing" ? 6 : 4);
        jobs.set(name, id);
        if (name === "waiting") await database.query("select jobcast.cancel_job($1)", [id]);
      }
      const [failing, waiting] = [jobs.get("failing"), jobs.get("waiting")];
      await database.query("select jobcast.create_job($1, 't', credits => 4)", [owner]);
      await database.query(
        `update jobcast.jobs j set
         status = case when id = $1 then 'failed' else 'pending' end,
         attempt = case when id = $1 then attempt else attempt + 1 end
       where id in ($1, $2)`,
        [failing, waiting],
      );
      expect((await ledger(owner)).slice(-2)).toEqual(["refund 6 -> 6", "charge -4 -> 2"]);
      await expect(
        database.query(
          `insert into jobcast.jobs (owner_id, type, credits) select $1, 't', 1 from generate_series(1, 3)`,
          [owner],
        ),
      ).rejects.toMatchObject({ code: "JC004", detail: '{"needed": 3, "balance": 2}' });
      expect(await balance(owner)).toBe(2);
    },
  );

  it("are refused as a whole: a retry that cannot be paid leaves job and ledger as they are", async () => {
    const owner = await createOwner(5);
    const id = await createJob(owner, 5);
    await database.query("select jobcast.fail_job($1)", [id]);
    await createJob(owner, 1);
    const before = await ledger(owner);
    await expect(database.query("select jobcast.retry_job($1)", [id])).rejects.toMatchObject({
      code: "JC004",
      detail: '{"needed": 5, "balance": 4}',
    });
    expect(await ledger(owner)).toEqual(before);
    const jobs = await database.query(
      "select status, attempt, version from jobcast.jobs where id = $1",
      [id],
    );
    expect(jobs).toEqual([{ status: "failed", attempt: 1, version: 2 }]);
  });

  it("come with the jobs of a role that may write jobs and nothing else", async () => {
    const owner = await createOwner(10);
    const role = `worker_${randomBytes(4).toString("hex")}`;
    await database.query(
      `create role ${role};
       grant usage on schema jobcast to ${role};
       grant select, insert, update on jobcast.jobs to ${role}`,
    );
    const session = await database.connect();
    try {
      await session.query(`set role ${role}`);
      const { rows } = await session.query(
        `select (jobcast.create_job('${owner}', 't', credits => 3)).id`,
      );
      await session.query(`update jobcast.jobs set status = 'failed' where id = '${rows[0].id}'`);
      for (const sql of [
        `select jobcast.grant_credits('${owner}', 5)`,
        `select jobcast.post_credits('[]')`,
        `select jobcast.lock_credit_accounts(array['${owner}'])`,
        "select from jobcast.credit_accounts",
      ]) {
        expect([sql, await outcome(session, sql)]).toEqual([sql, "42501"]);
      }
    } finally {
      await session.query(`reset role; drop owned by ${role}; drop role ${role}`);
    }
    expect(await ledger(owner)).toEqual(["grant 10 -> 10", "charge -3 -> 7", "refund 3 -> 10"]);
  });
});

describe("accounts and ledger", () => {
  it("can be made to disagree by nobody, not even a superuser", async () => {
    const owner = await createOwner(10);
    const id = await createJob(owner, 4);
    const job = `'${owner}', '${id}'::uuid, 1`;
    const entry =
      "insert into jobcast.credit_transactions (owner_id, job_id, attempt, kind, entry, amount, balance_after)";
    const attempts = {
      "another balance": "update jobcast.credit_accounts set balance = 1000",
      "another balance and no entry":
        "update jobcast.credit_accounts set balance = 0, last_entry = null",
      "an earlier entry's balance": `update jobcast.credit_accounts set balance = 10, last_entry = 1 where owner_id = '${owner}'`,
      "an entry that does not exist": `update jobcast.credit_accounts set balance = 12, last_entry = 3 where owner_id = '${owner}'`,
      "another owner": `update jobcast.credit_accounts set owner_id = 'thief' where owner_id = '${owner}'`,
      "an account with a balance":
        "insert into jobcast.credit_accounts (owner_id, balance) values ('rich', 5)",
      "no account": `delete from jobcast.credit_accounts where owner_id = '${owner}'`,
      "no accounts": "truncate jobcast.credit_accounts",
      "no accounts at all": "truncate jobcast.credit_accounts cascade",
      "another amount": "update jobcast.credit_transactions set amount = 1000",
      "no entry": "delete from jobcast.credit_transactions",
      "no entries": "truncate jobcast.credit_transactions cascade",
      "an entry of an owner without an account": `${entry} values ('nobody', null, null, 'grant', 1, 5, 5)`,
      "an entry that finds another balance": `${entry} values ('${owner}', null, null, 'grant', 3, 5, 100)`,
      "an entry in the place of another": `${entry} values ('${owner}', null, null, 'grant', 2, 5, 15)`,
      "an entry after a hole": `${entry} values ('${owner}', null, null, 'grant', 4, 5, 11)`,
      "a first entry that finds something": `${entry} values ('${owner}', null, null, 'grant', 1, 5, 11)`,
      "a balance below zero": `${entry} select ${job} + 1, 'charge', 3, -7, -1`,
      "a second charge": `${entry} select ${job}, 'charge', 3, -4, 2`,
      "a refund of no charge": `${entry} select ${job} + 1, 'refund', 3, 4, 10`,
      "a grant below zero": `${entry} values ('${owner}', null, null, 'grant', 3, -4, 2)`,
      "a charge above zero": `${entry} select ${job} + 1, 'charge', 3, 4, 10`,
      "a charge of no job": `${entry} values ('${owner}', null, null, 'charge', 3, -4, 2)`,
    };
    const session = await database.connect();
    for (const [what, sql] of Object.entries(attempts)) {
      const refusal = expect.stringMatching(/^(23\d\d\d|JC005|0A000)$/);
      expect([what, await outcome(session, sql)]).toEqual([what, refusal]);
    }
    expect(await database.query(WRONG)).toEqual([]);
    expect(await ledger(owner)).toEqual(["grant 10 -> 10", "charge -4 -> 6"]);
  });

  it("still agree when an entry is written by hand, which the account follows", async () => {
    const owner = await createOwner(10);
    await database.query(
      `insert into jobcast.credit_transactions (owner_id, kind, entry, amount, balance_after)
       values ($1, 'grant', 2, 5, 15)`,
      [owner],
    );
    expect(await balance(owner)).toBe(15);
    await database.query("select jobcast.grant_credits($1, 1)", [owner]);
    expect(await balance(owner)).toBe(16);
  });

  it("take no grant of nothing or less", async () => {
    for (const amount of [0, -1, null]) {
      await expect(
        database.query("select jobcast.grant_credits('x', $1)", [amount]),
      ).rejects.toMatchObject({ code: "22023" });
    }
  });

  it("outlive the jobs that they name", async () => {
    const owner = await createOwner(10);
    const id = await createJob(owner, 4);
    await database.query("select jobcast.complete_job($1)", [id]);
    await database.query("delete from jobcast.jobs where id = $1", [id]);
    expect(await ledger(owner)).toEqual(["grant 10 -> 10", "charge -4 -> 6"]);
  });
});
