import pg from "pg";
import { type ChangeRow, isJsonValue, isWhole, VALUES, type Value } from "./changes.ts";
import { AnswerTooLargeError } from "./client.ts";
import type { Query } from "./query.ts";
import { isJsonWithin } from "./value-size.ts";
import { versionOf } from "./versions.ts";

/** Bytes of values that are read together. */
const GROUP_BYTES = 1_024 * 1_024;

/** The same for one client, who may read them slowly: it is what he costs. */
export const CLIENT_BYTES = 256 * 1_024;

/** What a row may weigh and still be told as it is; new ones are held to half of it. */
const MAX_EVENT_BYTES = 4 * 1_024 * 1_024;

/** What a row weighs beside its values, about. */
const ROW_BYTES = 512;

type Measured = Pick<ChangeRow, "job_id" | "version" | "bytes">;

type Values = Pick<ChangeRow, "job_id" | "version" | Value> & {
  readonly omitted: string;
};

const KEYED = `unnest($1::uuid[], $2::bigint[]) k (job_id, version)
  join jobcast.jobs j on j.id = k.job_id
  cross join lateral (${versionOf("k.version")}) h`;

const MEASURE = `
  select h.job_id, h.version,
    jobcast.bytes_of(h.stage, h.message, h.counts, h.result, h.error)
      + coalesce(octet_length(h.event_data::text), 0) as bytes
  from ${KEYED}`;

/** A value unless it is far too large. */
function value(name: Value, isKnown: string): string {
  const column = `h.${name}`;
  const isJson = isJsonValue(name);
  const fits = isJson
    ? isJsonWithin(column, MAX_EVENT_BYTES)
    : `octet_length(${column}) <= ${MAX_EVENT_BYTES}`;
  return `case when ${isKnown} or ${fits} then ${column}${isJson ? "::text" : ""} end as ${name}`;
}

function valuesOf(from: string, values: readonly string[]): string {
  return `
    select h.job_id, h.version, v.*, array_to_string(array[${VALUES.map(
      (name) => `case when v.${name} is null and h.${name} is not null then '${name}' end`,
    ).join(", ")}], ',') as omitted
    from ${from}
    cross join lateral (select ${values.join(", ")}) v`;
}

const READ_VALUES = valuesOf(
  KEYED,
  VALUES.map((name) => value(name, `h.bytes <= ${MAX_EVENT_BYTES}`)),
);

/** Of a row whose JSON cannot be read: what is plain text in it. */
const READ_TEXTS = valuesOf(
  `jobcast.jobs j cross join lateral (${versionOf("$2::bigint")}) h where j.id = $1`,
  [
    value("stage", "false"),
    value("message", "false"),
    "null::text as result",
    "null::text as error",
    "null::text as event_data",
  ],
);

/**
 * The first rows with their values, in order: as many as weigh so much, or a single larger one. A
 * row that is gone by then went with its job, and is left out; one that cannot be read says so.
 * `taken` rows weigh `bytes`, about.
 */
export async function readFirstGroup(
  rows: readonly ChangeRow[],
  query: Query,
  maxBytes = GROUP_BYTES,
): Promise<{ whole: readonly ChangeRow[]; taken: number; bytes: number }> {
  const group = await nextGroup(rows, maxBytes, query);
  return {
    whole: await complete(group, query),
    taken: group.length,
    bytes: group.reduce((sum, row) => sum + weightOf(row), 0),
  };
}

/** By lower bounds first, which leaves few to be measured. */
async function nextGroup(
  rows: readonly ChangeRow[],
  maxBytes: number,
  query: Query,
): Promise<readonly ChangeRow[]> {
  const group = takeGroup(rows, maxBytes);
  const unknown = group.filter((row) => !row.is_counted && !isWhole(row));
  if (unknown.length === 0) return group;
  const bytes = new Map((await measure(unknown, query)).map((row) => [keyOf(row), row.bytes]));
  const measured = group.map((row) => ({
    ...row,
    bytes: Math.max(row.bytes, bytes.get(keyOf(row)) ?? 0),
  }));
  return takeGroup(measured, maxBytes);
}

async function measure(rows: readonly ChangeRow[], query: Query): Promise<readonly Measured[]> {
  try {
    return await query<Measured>(MEASURE, keysOf(rows));
  } catch (error) {
    if (!isAboutRows(error)) throw error;
    // Which of them it is shows when they are read one by one.
    return rows.map((row) => ({ ...row, bytes: MAX_EVENT_BYTES }));
  }
}

/** As many as weigh so much, and one at least. */
function takeGroup(rows: readonly ChangeRow[], maxBytes: number): readonly ChangeRow[] {
  let bytes = 0;
  const end = rows.findIndex((row, index) => {
    bytes += weightOf(row);
    return index > 0 && bytes > maxBytes;
  });
  return end === -1 ? rows : rows.slice(0, end);
}

function weightOf({ bytes }: ChangeRow): number {
  return bytes + ROW_BYTES;
}

async function complete(group: readonly ChangeRow[], query: Query): Promise<readonly ChangeRow[]> {
  const wanting = group.filter((row) => !isWhole(row));
  if (wanting.length === 0) return group;
  const found = await readValues(wanting, query);
  return group.flatMap((row) => {
    if (isWhole(row)) return [row];
    const its = found.get(keyOf(row));
    return its ? [withValues(row, its)] : [];
  });
}

async function readValues(
  rows: readonly ChangeRow[],
  query: Query,
): Promise<ReadonlyMap<string, Values>> {
  try {
    const values = await query<Values>(READ_VALUES, keysOf(rows));
    return new Map(values.map((each) => [keyOf(each), each]));
  } catch (error) {
    if (!isAboutRows(error)) throw error;
    const [first] = rows;
    if (rows.length > 1 || !first) {
      const single = await Promise.all(rows.map((row) => readValues([row], query)));
      return new Map(single.flatMap((values) => [...values]));
    }
    const texts = await query<Values>(READ_TEXTS, [first.job_id, first.version]);
    return new Map(texts.map((each) => [keyOf(each), each]));
  }
}

function keysOf(rows: readonly ChangeRow[]): unknown[] {
  return [rows.map(({ job_id }) => job_id), rows.map(({ version }) => version)];
}

export function keyOf({ job_id, version }: { job_id: string; version: number }): string {
  return `${job_id} ${version}`;
}

function withValues(row: ChangeRow, { omitted, ...values }: Values): ChangeRow {
  const names = (omitted === "" ? [] : omitted.split(",")) as Value[];
  return { ...row, ...values, omitted: names };
}

/**
 * Whether it is what a row holds that stopped a query: a value that is too large to be written as
 * text, or whose storage is damaged. It will do so again.
 */
export function isAboutRows(error: unknown): boolean {
  if (error instanceof AnswerTooLargeError) return true;
  return error instanceof pg.DatabaseError && /^(22|54|53200|XX)/.test(error.code ?? "");
}

/** Reads rows with their values, or, when one of those stops the query, without any. */
export async function withCare<T>(read: (isCareful: boolean) => Promise<T>): Promise<T> {
  try {
    return await read(false);
  } catch (error) {
    if (isAboutRows(error)) return read(true);
    throw error;
  }
}
