import { randomBytes } from "node:crypto";
import type { Pool } from "pg";

const KEY_BYTES = 32;

/**
 * Reads a key of that name from the database, where the first process that asks makes it. It is
 * read once and kept; a failure is not kept.
 */
export function createSigningKey(pool: Pool, name: string): () => Promise<Buffer> {
  let reading: Promise<Buffer> | undefined;
  return () => {
    reading ??= readKey(pool, name).catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    return reading;
  };
}

async function readKey(pool: Pool, name: string): Promise<Buffer> {
  // Of processes that start at once one makes it. The others' insert waits for that commit and
  // does nothing; what it waited for is visible to the next statement only.
  await pool.query(
    "insert into jobcast.signing_keys (name, secret) values ($1, $2) on conflict do nothing",
    [name, randomBytes(KEY_BYTES)],
  );
  const { rows } = await pool.query<{ secret: Buffer }>(
    "select secret from jobcast.signing_keys where name = $1",
    [name],
  );
  const [row] = rows;
  if (!row) throw new Error(`the signing key ${name} was deleted while it was read`);
  return row.secret;
}
