/**
 * SQL about the size of values, which are to be refused before they are read. What is stored costs
 * nothing to know; of a compressed value it is a hundredth of the text, and less.
 */

/**
 * Whether a jsonb column is at most so many bytes as text. What is not compressed can become six
 * times as large at worst, which is taken.
 */
export function isJsonWithin(column: string, bytes: number): string {
  return `case when pg_column_compression(${column}) is null then pg_column_size(${column})
    else jobcast.json_bytes(${column}) end <= ${bytes}`;
}

/** The same for many small ones: what would have to be unpacked to know is taken for larger. */
export function isSmallJson(column: string, bytes: number): string {
  return `case when pg_column_size(${column})
      <= case when pg_column_compression(${column}) is null then ${8 * bytes} else ${bytes} end
    then octet_length(${column}::text) <= ${bytes} end`;
}

/** What columns take where they are stored, and whether that is also what they are. */
export function storedBytes(columns: readonly string[]): string {
  return columns.map((column) => `coalesce(pg_column_size(${column}), 0)`).join(" + ");
}

export function areStoredPlain(columns: readonly string[]): string {
  return `coalesce(${columns.map((column) => `pg_column_compression(${column})`).join(", ")}) is null`;
}
