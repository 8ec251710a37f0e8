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

/** The pool of the API and of the replays. Errors of idle connections are logged, not thrown. */
export function createPool(
  connectionString: string,
  options: { max?: number; onError: (error: Error) => void },
): pg.Pool {
  const pool = new pg.Pool({
    ...connectionConfig(connectionString, "jobcast"),
    max: options.max ?? 10,
  });
  pool.on("error", options.onError);
  return pool;
}
