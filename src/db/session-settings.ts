/** What a session is for. Its limits are on the server, below our own: what we gave up is over there too. */
export type Work = "read" | "write" | "waiting write" | "service" | "feed" | "migration";

type Limits = {
  /** Of one statement. Unit: milliseconds; 0 for none. */
  readonly statementMs: number;
  /** Of one wait for a lock: a worker's open transaction may hold a job for minutes. */
  readonly lockMs: number;
  /** How long we wait for an answer, which then can only mean that nobody is there. */
  readonly answerMs: number;
};

/** A transaction of ours in which nothing happens holds locks and snapshots for nobody. */
const IDLE_IN_TRANSACTION_MS = 30_000;

export const LIMITS: Readonly<Record<Work, Limits>> = {
  read: { statementMs: 8_000, lockMs: 2_000, answerMs: 10_000 },
  // A place that waits for a worker's transaction is one that nobody else has: who finds a lock waits
  // among others who do.
  write: { statementMs: 8_000, lockMs: 50, answerMs: 10_000 },
  "waiting write": { statementMs: 8_000, lockMs: 500, answerMs: 10_000 },
  service: { statementMs: 8_000, lockMs: 5_000, answerMs: 10_000 },
  feed: { statementMs: 4_000, lockMs: 2_000, answerMs: 5_000 },
  // As long as it takes; whether it is still at work is watched from another session.
  migration: { statementMs: 0, lockMs: 0, answerMs: 2 ** 31 - 1 },
};

/**
 * Whatever a role, a database or a server may set otherwise, and would change what our statements
 * mean, how values are written, or whether they are carried out at all.
 * @see https://www.postgresql.org/docs/current/runtime-config-client.html
 */
const MEANINGS: Readonly<Record<string, string>> = {
  DateStyle: "ISO, MDY",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  array_nulls: "on",
  bytea_output: "hex",
  extra_float_digits: "1",
  search_path: "pg_catalog, pg_temp",
  standard_conforming_strings: "on",
  transform_null_equals: "off",
  exit_on_error: "off",
  default_transaction_deferrable: "off",
  default_transaction_isolation: "read committed",
  default_transaction_read_only: "off",
  idle_session_timeout: "0",
  // Compiling costs more than any of our statements.
  jit: "off",
};

/** Without one of these a statement that reads a row or two may read a table. */
const PLANS: Readonly<Record<string, string>> = {
  enable_bitmapscan: "on",
  enable_hashjoin: "on",
  enable_indexonlyscan: "on",
  enable_indexscan: "on",
  enable_material: "on",
  enable_nestloop: "on",
  enable_seqscan: "on",
  enable_sort: "on",
  plan_cache_mode: "auto",
};

/**
 * [measured] The feed's index is always right, while the statistics of a table that only grows lag
 * behind, and with them the planner's guess.
 */
const PLANS_OF: Readonly<Partial<Record<Work, Readonly<Record<string, string>>>>> = {
  feed: { enable_seqscan: "off" },
};

/** Since PostgreSQL 17. */
const TRANSACTION_TIMEOUT = `case when current_setting('transaction_timeout', true) is not null
  then set_config('transaction_timeout', '0', IS_LOCAL) end`;

/** [design] Never off for a status: a viewer could have seen what a crash takes back. */
const SYNCHRONOUS_COMMIT = `case when current_setting('synchronous_commit') = 'off'
  then set_config('synchronous_commit', 'on', IS_LOCAL) end`;

/** As libpq writes settings that a session begins with. */
export const LISTEN_OPTIONS = [
  "idle_session_timeout=0",
  "statement_timeout=0",
  "lock_timeout=0",
  "default_transaction_deferrable=off",
]
  .map((setting) => `-c ${setting}`)
  .join(" ");

/**
 * One statement that sets everything, for the session or for the transaction that it is in.
 */
export function settingsFor(work: Work, where: "session" | "transaction"): string {
  const { statementMs, lockMs } = LIMITS[work];
  const settings = {
    ...MEANINGS,
    ...PLANS,
    ...PLANS_OF[work],
    statement_timeout: String(statementMs),
    lock_timeout: String(lockMs),
    idle_in_transaction_session_timeout: String(IDLE_IN_TRANSACTION_MS),
  };
  const calls = Object.entries(settings).map(
    ([name, value]) => `set_config('${name}', '${value}', IS_LOCAL)`,
  );
  return `select ${[...calls, TRANSACTION_TIMEOUT, SYNCHRONOUS_COMMIT].join(", ")}`.replaceAll(
    "IS_LOCAL",
    String(where === "transaction"),
  );
}
