import type { Change } from "../change/change.ts";
import type { Scope, ScopeWalk } from "../change/scope.ts";
import { formatSnapshot, parseSnapshot, type Snapshot } from "../change/snapshot.ts";
import { firstRows, hasMore, type Paged } from "./change-page.ts";
import { CLIENT_BYTES, readFirstGroup, withCare } from "./change-values.ts";
import {
  type ChangeRow,
  changeColumns,
  DELETION_COLUMNS,
  hasChange,
  type MaybeChangeRow,
  STATE_KIND,
  toChange,
} from "./changes.ts";
import type { Lane } from "./lane.ts";
import type { Query } from "./query.ts";
import { versionOf, versionSeenBy } from "./versions.ts";
import { notVisibleIn, type SeenRow, seenBy, withSnapshot } from "./visibility.ts";

/** A page of a walk over many jobs; none weighs more than a megabyte, but for a single event. */
export type ScopePage = {
  readonly changes: readonly Change[];
  /** What the whole walk sees: whatever it does not see is still to come. */
  readonly snapshot: Snapshot;
  /** Where to go on; undefined at the end of the walk. */
  readonly next: ScopeWalk | undefined;
};

/** A viewer that missed more is better served with the current state. */
const MAX_MISSED = 10_000;

const CONDITIONS: Readonly<Record<Scope["kind"], string>> = {
  jobs: "j.id = any ($1::uuid[])",
  owner: "j.owner_id = $1",
  batch: "j.batch_id = $1::uuid",
  all: "$1::text is null",
};

/** The same of `jobcast.deletions d`. */
const OF_DELETIONS: Readonly<Record<Scope["kind"], string>> = {
  jobs: "d.job_id = any ($1::uuid[])",
  owner: "d.owner_id = $1",
  batch: "d.batch_id = $1::uuid",
  all: "$1::text is null",
};

const STATES = "created_at desc, id desc";
const CHANGES = "job_id, version";

type Row = ChangeRow & Paged & { readonly created_at: string; readonly id: string };
type FirstRow = MaybeChangeRow<Omit<Row, keyof ChangeRow> & SeenRow & { missed: number }>;

/** What a stream over many jobs reads with. */
export type ScopeReader = ReturnType<typeof createScopeReader>;

/** Reads many jobs for one subscriber: their present states, or what it missed. */
export function createScopeReader(lane: Lane) {
  return {
    /**
     * The newest event of each job that is named, or of each in the batch, or else of each that is
     * unfinished.
     * @param owner whose turn it is
     */
    async readStates(scope: Scope, owner: string): Promise<ScopePage> {
      const query = lane.for({ owner });
      const rows = await withCare((isCareful) =>
        query<FirstRow>(
          withSnapshot(firstRows(presentStates(scope, isCareful), STATES, CLIENT_BYTES)),
          [parameterOf(scope), ...filtered(scope)],
        ),
      );
      return toPage(rows.filter(hasChange), { snapshot: seenBy(rows), since: undefined }, query);
    },

    /**
     * What committed since a snapshot, each job's versions ascending.
     * @returns undefined when it is more than a stream should replay, or when the snapshot is
     *   from the future: of a database that was set back
     */
    async readSince(scope: Scope, since: Snapshot, owner: string): Promise<ScopePage | undefined> {
      const query = lane.for({ owner });
      const rows = await withCare((isCareful) =>
        query<FirstRow>(
          withSnapshot(firstRows(missedChanges(scope, isCareful), CHANGES, CLIENT_BYTES)),
          [parameterOf(scope), formatSnapshot(since), ...filtered(scope)],
        ),
      );
      const [first] = rows;
      const isFuture = since.xmax > parseSnapshot(first?.snapshot ?? "").xmax;
      const missed = Math.max(0, ...rows.map((row) => row.missed));
      if (isFuture || missed > MAX_MISSED) return undefined;
      return toPage(rows.filter(hasChange), { snapshot: seenBy(rows), since }, query);
    },

    /** The next page of a walk, as its snapshot saw it, whatever was written since. */
    async readOn(scope: Scope, walk: ScopeWalk, owner: string): Promise<ScopePage> {
      const query = lane.for({ owner });
      const { snapshot, since, after } = walk;
      const values = [parameterOf(scope), formatSnapshot(snapshot), ...after];
      const rows = await withCare((isCareful) =>
        since
          ? query<Row>(firstRows(laterChanges(scope, isCareful), CHANGES, CLIENT_BYTES), [
              ...values,
              formatSnapshot(since),
              ...filtered(scope),
            ])
          : query<Row>(firstRows(laterStates(scope, isCareful), STATES, CLIENT_BYTES), [
              ...values,
              ...filtered(scope),
            ]),
      );
      return toPage(rows, walk, query);
    },
  };
}

async function toPage(
  rows: readonly Row[],
  walk: Pick<ScopeWalk, "snapshot" | "since">,
  query: Query,
): Promise<ScopePage> {
  const { whole, taken } = await readFirstGroup(rows, query, CLIENT_BYTES);
  const last = rows[taken - 1];
  const isOver = !last || (taken === rows.length && !hasMore(rows));
  return {
    changes: whole.map(toChange),
    snapshot: walk.snapshot,
    next: isOver
      ? undefined
      : {
          ...walk,
          after: walk.since ? [last.job_id, String(last.version)] : [last.created_at, last.id],
        },
  };
}

function parameterOf(scope: Scope): string | readonly string[] | null {
  if (scope.kind === "all") return null;
  return scope.kind === "jobs" ? scope.jobIds : scope.id;
}

/** What changes `h` of jobs `j` are told; the parameters of `filtered` are numbered from `first` on. */
function filterOf({ filter }: Scope, first: number): string {
  const { types, statuses } = filter ?? {};
  const columns = [...(types ? ["j.type"] : []), ...(statuses ? ["h.status"] : [])];
  return columns.map((name, index) => `and ${name} = any ($${first + index}::text[])`).join(" ");
}

function filtered({ filter }: Scope): readonly (readonly string[])[] {
  return [filter?.types, filter?.statuses].flatMap((names) => (names ? [names] : []));
}

/** Of an owner, or of all, only the unfinished ones are told: all that ever were would be too many. */
function conditionOf({ kind }: Scope): string {
  const isWide = kind === "owner" || kind === "all";
  return `${CONDITIONS[kind]} ${isWide ? "and j.status in ('pending', 'queued', 'processing')" : ""}`;
}

function presentStates(scope: Scope, isCareful: boolean): string {
  return `
    select ${changeColumns(isCareful, STATE_KIND)}, j.created_at, j.id, 0 as missed
    from jobcast.jobs j cross join lateral (${versionOf("j.version")}) h
    where ${conditionOf(scope)} ${filterOf(scope, 2)}`;
}

/**
 * What the snapshot in $2 saw of the jobs behind the position in $3 and $4. One that has ended since
 * is left out, because its end is still to be told. Ids of the future came with a restore.
 */
function laterStates(scope: Scope, isCareful: boolean): string {
  return `
    select ${changeColumns(isCareful, STATE_KIND)}, j.created_at, j.id
    from jobcast.jobs j
    cross join lateral (${versionSeenBy("$2::pg_snapshot")}) h
    where ${conditionOf(scope)} and (j.created_at, j.id) < ($3::timestamptz, $4::uuid)
      ${filterOf(scope, 5)}`;
}

/** Changes that the snapshot in $2 did not see, and how many there are: up to one too many. */
function missedChanges(scope: Scope, isCareful: boolean): string {
  return `
    select ${changeColumns(isCareful)}, null::timestamptz as created_at, null::uuid as id,
      count(*) over () as missed
    from (
      select h.job_id, h.version
      from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
      where ${CONDITIONS[scope.kind]} and ${notVisibleIn("$2")} ${filterOf(scope, 3)}
      limit ${MAX_MISSED + 1}
    ) m
    join jobcast.status_history h on h.job_id = m.job_id and h.version = m.version
    join jobcast.jobs j on j.id = m.job_id
    union all
    select ${DELETION_COLUMNS}, null, null, 0
    from jobcast.deletions d
    where ${OF_DELETIONS[scope.kind]} and ${notVisibleIn("$2", "d")}`;
}

/** Of the changes since the snapshot in $5 those that the one in $2 saw, behind $3 and $4. */
function laterChanges(scope: Scope, isCareful: boolean): string {
  return `
    select ${changeColumns(isCareful)}, null::timestamptz as created_at, null::uuid as id
    from jobcast.status_history h join jobcast.jobs j on j.id = h.job_id
    where ${CONDITIONS[scope.kind]} and ${notVisibleIn("$5")}
      and pg_visible_in_snapshot(h.xid, $2::pg_snapshot)
      and (h.job_id, h.version) > ($3::uuid, $4::bigint) ${filterOf(scope, 6)}
    union all
    select ${DELETION_COLUMNS}, null, null
    from jobcast.deletions d
    where ${OF_DELETIONS[scope.kind]} and ${notVisibleIn("$5", "d")}
      and pg_visible_in_snapshot(d.xid, $2::pg_snapshot)
      and (d.job_id, d.version) > ($3::uuid, $4::bigint)`;
}
