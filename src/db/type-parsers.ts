/*
 * What the columns that we read become. Ours alone: an application that shares the process may set
 * other parsers for the whole driver, and its timestamps are not our business.
 */

/** The object ids of built-in types, which never change (pg_type.dat). */
const OID = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  oid: 26,
  float4: 700,
  float8: 701,
  xid8: 5069,
} as const;

/** int8 and xid8 as numbers: versions, counts and transaction ids stay far below 2^53. */
const PARSERS: ReadonlyMap<number, (text: string) => unknown> = new Map([
  [OID.bool, (text: string): unknown => text === "t"],
  [OID.bytea, (text: string): unknown => Buffer.from(text.slice(2), "hex")],
  ...[OID.int8, OID.int2, OID.int4, OID.oid, OID.float4, OID.float8, OID.xid8].map(
    (oid): [number, (text: string) => unknown] => [oid, Number],
  ),
]);

const asText = (text: string): string => text;

/**
 * Everything else stays the text that PostgreSQL writes: timestamps, which a Date would cut to
 * milliseconds, and jsonb, whose numbers no double holds and which goes to the wire as it is.
 */
export const typeParsers = {
  getTypeParser: (oid: number) => PARSERS.get(oid) ?? asText,
};
