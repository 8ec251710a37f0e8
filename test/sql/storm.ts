import pg from "pg";
import type { TestDatabase } from "../support/database.ts";

/** What a statement, or several as one transaction, ended with: "done", or its SQLSTATE. */
export async function outcome(session: pg.Client, sql: string): Promise<string> {
  try {
    await session.query(sql);
    return "done";
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    await session.query("rollback");
    return error.code ?? "";
  }
}

/**
 * Runs a query for what must not be, each time in a snapshot of its own, until `work` is done and
 * once more; gives back the first rows that came, and how often it looked.
 */
export async function watchDuring(
  database: TestDatabase,
  forbidden: string,
  work: Promise<unknown>,
): Promise<{ found: unknown[]; looks: number }> {
  const session = await database.connect();
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  let looks = 0;
  for (let isLast = false; ; isLast = isDone) {
    const { rows } = await session.query(forbidden);
    looks += 1;
    if (rows.length > 0 || isLast) {
      await done;
      return { found: rows, looks };
    }
  }
}
