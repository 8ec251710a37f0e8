import type { Once } from "../once.ts";
import type { Adjustment, CreditAccount, CreditEntry, Grant } from "../protocol/credits.ts";
import type { Lanes } from "./lanes.ts";
import { toIso } from "./moment.ts";
import { type Query, theOne } from "./query.ts";

/** Of one owner's ledger, newest first: at most `limit` entries below the position `before`. */
export type CreditPage = {
  readonly limit: number;
  readonly before?: number | undefined;
  /** Only those about this job. */
  readonly jobId?: string | undefined;
};

export type CreditEntries = {
  readonly entries: readonly CreditEntry[];
  /** The position of the last entry when there are more after it. */
  readonly next: number | undefined;
};

export type NewGrant = Grant & { readonly once?: Once | undefined };
export type NewAdjustment = Adjustment & { readonly once?: Once | undefined };

/** `by` is who asks: he shares the connections with others. */
export type CreditStore = {
  account(ownerId: string, by: string): Promise<CreditAccount>;
  entries(ownerId: string, page: CreditPage, by: string): Promise<CreditEntries>;
  /** Tops up. Said again with the same key it counts once, and gives back the first entry. */
  grant(grant: NewGrant, by: string): Promise<CreditEntry>;
  /** In either direction; the same of its key. */
  adjust(adjustment: NewAdjustment, by: string): Promise<CreditEntry>;
  setOverdraft(ownerId: string, overdraft: number, by: string): Promise<CreditAccount>;
};

type AccountRow = { balance: number; overdraft: number };

type EntryRow = {
  id: string;
  owner_id: string;
  entry: number;
  job_id: string | null;
  attempt: number | null;
  kind: CreditEntry["kind"];
  amount: number;
  balance_after: number;
  reason: string | null;
  created_at: string;
};

/** A reason may be older than the limit that reasons have. */
const ENTRY = `
  e.id, e.owner_id, e.entry, e.job_id, e.attempt, e.kind, e.amount, e.balance_after,
  left(e.reason, 4096) as reason, e.created_at`;

/** Balances, and the ledger behind them. */
export function createCreditStore({ reads, writes }: Pick<Lanes, "reads" | "writes">): CreditStore {
  return {
    async account(ownerId, by) {
      const [row] = await reads.for({ owner: by })<AccountRow>(
        "select balance, overdraft from jobcast.credit_accounts where owner_id = $1",
        [ownerId],
      );
      return { ownerId, balance: 0, overdraft: 0, ...row };
    },
    entries: (ownerId, page, by) => readEntries(reads.for({ owner: by }), ownerId, page),
    grant: (grant, by) => postGrant(writes.for({ owner: by }), grant),
    adjust: (adjustment, by) => postAdjustment(writes.for({ owner: by }), adjustment),
    async setOverdraft(ownerId, overdraft, by) {
      const rows = await writes.for({ owner: by })<AccountRow>(
        "select balance, overdraft from jobcast.set_overdraft($1, $2)",
        [ownerId, overdraft],
      );
      return { ownerId, ...theOne(rows) };
    },
  };
}

/** An owner's entries are numbered without a hole, so their numbers are the keyset. */
async function readEntries(
  query: Query,
  ownerId: string,
  { limit, before, jobId }: CreditPage,
): Promise<CreditEntries> {
  const rows = await query<EntryRow>(
    `select ${ENTRY} from jobcast.credit_transactions e
     where e.owner_id = $1 and ($2::bigint is null or e.entry < $2)
       and ($3::uuid is null or e.job_id = $3)
     order by e.entry desc
     limit ${limit + 1}`,
    [ownerId, before ?? null, jobId ?? null],
  );
  const shown = rows.slice(0, limit);
  return {
    entries: shown.map(toEntry),
    next: rows.length > limit ? shown.at(-1)?.entry : undefined,
  };
}

async function postGrant(query: Query, grant: NewGrant): Promise<CreditEntry> {
  const { ownerId, amount, reason = null, once } = grant;
  const rows = await query<EntryRow>(
    `select ${ENTRY} from jobcast.grant_credits($1, $2, $3, $4, $5) e`,
    [ownerId, amount, reason, once?.key ?? null, once?.hash ?? null],
  );
  return toEntry(theOne(rows));
}

async function postAdjustment(query: Query, adjustment: NewAdjustment): Promise<CreditEntry> {
  const { ownerId, amount, reason, jobId = null, mayOverdraw = false, once } = adjustment;
  const rows = await query<EntryRow>(
    `select ${ENTRY} from jobcast.adjust_credits($1, $2, $3, $4, $5, $6, $7) e`,
    [ownerId, amount, reason, jobId, mayOverdraw, once?.key ?? null, once?.hash ?? null],
  );
  return toEntry(theOne(rows));
}

function toEntry(row: EntryRow): CreditEntry {
  return {
    id: row.id,
    ownerId: row.owner_id,
    jobId: row.job_id,
    attempt: row.attempt,
    kind: row.kind,
    amount: row.amount,
    balanceAfter: row.balance_after,
    createdAt: toIso(row.created_at),
    reason: row.reason,
  };
}
