import pg from "pg";

/** int8 as numbers: versions and counts stay far below 2^53. All else is what the driver makes of it. */
const types = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === pg.types.builtins.INT8 && format !== "binary") return Number;
    return format === "binary" ? pg.types.getTypeParser(oid, format) : pg.types.getTypeParser(oid);
  },
};

/** How tests connect by themselves, as a producer or an administrator does. */
export function testConnection(connectionString: string): pg.ClientConfig {
  return {
    connectionString,
    application_name: "jobcast tests",
    types: types as pg.CustomTypesConfig,
    connectionTimeoutMillis: 10_000,
    query_timeout: 60_000,
  };
}
