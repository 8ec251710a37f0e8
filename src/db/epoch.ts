import { createHash } from "node:crypto";
import pg from "pg";
import type { Query } from "./query.ts";

/** A history that was restored or made again in its place is another one, too. */
const HISTORY = `(select oid from pg_database where datname = current_database()) || ' '
    || 'jobcast.status_history'::regclass::oid`;

/** A snapshot means nothing to another cluster, to another timeline of it, or in another database. */
const OF_CLUSTER = `
  select system_identifier::text || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || ${HISTORY}
    as database
  from pg_control_system()`;

/**
 * Where the cluster does not tell (Aurora; a role without leave): a server that was started anew may
 * be another one. It is asked for more often than need be, and never too seldom.
 */
const OF_START = `
  select extract(epoch from pg_postmaster_start_time())::text || ' ' || ${HISTORY} as database`;

/**
 * The database behind a session in one short word, for cursors.
 * @throws {Error} on a standby, where LISTEN does not work and nothing can be written
 */
export async function readEpoch(query: Query): Promise<string> {
  const [server] = await query<{ is_standby: boolean }>("select pg_is_in_recovery() as is_standby");
  if (server?.is_standby)
    throw new Error("the server is a standby: it is read only, and cannot LISTEN");
  const [row] = await query<{ database: string }>(OF_CLUSTER).catch((error: unknown) => {
    if (error instanceof pg.DatabaseError && !isPassing(error))
      return query<{ database: string }>(OF_START);
    throw error;
  });
  const digest = createHash("sha256")
    .update(row?.database ?? "")
    .digest();
  return digest.readUIntBE(0, 4).toString(36);
}

/**
 * Tells whether two sessions of one moment are in the same database, whatever their roles may ask.
 * Unlike an epoch it changes with every start of the server.
 */
export async function readPlace(query: Query): Promise<string> {
  const [row] = await query<{ database: string }>(OF_START);
  return row?.database ?? "";
}

/** It was the connection, or a server that is on its way down: another attempt will tell. */
function isPassing({ code = "" }: pg.DatabaseError): boolean {
  return /^(08|53|57|55000|25006)/.test(code);
}
