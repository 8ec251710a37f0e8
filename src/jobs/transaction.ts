import { CompiledQuery } from "kysely";
import type { Query } from "../db/query.ts";

/** A transaction (or connection) of Kysely, whatever its schema. */
type KyselyTransaction = {
  readonly isTransaction: boolean;
  executeQuery(query: CompiledQuery): Promise<{ rows: unknown[] }>;
  withoutPlugins(): KyselyTransaction;
};

/** A client of node-postgres inside `begin`, or anything with its `query`. */
type PgTransaction = {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[] }>;
};

/** The transaction that a job is changed in: its commit is what streams, its rollback is silence. */
export type Transaction = KyselyTransaction | PgTransaction;

/** Our statements on somebody else's transaction, which stays theirs to end. */
export function toQuery(transaction: Transaction): Query {
  if ("withoutPlugins" in transaction) {
    // A plugin of theirs, such as one that renames columns, must not touch our rows.
    const plain = transaction.withoutPlugins();
    return async <Row extends object>(text: string, values: readonly unknown[] = []) =>
      (await plain.executeQuery(CompiledQuery.raw(text, [...values]))).rows as Row[];
  }
  return async <Row extends object>(text: string, values: readonly unknown[] = []) =>
    (await transaction.query(text, [...values])).rows as Row[];
}
