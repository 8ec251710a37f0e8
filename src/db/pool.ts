import { Socket } from "node:net";
import pg from "pg";

/** int8 as number: versions, xids and counts stay far below 2^53. */
const types = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === pg.types.builtins.INT8 && format !== "binary") return Number;
    return format === "binary" ? pg.types.getTypeParser(oid, format) : pg.types.getTypeParser(oid);
  },
};

/** What every connection of ours says of itself and how long it waits before it gives up. */
export function connectionConfig(connectionString: string, name: string): pg.ClientConfig {
  return {
    connectionString,
    application_name: name,
    types: types as pg.CustomTypesConfig,
    connectionTimeoutMillis: 5_000,
    query_timeout: 15_000,
    keepAlive: true,
    // Node asks the kernel to probe only after two hours unless told.
    keepAliveInitialDelayMillis: 10_000,
  };
}

/** The longest that a timer can be set to: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;

/** A query that takes as long as it takes: work on whole tables, and waiting for others who do it. */
export function untimed(text: string): pg.QueryConfig {
  // The driver knows it for each query, its types only for a connection.
  return { text, query_timeout: LONGEST_MS } as pg.QueryConfig;
}

/** How long the queries that run may still take when the pool ends. */
const END_MS = 1_000;

/** The pool of the API and of the replays. Errors of idle connections are logged, not thrown. */
export function createPool(
  connectionString: string,
  options: { max?: number; onError: (error: Error) => void },
): pg.Pool {
  const pool = new BoundedPool({
    ...connectionConfig(connectionString, "jobcast"),
    max: options.max ?? 10,
  });
  pool.on("error", options.onError);
  // The pool listens while a connection is idle, and its user hears of it by the query. Between the
  // two, and while it says goodbye, nobody does: a server that stops just then would end us.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** A pool that ends in time, also while the database does not answer; it may be ended twice. */
class BoundedPool extends pg.Pool {
  readonly #sockets: Set<Socket>;
  #ending: Promise<void> | undefined;

  constructor(config: pg.PoolConfig) {
    const sockets = new Set<Socket>();
    const stream = () => {
      const socket = new Socket();
      sockets.add(socket);
      return socket.once("close", () => sockets.delete(socket));
    };
    super({ ...config, stream });
    this.#sockets = sockets;
  }

  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | void {
    this.#ending ??= this.#end();
    if (!callback) return this.#ending;
    void this.#ending.then(callback);
  }

  /** The driver waits for every query and every attempt to connect, however long it hangs. */
  async #end(): Promise<void> {
    const cut = () => {
      for (const socket of this.#sockets) socket.destroy();
    };
    const timer = setTimeout(cut, END_MS);
    await super.end();
    clearTimeout(timer);
    // Idle ones have sent their goodbye, and a peer that is gone never answers it.
    for (const socket of this.#sockets) socket.destroySoon();
  }
}
