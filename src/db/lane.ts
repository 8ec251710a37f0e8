import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { type Backoff, backoffMs } from "../backoff.ts";
import { JobcastError } from "../errors.ts";
import { AnswerTooLargeError, DatabaseClient } from "./client.ts";
import type { Query } from "./query.ts";
import type { Work } from "./session-settings.ts";
import { troubleOf } from "./trouble.ts";
import { type Turn, Turns } from "./turns.ts";

export type LaneOptions = {
  readonly connectionString: string;
  readonly name: string;
  readonly work: Work;
  /** Connections, which are made when they are first needed. */
  readonly size: number;
  /** How long one waits for a connection. Default: 5 s */
  readonly waitMs?: number | undefined;
  readonly onError: (error: Error) => void;
};

export type LaneState = {
  /** Whether the database answered lately, be it with an error. */
  readonly isHealthy: boolean;
  /** Why it does not; an SQLSTATE, an errno, or a word. */
  readonly trouble: string | undefined;
  readonly running: number;
  readonly waiting: number;
};

/** A connection that nobody used for so long is asked whether it still is one. */
const FRESH_MS = 5_000;
const PING_MS = 2_000;

/**
 * How old one may get: the name in a URL may lead somewhere else by now, and nobody cuts what leads
 * to where it led before.
 */
const MAX_AGE_S = 300;
const MAX_SERVICE_AGE_S = 30;

/** How long a new one may take. */
const CONNECT_MS = 5_000;

/** How long no answer may be no reason to doubt: a statement takes less. */
const HEALTHY_MS = 10_000;

/** How often a statement is tried that PostgreSQL took back for the sake of another one. */
const ATTEMPTS = 5;
const AGAIN: Backoff = { firstMs: 10, longestMs: 500 };

/** How long the statements that run may still take when the lane ends. */
const END_MS = 1_000;

/**
 * The whole statement was undone, for the sake of another one (40001, 40P01) or because a migration
 * gave a table another column after it was planned (42804, 0A000).
 */
const UNDONE: ReadonlySet<string> = new Set(["40001", "40P01", "42804", "0A000"]);

type Client = DatabaseClient & pg.PoolClient & { madeAt?: number; usedAt?: number };

/**
 * Connections for one kind of work, which can take nothing from another kind: a worker who holds a
 * job keeps those who would write it waiting, and nobody who reads.
 */
export class Lane {
  readonly #pool: pg.Pool;
  readonly #turns: Turns;
  readonly #work: Work;
  /** Ends its connections at once, also those that are being made. */
  readonly #cutting = new AbortController();
  /** What has been idle since before then was connected to somebody who may be gone. */
  #doubtedAt = Number.NEGATIVE_INFINITY;
  /** What was made before then may lead to another database than what is made now. */
  #validFrom = Number.NEGATIVE_INFINITY;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #trouble: string | undefined;
  #isProbing = false;
  #ending: Promise<void> | undefined;

  constructor({ connectionString, name, work, size, waitMs, onError }: LaneOptions) {
    this.#work = work;
    this.#turns = new Turns(size, waitMs);
    const { signal } = this.#cutting;
    const config = { connectionString, name, work, signal };
    this.#pool = new pg.Pool({
      ...config,
      max: size,
      connectionTimeoutMillis: CONNECT_MS,
      maxLifetimeSeconds: jittered(work === "service" ? MAX_SERVICE_AGE_S : MAX_AGE_S),
      Client: DatabaseClient as unknown as new () => pg.ClientBase,
      onConnect: (client) => this.#welcome(client as Client),
    });
    this.#pool.on("error", (error: Error & { client?: unknown }) => {
      // The pool hangs the whole client on it, which is not for a log.
      delete error.client;
      if (!signal.aborted) onError(error);
    });
  }

  state(): LaneState {
    return {
      isHealthy: performance.now() - this.#answeredAt < HEALTHY_MS,
      trouble: this.#trouble,
      running: this.#turns.running,
      waiting: this.#turns.waiting,
    };
  }

  /** One statement each, in turns. */
  for(turn: Turn): Query {
    return (text, values) => this.#turns.run(turn, () => this.#query(text, values));
  }

  /** Asks the database for a sign of life, unless it gave one lately or is being asked. */
  async probe(lately: number): Promise<void> {
    if (this.#isProbing || performance.now() - this.#answeredAt < lately) return;
    this.#isProbing = true;
    try {
      await this.#turns.run({}, () => this.#ping());
    } finally {
      this.#isProbing = false;
    }
  }

  /** Gives up every connection that there is, once it has done what it is doing. */
  renew(): void {
    this.#validFrom = performance.now();
  }

  /** In time, also while the database does not answer; safe to call twice. */
  async end(): Promise<void> {
    this.#ending ??= this.#end();
    await this.#ending;
  }

  async #query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#queryOnce<Row>(text, values);
      } catch (error) {
        if (attempt === ATTEMPTS || !this.#mayTryAgain(error, attempt)) throw error;
        await delay(backoffMs(attempt, AGAIN));
      }
    }
  }

  async #queryOnce<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
    const client = await this.#checkOut();
    try {
      const rows = await client.run<Row>(text, values);
      this.#answered(client);
      client.release();
      return rows;
    } catch (error) {
      if (error instanceof pg.DatabaseError && !isGone(error)) {
        this.#answered(client);
        client.release();
        throw error;
      }
      this.#doubtedAt = performance.now();
      client.destroy();
      client.release(true);
      throw isOfServer(error) ? error : this.#unanswered(error);
    }
  }

  #answered(client: Client): void {
    const now = performance.now();
    this.#answeredAt = now;
    this.#trouble = undefined;
    client.usedAt = now;
  }

  /** Of one connection: when it is dead, so may be all that were made before. */
  async #ping(): Promise<void> {
    const client = await this.#connect();
    if (await isAlive(client)) {
      this.#answered(client);
      client.release();
    } else {
      this.#doubtedAt = performance.now();
      client.destroy();
      client.release(true);
    }
  }

  /** A connection that is alive, as far as one can tell without asking each time. */
  async #checkOut(): Promise<Client> {
    for (;;) {
      const client = await this.#connect();
      const { usedAt = 0, madeAt = 0 } = client;
      if (madeAt < this.#validFrom) {
        client.destroy();
        client.release(true);
        continue;
      }
      if (usedAt > this.#doubtedAt && performance.now() - usedAt < FRESH_MS) return client;
      if (usedAt > this.#doubtedAt && (await isAlive(client))) return client;
      this.#doubtedAt = Math.max(this.#doubtedAt, usedAt);
      client.destroy();
      client.release(true);
    }
  }

  async #connect(): Promise<Client> {
    try {
      return (await this.#pool.connect()) as unknown as Client;
    } catch (error) {
      this.#trouble = troubleOf(error);
      throw error instanceof pg.DatabaseError ? error : unreachable(error);
    }
  }

  async #welcome(client: Client): Promise<void> {
    client.madeAt = performance.now();
    client.usedAt = client.madeAt;
    await client.prepare();
  }

  /** A read that got no answer has done nothing, as what was undone. */
  #mayTryAgain(error: unknown, attempt: number): boolean {
    if (error instanceof pg.DatabaseError) return UNDONE.has(error.code ?? "");
    return this.#work === "read" && attempt === 1 && error instanceof NoAnswerError;
  }

  #unanswered(cause: unknown): unknown {
    const isForeign = !(cause instanceof Error) || cause instanceof TypeError;
    if (isForeign || cause instanceof AnswerTooLargeError) return cause;
    return new NoAnswerError(this.#work.endsWith("write"), cause);
  }

  async #end(): Promise<void> {
    const cut = setTimeout(() => this.#cutting.abort(), END_MS);
    await this.#pool.end();
    clearTimeout(cut);
    // Idle ones have said goodbye, and a peer that is gone never answers it.
    this.#cutting.abort();
  }
}

function jittered(seconds: number): number {
  return seconds * (0.75 + Math.random() / 2);
}

function unreachable(cause: unknown): JobcastError {
  return new JobcastError("database_unavailable", "The database cannot be reached.", { cause });
}

/** The connection broke, or nothing came in time: nobody knows what became of the statement. */
class NoAnswerError extends JobcastError {
  constructor(isWrite: boolean, cause: Error) {
    super(
      "database_unavailable",
      isWrite
        ? "The database did not answer. What was asked of it may have been done, or not."
        : "The database did not answer.",
      { cause, ...(isWrite && { details: { outcome: "unknown" } }) },
    );
  }
}

/** Whether the server told that this connection is over, or that it leads to the wrong one. */
function isGone({ code = "", severity }: pg.DatabaseError): boolean {
  // 25006: a transaction that must write, on what has become a standby.
  return severity === "FATAL" || severity === "PANIC" || code === "25006" || code.startsWith("57P");
}

/**
 * Whether the server itself answered. A pooler that gives a connection up says so in its place, with
 * class 08, and does not know what became of the statement: a commit may be under way.
 */
function isOfServer(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && !error.code?.startsWith("08");
}

async function isAlive(client: Client): Promise<boolean> {
  try {
    await client.run("select 1", [], PING_MS);
    return true;
  } catch {
    return false; // the next one is tried, and made if there is none
  }
}
