import { createHmac } from "node:crypto";
import { join } from "node:path";
import pg from "pg";

/** The database of the service, and the role that owns it and is no superuser. */
const SERVICE_DATABASE = "jobcast";
const SERVICE_ROLE = "jobcast";

const DUPLICATE_OBJECT = "42710";

/** Where the service finds its database, as its owner; and where the superuser does. */
export type ServiceUrls = { readonly url: string; readonly superuserUrl: string };

/**
 * Connects, which proves that the server answers to the superuser's password, and makes our database
 * and its owner. What runs with the owner's rights inside the database then cannot do more than that
 * owner may: no reading of files, no other database.
 */
export async function ensureDatabase(
  { port, password }: { port: number; password: string },
  dataDir: string,
): Promise<ServiceUrls> {
  // From the superuser's, and not the other way round: one secret is kept.
  const own = createHmac("sha256", password).update(`role ${SERVICE_ROLE}`).digest("hex");
  const urlOf = (role: string, secret: string, database: string) =>
    `postgres://${role}:${secret}@127.0.0.1:${port}/${database}`;
  try {
    await withClient(urlOf("postgres", password, "postgres"), (client) => ensureOwned(client, own));
    const superuserUrl = urlOf("postgres", password, SERVICE_DATABASE);
    await withClient(superuserUrl, handOver);
    return { url: urlOf(SERVICE_ROLE, own, SERVICE_DATABASE), superuserUrl };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `The PostgreSQL in ${dataDir} started and cannot be used: ${why}. If its password was ` +
        `changed, delete ${join(dataDir, "postgres-password")} to have a new one set.`,
      { cause },
    );
  }
}

async function withClient(
  connectionString: string,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({
    connectionString,
    connectionTimeoutMillis: 5_000,
    query_timeout: 30_000,
  });
  // What it reports after a failure that `connect` or `query` has thrown already.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await work(client);
  } finally {
    await client.end();
  }
}

async function ensureOwned(client: pg.Client, password: string): Promise<void> {
  await client.query(`create role ${SERVICE_ROLE}`).catch((error: unknown) => {
    if (!(error instanceof pg.DatabaseError) || error.code !== DUPLICATE_OBJECT) throw error;
  });
  await client.query(
    `alter role ${SERVICE_ROLE} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
     password '${password}'`,
  );
  const found = await client.query("select from pg_database where datname = $1", [
    SERVICE_DATABASE,
  ]);
  if (found.rowCount === 0) {
    await client.query(`create database ${SERVICE_DATABASE} owner ${SERVICE_ROLE}`);
  }
}

/** What was made while the service was a superuser: each thing by itself, as no command takes all. */
async function handOver(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ command: string }>(
    `with schema as (
       select oid, nspowner from pg_namespace where nspname = 'jobcast'
         and nspowner <> $1::regrole
     )
     select format('alter table jobcast.%I owner to ${SERVICE_ROLE}', c.relname) as command
     from pg_class c join schema s on s.oid = c.relnamespace where c.relkind in ('r', 'p', 'v')
     union all
     select format('alter routine %s owner to ${SERVICE_ROLE}', p.oid::regprocedure)
     from pg_proc p join schema s on s.oid = p.pronamespace
     union all
     select 'alter schema jobcast owner to ${SERVICE_ROLE}' from schema`,
    [SERVICE_ROLE],
  );
  await client.query(
    ["begin", `alter database ${SERVICE_DATABASE} owner to ${SERVICE_ROLE}`]
      .concat(rows.map(({ command }) => command))
      .concat("commit")
      .join("; "),
  );
}
