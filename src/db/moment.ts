/** `2026-11-25 02:03:04.123456+00`, and the same with a T and without an offset. */
const MOMENT = /^(\d{4})-(\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:\+00)?$/;

const FIRST = "0001-01-01T00:00:00.000Z";
const LAST = "9999-12-31T23:59:59.999Z";

/**
 * A moment in UTC as ISO 8601, to the millisecond. What years of four digits cannot say (infinity,
 * the year 290000, before Christ) is said by the nearest moment that they can: rows may be older
 * than the rules.
 *
 * @param text a timestamptz as a session with DateStyle ISO and TimeZone UTC writes it
 */
export function toIso(text: string): string {
  const [, year, date, time, fraction = ""] = MOMENT.exec(text) ?? [];
  if (year !== undefined) return `${year}-${date}T${time}.${fraction.slice(0, 3).padEnd(3, "0")}Z`;
  return text.startsWith("-") || text.endsWith("BC") ? FIRST : LAST;
}

export function toIsoOrNull(text: string | null): string | null {
  return text === null ? null : toIso(text);
}

/**
 * SQL that writes a timestamptz so that `toIso` reads it, whatever the settings of the session and
 * its search_path: JSON has its own format, and the zone is taken off before.
 */
export function momentText(column: string): string {
  return `pg_catalog.to_jsonb(${column} at time zone 'UTC') #>> '{}'`;
}
