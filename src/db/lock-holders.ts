import type { Query } from "./query.ts";

type Holder = {
  readonly pid: number;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly transaction_seconds: number | null;
};

/** As many as a line of a log should name. */
const MOST = 5;

function holding(condition: string): string {
  return `
    select distinct a.pid, a.usename as role, a.application_name as application, a.state,
      extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_seconds
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.granted and l.pid <> pg_backend_pid() and ${condition}
    order by transaction_seconds desc nulls last
    limit ${MOST}`;
}

const ON_TABLES = holding(`l.locktype = 'relation'
  and l.database = (select oid from pg_database where datname = current_database())
  and l.relation in (select oid from pg_class where relnamespace = to_regnamespace('jobcast'))`);

const ON_BELL = holding(`l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32) + l.objid::bigint = jobcast.bell_lock()`);

/** Who has tables of ours locked, those with the oldest transactions first, for a log. */
export async function holdersOfTables(query: Query): Promise<string> {
  return describe(await query<Holder>(ON_TABLES));
}

/** Who holds the sleepers' lock against them. */
export async function holdersOfBell(query: Query): Promise<string> {
  return describe(await query<Holder>(ON_BELL));
}

function describe(holders: readonly Holder[]): string {
  const words = holders.map(({ pid, role, application, state, transaction_seconds: seconds }) => {
    // Of other roles' sessions only pg_read_all_stats is told more than the names.
    const more = [
      ...(state === null ? [] : [state]),
      ...(seconds === null ? [] : [`in a transaction for ${Math.round(seconds)} s`]),
    ];
    const name = application || "unnamed";
    return `process ${pid} of ${role ?? "somebody"} (${[name, ...more].join(", ")})`;
  });
  return words.join("; ") || "nobody any more";
}
