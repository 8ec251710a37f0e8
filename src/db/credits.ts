import type { Once } from "../once.ts";
import type { CreditAccount, CreditEntry, Grant } from "../protocol/credits.ts";
import type { Lanes } from "./lanes.ts";
import { toIso } from "./moment.ts";
import { type Query, theOne } from "./query.ts";

/** Of one owner's ledger, newest first: at most `limit` entries below the position `before`. */
export type CreditPage = { readonly limit: number; readonly before?: number | undefined };

export type CreditEntries = {
  readonly entries: readonly CreditEntry[];
  /** The position of the last entry when there are more after it. */
  readonly next: number | undefined;
};

export type NewGrant = Grant & { readonly once?: Once | undefined };

/** `by` is who asks: he shares the connections with others. */
export type CreditStore = {
  account(ownerId: string, by: string): Promise<CreditAccount>;
  entries(ownerId: string, page: CreditPage, by: string): Promise<CreditEntries>;
  /** Tops up. Said again with the same key it counts once, and gives back the first entry. */
  grant(grant: NewGrant, by: string): Promise<CreditEntry>;
};

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
      const [row] = await reads.for({ owner: by })<{ balance: number }>(
        "select balance from jobcast.credit_accounts where owner_id = $1",
        [ownerId],
      );
      return { ownerId, balance: row?.balance ?? 0 };
    },
    entries: (ownerId, page, by) => readEntries(reads.for({ owner: by }), ownerId, page),
    grant: (grant, by) => postGrant(writes.for({ owner: by }), grant),
  };
}

/** An owner's entries are numbered without a hole, so their numbers are the keyset. */
async function readEntries(
  query: Query,
  ownerId: string,
  { limit, before }: CreditPage,
): Promise<CreditEntries> {
  const rows = await query<EntryRow>(
    `select ${ENTRY} from jobcast.credit_transactions e
     where e.owner_id = $1 and ($2::bigint is null or e.entry < $2)
     order by e.entry desc
     limit ${limit + 1}`,
    [ownerId, before ?? null],
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
