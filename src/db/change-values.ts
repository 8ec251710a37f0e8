import pg from "pg";
import { type ChangeRow, isWhole, VALUES } from "./changes.ts";
import { AnswerTooLargeError } from "./client.ts";
import type { Query } from "./query.ts";

/** Bytes of values that are read together, and of rows that are handed on together. */
const GROUP_BYTES = 1_024 * 1_024;

/** The same for one client, who may read them slowly: it is what he costs. */
export const CLIENT_BYTES = 256 * 1_024;

/** What a row may weigh and still be told as it is; new ones are held to half of it. */
const MAX_EVENT_BYTES = 4 * 1_024 * 1_024;

/** What a row weighs beside its values, about. */
const ROW_BYTES = 512;

type Values = Pick<ChangeRow, "job_id" | "version" | (typeof VALUES)[number]> & {
  readonly omitted: string;
};

/** A value unless it is far too large; its stored size is a lower bound that costs nothing to know. */
function text(name: string): string {
  const value = name === "result" || name === "error" ? `h.${name}::text` : `h.${name}`;
  return `case when pg_column_size(h.${name}) <= ${MAX_EVENT_BYTES} then ${value} end as ${name}`;
}

function told(name: string): string {
  return `case when octet_length(t.${name}) <= ${MAX_EVENT_BYTES} then t.${name} end as ${name}`;
}

/** The values of rows `h`; OFFSET keeps the planner from writing each as text twice. */
function valuesOf(from: string, texts: readonly string[]): string {
  return `
    select h.job_id, h.version, v.*, array_to_string(array[${VALUES.map(
      (name) => `case when v.${name} is null and h.${name} is not null then '${name}' end`,
    ).join(", ")}], ',') as omitted
    from ${from}
    cross join lateral (select ${texts.join(", ")} offset 0) t
    cross join lateral (select ${VALUES.map(told).join(", ")}) v`;
}

const READ_VALUES = valuesOf(
  `unnest($1::uuid[], $2::bigint[]) k (job_id, version)
   join jobcast.status_history h on h.job_id = k.job_id and h.version = k.version`,
  VALUES.map(text),
);

/** Of a row whose JSON cannot be read: what is plain text in it. */
const READ_TEXTS = valuesOf(
  "(select * from jobcast.status_history where job_id = $1 and version = $2) h",
  [text("stage"), text("message"), "null::text as result", "null::text as error"],
);

/**
 * Rows with their values, in order, a megabyte at a time or a single larger one. A row that is gone
 * by then went with its job, and is left out; one that cannot be read says so.
 */
export async function* readWhole(
  rows: readonly ChangeRow[],
  query: Query,
): AsyncGenerator<readonly ChangeRow[]> {
  for (let from = 0; from < rows.length; ) {
    const group = takeGroup(rows, from, GROUP_BYTES);
    from += group.length;
    yield await complete(group, query);
  }
}

/** The first of those groups, or a smaller one, for who comes again for the others. */
export async function readFirstGroup(
  rows: readonly ChangeRow[],
  query: Query,
  maxBytes = GROUP_BYTES,
): Promise<{ whole: readonly ChangeRow[]; taken: number }> {
  const group = takeGroup(rows, 0, maxBytes);
  return { whole: await complete(group, query), taken: group.length };
}

/** As many as weigh so much, and one at least. */
function takeGroup(
  rows: readonly ChangeRow[],
  from: number,
  maxBytes: number,
): readonly ChangeRow[] {
  let bytes = 0;
  let end = from;
  for (const row of rows.slice(from)) {
    bytes += row.bytes + ROW_BYTES;
    if (end > from && bytes > maxBytes) break;
    end += 1;
  }
  return rows.slice(from, end);
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
    const values = await query<Values>(READ_VALUES, [
      rows.map(({ job_id }) => job_id),
      rows.map(({ version }) => version),
    ]);
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

function keyOf({ job_id, version }: { job_id: string; version: number }): string {
  return `${job_id} ${version}`;
}

function withValues(row: ChangeRow, { omitted, ...values }: Values): ChangeRow {
  const names = omitted === "" ? [] : omitted.split(",");
  return { ...row, ...values, omitted: names as unknown as NonNullable<ChangeRow["omitted"]> };
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
