import type { JobText } from "../change/job-text.ts";
import type { Snapshot } from "../change/snapshot.ts";
import type { Status } from "../protocol/status.ts";
import { type JobRow, jobColumns, LISTED_BYTES, PRESENT_CHANGE, toJobText } from "./job-row.ts";
import { type Query, theOne } from "./query.ts";
import { type SeenRow, seenBy, withSnapshot } from "./visibility.ts";

/** A job's place in the list. The moment is PostgreSQL's text: a Date would lose its microseconds. */
export type JobPosition = { readonly createdAt: string; readonly id: string };

/** Which jobs; a moment is whatever PostgreSQL reads as timestamptz. */
export type JobFilter = {
  readonly ownerId?: string | undefined;
  readonly statuses?: readonly Status[] | undefined;
  readonly types?: readonly string[] | undefined;
  readonly batchId?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** In the title, whatever its case, or at the start of the id. */
  readonly q?: string | undefined;
  /** Members that the metadata has: a JSON object as text. */
  readonly metadata?: string | undefined;
};

/** Which of them: after a position, or from an offset on, which counts them all as well. */
export type JobPage = {
  readonly limit: number;
  readonly offset?: number | undefined;
  readonly after?: JobPosition | undefined;
  /** Values that are left out whatever their size; all that are above 8 KiB are. */
  readonly omit?: readonly string[] | undefined;
  readonly isOldestFirst?: boolean;
};

export type JobListing = {
  readonly jobs: readonly JobText[];
  readonly total?: number;
  /** The position of the last job when there are more after it. */
  readonly next: JobPosition | undefined;
  /** What the list has seen: from here a stream goes on. */
  readonly snapshot: Snapshot;
};

type Row = SeenRow & { position: string } & (JobRow | { id: null });

const CONDITIONS: Readonly<Record<Exclude<keyof JobFilter, "statuses" | "types">, string>> = {
  ownerId: "j.owner_id = ?",
  batchId: "j.batch_id = ?::uuid",
  from: "j.created_at >= ?::timestamptz",
  to: "j.created_at < ?::timestamptz",
  q: "(strpos(lower(j.title), lower(?::text)) > 0 or starts_with(j.id::text, lower(?::text)))",
  metadata: "j.metadata @> ?::jsonb",
};

/** One job more than the page is read, to know whether there is a next one. */
export async function listJobs(
  query: Query,
  filter: JobFilter,
  page: JobPage,
): Promise<JobListing> {
  const { limit, offset, after, omit, isOldestFirst = false } = page;
  const [behind, direction] = isOldestFirst ? [">", "asc"] : ["<", "desc"];
  const { conditions, values } = matching(filter);
  if (after) {
    values.push(after.createdAt, after.id);
    const position = `($${values.length - 1}::timestamptz, $${values.length}::uuid)`;
    conditions.push(`(j.created_at, j.id) ${behind} ${position}`);
  }
  const [rows, total] = await Promise.all([
    query<Row>(
      withSnapshot(
        `select ${jobColumns(LISTED_BYTES, omit)}, j.created_at::text as position
         from jobcast.jobs j ${PRESENT_CHANGE}
         ${where(conditions)}
         order by j.created_at ${direction}, j.id ${direction}
         limit ${limit + 1} offset ${offset ?? 0}`,
      ),
      values,
    ),
    offset === undefined ? undefined : countJobs(query, filter),
  ]);
  const found = rows.flatMap((row) => (row.id === null ? [] : [row]));
  const shown = found.slice(0, limit);
  const last = found.length > shown.length ? shown.at(-1) : undefined;
  return {
    jobs: shown.map(toJobText),
    ...(total !== undefined && { total }),
    next: last && { createdAt: last.position, id: last.id },
    snapshot: seenBy(rows),
  };
}

async function countJobs(query: Query, filter: JobFilter): Promise<number> {
  const { conditions, values } = matching(filter);
  const rows = await query<{ total: number }>(
    `select count(*) as total from jobcast.jobs j ${where(conditions)}`,
    values,
  );
  return theOne(rows).total;
}

function matching({ statuses, types, ...filter }: JobFilter): {
  conditions: string[];
  values: unknown[];
} {
  const names = Object.keys(CONDITIONS) as (keyof typeof CONDITIONS)[];
  const given = names.filter((name) => filter[name] !== undefined);
  const conditions = given.map((name, index) => CONDITIONS[name].replaceAll("?", `$${index + 1}`));
  const values: unknown[] = given.map((name) => filter[name]);
  for (const [column, names] of Object.entries({ status: statuses, type: types })) {
    if (!names) continue;
    // An index gives the rows of one status in their order, and of several it does not.
    values.push(names.length === 1 ? names[0] : names);
    const among = names.length === 1 ? "= ?" : "= any (?::text[])";
    conditions.push(`j.${column} ${among.replace("?", `$${values.length}`)}`);
  }
  return { conditions, values };
}

function where(conditions: readonly string[]): string {
  return conditions.length === 0 ? "" : `where ${conditions.join(" and ")}`;
}
