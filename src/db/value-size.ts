/**
 * SQL about the size of values, which are to be refused before they are read. What is stored costs
 * nothing to know, and says little of the text: a compressed value is a hundredth of it and less, and
 * a number in sixteen bytes may have 131,072 digits.
 *
 * Functions of PostgreSQL are named with their schema: they take any type, so a function of the same
 * name for one type would be preferred, wherever somebody made it.
 */

/** Whether a jsonb column is at most so many bytes as text. */
export function isJsonWithin(column: string, bytes: number): string {
  return `jobcast.json_bytes(${column}) <= ${bytes}`;
}

/** The same for many small ones: what would have to be unpacked to know is taken for larger. */
export function isSmallJson(column: string, bytes: number): string {
  return `case when pg_catalog.pg_column_size(${column})
      <= case when pg_catalog.pg_column_compression(${column}) is null then ${8 * bytes} else ${bytes} end
    then ${isJsonWithin(column, bytes)} end`;
}

/** What columns take where they are stored, and whether that is also what they are. */
export function storedBytes(columns: readonly string[]): string {
  return columns.map((column) => `coalesce(pg_catalog.pg_column_size(${column}), 0)`).join(" + ");
}

export function areStoredPlain(columns: readonly string[]): string {
  return `coalesce(${columns.map((column) => `pg_catalog.pg_column_compression(${column})`).join(", ")}) is null`;
}
