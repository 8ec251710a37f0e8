import { randomBytes } from "node:crypto";
import type { Query } from "./query.ts";

const KEY_BYTES = 32;

/**
 * Reads a key of that name from the database, where the first process that asks makes it. It is
 * read once and kept; a failure is not kept.
 */
export function createSigningKey(query: Query, name: string): () => Promise<Buffer> {
  let reading: Promise<Buffer> | undefined;
  return () => {
    reading ??= readKey(query, name).catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    return reading;
  };
}

async function readKey(query: Query, name: string): Promise<Buffer> {
  // Of processes that start at once one makes it. The others' insert waits for that commit and
  // does nothing; what it waited for is visible to the next statement only.
  await query(
    "insert into jobcast.signing_keys (name, secret) values ($1, $2) on conflict do nothing",
    [name, randomBytes(KEY_BYTES)],
  );
  const [row] = await query<{ secret: Buffer }>(
    "select secret from jobcast.signing_keys where name = $1",
    [name],
  );
  if (!row) throw new Error(`the signing key ${name} was deleted while it was read`);
  return row.secret;
}
