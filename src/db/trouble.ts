import pg from "pg";

/**
 * Why a connection could not be had or used, for whoever asks without a token: the SQLSTATE of
 * PostgreSQL, the errno of the network, or what we found ourselves; never what a server wrote.
 */
export function troubleOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (error instanceof pg.DatabaseError && error.code) return error.code;
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code === "string" && /^E[A-Z]+$/.test(code)) return code;
  if (cause !== undefined) return troubleOf(cause);
  return error instanceof Error && error.name !== "Error" ? error.name : "no answer";
}
