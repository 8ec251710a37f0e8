import { sql } from "kysely";
import type { CreditAccount, CreditEntry, Grant } from "../protocol/credits.ts";
import type { Database } from "./database.ts";
import { requestHash } from "./request-hash.ts";

/** Of one owner's ledger, newest first: at most `limit` entries below the position `before`. */
export type CreditPage = { readonly limit: number; readonly before?: number | undefined };

export type CreditEntries = {
  readonly entries: readonly CreditEntry[];
  /** The position of the last entry when there are more after it. */
  readonly next: number | undefined;
};

export type NewGrant = Grant & { readonly idempotencyKey?: string | undefined };

export type CreditStore = {
  account(ownerId: string): Promise<CreditAccount>;
  entries(ownerId: string, page: CreditPage): Promise<CreditEntries>;
  /** Tops up. Said again with the same key it counts once, and gives back the first entry. */
  grant(grant: NewGrant): Promise<CreditEntry>;
};

type EntryRow = {
  id: string;
  owner_id: string;
  entry: number;
  job_id: string | null;
  attempt: number | null;
  kind: string;
  amount: number;
  balance_after: number;
  reason: string | null;
  created_at: Date;
};

/** Balances, and the ledger behind them. */
export function createCreditStore(db: Database): CreditStore {
  return {
    async account(ownerId) {
      const row = await db
        .selectFrom("jobcast.credit_accounts")
        .select("balance")
        .where("owner_id", "=", ownerId)
        .executeTakeFirst();
      return { ownerId, balance: row?.balance ?? 0 };
    },

    /** An owner's entries are numbered without a hole, so their numbers are the keyset. */
    async entries(ownerId, { limit, before }) {
      let query = db
        .selectFrom("jobcast.credit_transactions")
        .selectAll()
        .where("owner_id", "=", ownerId)
        .orderBy("entry", "desc")
        .limit(limit + 1);
      if (before !== undefined) query = query.where("entry", "<", before);
      const rows = await query.execute();
      const shown = rows.slice(0, limit);
      return {
        entries: shown.map(toEntry),
        next: rows.length > limit ? shown.at(-1)?.entry : undefined,
      };
    },

    async grant({ idempotencyKey = null, ...grant }) {
      const { rows } = await sql<EntryRow>`
        select * from jobcast.grant_credits(
          ${grant.ownerId}, ${grant.amount}, ${grant.reason ?? null}, ${idempotencyKey},
          ${idempotencyKey === null ? null : requestHash(grant)}
        )`.execute(db);
      const [row] = rows;
      if (!row) throw new TypeError("a function that returns an entry returned none");
      return toEntry(row);
    },
  };
}

function toEntry(row: EntryRow): CreditEntry {
  return {
    id: row.id,
    ownerId: row.owner_id,
    jobId: row.job_id,
    attempt: row.attempt,
    kind: row.kind as CreditEntry["kind"],
    amount: row.amount,
    balanceAfter: row.balance_after,
    createdAt: row.created_at.toISOString(),
    reason: row.reason,
  };
}
