/**
 * Runs one statement and gives back its rows: on a session of ours, whose columns are read by
 * `type-parsers.ts`, or in somebody's transaction, whose parsers and settings are his own. What runs
 * in both says in SQL how each column is written.
 */
export type Query = <Row extends object>(
  text: string,
  values?: readonly unknown[],
) => Promise<Row[]>;

/** The row of a statement that always has one. */
export function theOne<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (!row) throw new TypeError("a statement that always gives a row gave none");
  return row;
}
