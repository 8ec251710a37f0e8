import { Kysely, PostgresDialect } from "kysely";
import type { Database } from "../db/database.ts";

/** A transaction (or connection) of Kysely, whatever its schema. */
type KyselyTransaction = {
  readonly isTransaction: boolean;
  withoutPlugins(): object;
};

/** A client of node-postgres inside `begin`, or anything with its `query`. */
type PgTransaction = {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>;
};

/** The transaction that a job is changed in: its commit is what streams, its rollback is silence. */
export type Transaction = KyselyTransaction | PgTransaction;

/** Our typed queries on somebody else's transaction, which stays theirs to end. */
export function toDatabase(transaction: Transaction): Database {
  if ("withoutPlugins" in transaction) {
    // The tables are ours whatever the caller's types say, and a plugin of theirs, such as one
    // that renames columns, must not touch our rows.
    return transaction.withoutPlugins() as Database;
  }
  const client = {
    query: transaction.query.bind(transaction),
    release() {
      // It was lent.
    },
  };
  const pool = { connect: async () => client, end: async () => undefined };
  return new Kysely({ dialect: new PostgresDialect({ pool: pool as never }) });
}
