import type { Pool } from "pg";
import type { Change } from "../protocol/event.ts";
import type { Scope } from "../protocol/scope.ts";
import { formatSnapshot, parseSnapshot, type Snapshot } from "../protocol/snapshot.ts";
import {
  CHANGE_COLUMNS,
  hasChange,
  type MaybeChangeRow,
  NEWEST_XID,
  notVisibleIn,
  toChange,
  upTo,
} from "./changes.ts";

/** Changes, and the snapshot that saw them: whatever it did not see is still to come. */
export type ScopeRead = { readonly changes: readonly Change[]; readonly snapshot: Snapshot };

/** More unfinished jobs than a person can watch; the newest are told. */
const MAX_STATES = 5_000;

/** A viewer that missed more is better served with the current state. */
const MAX_MISSED = 10_000;

const CONDITIONS: Readonly<Record<Scope["kind"], string>> = {
  jobs: "j.id = any ($1::uuid[])",
  owner: "j.owner_id = $1",
  batch: "j.batch_id = $1::uuid",
};

function parameterOf(scope: Scope): string | readonly string[] {
  return scope.kind === "jobs" ? scope.jobIds : scope.id;
}

/** Reads many jobs for one subscriber: their present states, or what it missed. */
export function createScopeReader(pool: Pool) {
  async function read(
    changes: string,
    parameters: unknown[],
  ): Promise<ScopeRead & { end: number }> {
    const { rows } = await pool.query<MaybeChangeRow<{ snapshot: string; newest: string | null }>>(
      `select s.snapshot, s.newest, c.*
       from (select pg_current_snapshot()::text as snapshot, ${NEWEST_XID} as newest) s
       left join lateral (${changes}) c on true`,
      parameters,
    );
    const newest = rows[0]?.newest ?? null;
    const snapshot = parseSnapshot(rows[0]?.snapshot ?? "");
    return {
      changes: rows.filter(hasChange).map(toChange),
      snapshot: upTo(newest === null ? null : Number(newest), snapshot),
      end: snapshot.xmax,
    };
  }

  return {
    /** The newest event of each job that is named, or else of each that is unfinished. */
    readStates(scope: Scope): Promise<ScopeRead> {
      const unfinished =
        scope.kind === "owner" ? "and j.status in ('pending', 'queued', 'processing')" : "";
      return read(
        `select ${CHANGE_COLUMNS}
         from jobcast.jobs j join jobcast.status_history h on h.job_id = j.id and h.version = j.version
         where ${CONDITIONS[scope.kind]} ${unfinished}
         order by j.created_at desc, j.id desc
         limit ${MAX_STATES}`,
        [parameterOf(scope)],
      );
    },

    /**
     * What committed since a snapshot, each job's versions ascending.
     * @returns undefined when it is more than a stream should replay, or when the snapshot is
     *   from the future: of a database that was set back
     */
    async readSince(scope: Scope, since: Snapshot): Promise<ScopeRead | undefined> {
      const missed = await read(
        `select ${CHANGE_COLUMNS}
         from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
         where ${CONDITIONS[scope.kind]} and ${notVisibleIn("$2")}
         order by h.job_id, h.version
         limit ${MAX_MISSED + 1}`,
        [parameterOf(scope), formatSnapshot(since)],
      );
      if (missed.changes.length > MAX_MISSED || since.xmax > missed.end) return undefined;
      return missed;
    },
  };
}
