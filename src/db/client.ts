import { Socket } from "node:net";
import pg from "pg";
import { LIMITS, LISTEN_OPTIONS, settingsFor, type Work } from "./session-settings.ts";
import { typeParsers } from "./type-parsers.ts";

export type ClientConfig = {
  readonly connectionString: string;
  /** What the session is called in pg_stat_activity. */
  readonly name: string;
  readonly work: Work;
  /** Ends the session at once, also while it is being opened. */
  readonly signal?: AbortSignal | undefined;
};

const BEGIN = "begin isolation level read committed read write";

/** How long a server may take to let us in. */
const CONNECT_MS = 5_000;

/** More than any page of ours is; a row that somebody grew behind our backs may be larger. */
const MAX_ANSWER_BYTES = 32 * 1_024 * 1_024;

/** An answer was larger than this process should hold, and its connection was given up. */
export class AnswerTooLargeError extends Error {
  override readonly name = "AnswerTooLargeError";
}

/** What every connection of ours says of itself, and how long it waits before it gives up. */
function connectionConfig(connectionString: string, name: string): pg.ClientConfig {
  return {
    connectionString,
    application_name: name,
    types: typeParsers as pg.CustomTypesConfig,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    // Node asks the kernel to probe only after two hours unless told.
    keepAliveInitialDelayMillis: 10_000,
  };
}

/**
 * The same for a session on which nothing can be run but LISTEN: what the database sets otherwise
 * is set with its beginning.
 * @param maySet false behind a pooler that takes no settings
 */
export function listenConfig(connectionString: string, maySet: boolean): pg.ClientConfig {
  const config = connectionConfig(connectionString, "jobcast doorbell");
  return maySet ? { ...config, options: LISTEN_OPTIONS } : config;
}

/**
 * A session of ours: its settings are ours whatever the role, the database or the server say; its
 * answers are bounded in time and in bytes; and it can be given up at once.
 *
 * Behind a transaction pooler (PgBouncer, Supavisor, RDS Proxy) what a session sets goes to whoever
 * gets the server's session next. There each statement is a transaction that sets it for itself.
 */
export class DatabaseClient extends pg.Client {
  readonly #work: Work;
  readonly #socket: Socket;
  #isPooled = false;
  /** Of the answer that is awaited; undefined while none is. */
  #answerBytes: number | undefined;

  constructor({ connectionString, name, work, signal }: ClientConfig) {
    const socket = new Socket({ signal });
    super({
      ...connectionConfig(connectionString, name),
      query_timeout: LIMITS[work].answerMs,
      stream: () => socket,
    });
    this.#work = work;
    this.#socket = socket;
    // A query that was under way rejects as well; what nobody waits for must not end the process.
    this.on("error", () => undefined);
  }

  /** Whether statements one after the other may be carried out by different sessions of the server. */
  get isPooled(): boolean {
    return this.#isPooled;
  }

  /** Makes the session ours; once, after it was connected. */
  async prepare(): Promise<void> {
    this.#boundAnswers();
    const [row] = await this.#atOnce<{ pid: number }>("select pg_backend_pid() as pid");
    // A pooler makes up the process that a client may cancel, and has the server tell its own.
    this.#isPooled = row?.pid !== (this as unknown as { processID: number }).processID;
    if (!this.#isPooled) await this.#atOnce(settingsFor(this.#work, "session"));
  }

  /**
   * A statement before our settings are. Where the database has transactions serializable, read only
   * and deferrable unless told otherwise, it would first wait for all others to end.
   * @see https://www.postgresql.org/docs/current/sql-set-transaction.html
   */
  async #atOnce<Row extends object>(statement: string): Promise<readonly Row[]> {
    const answers: unknown = await this.query(`${BEGIN}; ${statement}; commit`);
    return (answers as readonly pg.QueryResult<Row>[])[1]?.rows ?? [];
  }

  /** One statement under our settings. */
  async run<Row extends object>(
    text: string,
    values: readonly unknown[] = [],
    answerMs?: number,
  ): Promise<Row[]> {
    if (!this.#isPooled) return this.send<Row>(text, values, answerMs);
    await this.begin();
    try {
      const rows = await this.send<Row>(text, values, answerMs);
      await this.send("commit");
      return rows;
    } catch (error) {
      // A session that cannot even do this was given up by the attempt.
      await this.send("rollback").catch(() => this.destroy());
      throw error;
    }
  }

  /** Begins a transaction of several statements, which are then sent, under our settings. */
  async begin(text = BEGIN): Promise<void> {
    // In one message: limits of the database's own count from the beginning on.
    const settings = this.#isPooled ? `; ${settingsFor(this.#work, "transaction")}` : "";
    await this.send(text + settings);
  }

  /** A statement as it is: in a transaction, or where one session is sure. */
  async send<Row extends object>(
    text: string,
    values: readonly unknown[] = [],
    answerMs = LIMITS[this.#work].answerMs,
  ): Promise<Row[]> {
    this.#answerBytes = 0;
    const config = { text, values: [...values], query_timeout: answerMs };
    try {
      return (await this.query<Row>(config as pg.QueryConfig)).rows;
    } catch (error) {
      // Not the server's word: no answer came, or half of one, and it may still come to the next.
      if (!(error instanceof pg.DatabaseError)) this.destroy();
      throw error;
    } finally {
      this.#answerBytes = undefined;
    }
  }

  /** At once, without a goodbye: the peer may be gone. */
  destroy(): void {
    this.#socket.destroy();
  }

  #boundAnswers(): void {
    // The driver reads a row to its end before it tells of it, so this counts what comes in.
    const { stream } = (this as unknown as { connection: { stream: Socket } }).connection;
    stream.on("data", (chunk: Buffer) => {
      if (this.#answerBytes === undefined) return; // notifications, of which nobody waits for the last
      this.#answerBytes += chunk.length;
      if (this.#answerBytes <= MAX_ANSWER_BYTES) return;
      stream.destroy(new AnswerTooLargeError(`more than ${MAX_ANSWER_BYTES} bytes of one answer`));
    });
  }
}
