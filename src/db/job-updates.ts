import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { JobText } from "../change/job-text.ts";
import {
  BULK_BYTES,
  type JobRow,
  jobColumns,
  LISTED_BYTES,
  NEWEST_CHANGE,
  toJobText,
} from "./job-row.ts";
import type { Query } from "./query.ts";

/**
 * What became of one update of many: the job afterwards, and the SQLSTATE of its refusal; or why it
 * could not be carried out, or not be tried again.
 */
export type UpdateOutcome = {
  readonly job?: JobText;
  readonly refusal?: string;
  readonly error?: unknown;
};

type OutcomeRow = { item: number; problem: string | null } & (JobRow | { id: null });

/** A job that somebody writes just now is free again in a moment; one that a worker holds is not. */
const LOCKED_PAUSES_MS = [20, 60, 180, 540];
const LOCKED = "JC007";

/**
 * The updates of the JSON array `updates` in the object `body` that are at these positions, from 1
 * on, each with an outcome.
 */
export async function updateJobs(
  query: Query,
  body: string,
  positions: readonly number[],
  source: string,
): Promise<ReadonlyMap<number, UpdateOutcome>> {
  const bytes = positions.length > 100 ? BULK_BYTES : LISTED_BYTES;
  const update = (some: readonly number[]) => {
    const call = (name: keyof typeof CALLS) =>
      query<OutcomeRow>(CALLS[name](bytes), [body, some, source]);
    // What is wrong with one of them has undone them all, and is wrong with that one alone.
    return call("together").catch((error: unknown) => {
      if (isAboutOne(error)) return call("each");
      throw error;
    });
  };
  const outcomes = new Map<number, UpdateOutcome>();
  let left = positions;
  for (const pause of [...LOCKED_PAUSES_MS, undefined]) {
    const asked = left;
    try {
      for (const row of await update(asked)) {
        outcomes.set(asked[row.item - 1] ?? 0, toOutcome(row));
      }
    } catch (error) {
      // What was done before is done, and is told.
      if (asked === positions) throw error;
      for (const position of asked) outcomes.set(position, { error });
    }
    left = asked.filter((position) => outcomes.get(position)?.refusal === LOCKED);
    if (left.length === 0 || pause === undefined) break;
    await delay(pause);
  }
  return outcomes;
}

/**
 * Whether a value, a rule, or what an application has hung on the table refused one of them.
 * [PostgreSQL, Appendix A] the classes of data, constraints, limits and of PL/pgSQL
 */
function isAboutOne(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(22|23|54|P0)/.test(error.code ?? "");
}

function callOf(updates: (patches: string) => string): (bytes: number) => string {
  const patches = `(select coalesce(jsonb_agg(p.patch order by p.position), '[]')
    from jsonb_array_elements($1::jsonb -> 'updates') with ordinality p (patch, position)
    where p.position = any ($2::bigint[]))`;
  return (bytes) => `
    select j.item, j.problem, ${jobColumns(bytes)}
    from (select u.item, u.problem, (u.job).* from ${updates(patches)} u) j ${NEWEST_CHANGE}
    order by j.item`;
}

const CALLS = {
  together: callOf((patches) => `jobcast.update_jobs(${patches}, $3, skip_locked => true)`),
  each: callOf((patches) => `jobcast.update_each(${patches}, $3)`),
};

function toOutcome(row: OutcomeRow): UpdateOutcome {
  return {
    ...(row.id !== null && { job: toJobText(row) }),
    ...(row.problem !== null && { refusal: row.problem }),
  };
}
