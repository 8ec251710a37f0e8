import { fromDatabase } from "../database-errors.ts";
import type { Query } from "../db/query.ts";

/** A transaction (or connection) of Kysely, whatever its schema: told so that nobody else needs it. */
type KyselyTransaction = {
  readonly isTransaction: boolean;
  /** @param query a `CompiledQuery` */
  executeQuery(query: object): Promise<{ rows: unknown[] }>;
  withoutPlugins(): KyselyTransaction;
};

/** A client of node-postgres inside `begin`, or anything with its `query`. */
type PgTransaction = {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[] }>;
};

/** The transaction that a job is changed in: its commit is what streams, its rollback is silence. */
export type Transaction = KyselyTransaction | PgTransaction;

/**
 * Our statements on somebody else's transaction, which stays theirs to end. What a rule refuses, or
 * the way to the database, is an error of ours; the database's own is its cause.
 */
export function toQuery(transaction: Transaction): Query {
  const run = toRun(transaction);
  return async <Row extends object>(text: string, values: readonly unknown[] = []) => {
    try {
      return (await run(text, [...values])).rows as Row[];
    } catch (error) {
      throw fromDatabase(error) ?? error;
    }
  };
}

type Run = (text: string, values: unknown[]) => Promise<{ rows: unknown[] }>;

function toRun(transaction: Transaction): Run {
  if (!("withoutPlugins" in transaction)) return (text, values) => transaction.query(text, values);
  // A plugin of theirs, such as one that renames columns, must not touch our rows.
  const plain = transaction.withoutPlugins();
  return async (text, values) => {
    const { CompiledQuery } = await import("kysely"); // whoever has its transaction has it
    return plain.executeQuery(CompiledQuery.raw(text, values));
  };
}
