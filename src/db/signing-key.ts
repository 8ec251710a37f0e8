import { randomBytes } from "node:crypto";
import type { Query } from "./query.ts";

const KEY_BYTES = 32;

/** How often it is looked whether somebody took the key away. */
const REREAD_MS = 5_000;

/**
 * A key of that name in the database, which all processes on it share and the first that asks makes.
 * It is kept, and read again every few seconds: whoever deletes its row voids what it signed.
 */
export class SigningKey {
  readonly #query: Query;
  readonly #name: string;
  #known: Buffer | undefined;
  #reading: Promise<Buffer> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(query: Query, name: string) {
    this.#query = query;
    this.#name = name;
  }

  /** A failure is not kept. */
  async read(): Promise<Buffer> {
    return this.#known ?? this.#readAgain();
  }

  /** Whether what it signed is still good, as far as we know. */
  isCurrent(key: Buffer): boolean {
    return this.#known?.equals(key) ?? false;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      if (!this.#known) return;
      // While the database is away the key is good: nobody can have taken it.
      this.#readAgain().catch(() => undefined);
    }, REREAD_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #readAgain(): Promise<Buffer> {
    this.#reading ??= readKey(this.#query, this.#name)
      .then((key) => {
        // The same object for the same key: what was made of it is kept by who checks with it.
        if (!this.#known?.equals(key)) this.#known = key;
        return this.#known ?? key;
      })
      .finally(() => {
        this.#reading = undefined;
      });
    return this.#reading;
  }
}

async function readKey(query: Query, name: string): Promise<Buffer> {
  const found = await findKey(query, name);
  if (found) return found;
  // Of processes that start at once one makes it. The others' insert waits for that commit and
  // does nothing; what it waited for is visible to the next statement only.
  await query(
    "insert into jobcast.signing_keys (name, secret) values ($1, $2) on conflict do nothing",
    [name, randomBytes(KEY_BYTES)],
  );
  const made = await findKey(query, name);
  if (!made) throw new Error(`the signing key ${name} was deleted while it was read`);
  return made;
}

async function findKey(query: Query, name: string): Promise<Buffer | undefined> {
  const [row] = await query<{ secret: Buffer }>(
    "select secret from jobcast.signing_keys where name = $1",
    [name],
  );
  return row?.secret;
}
