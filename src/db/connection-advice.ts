import pg from "pg";

/** What to do about it, by SQLSTATE, by errno, by OpenSSL's or Node's word. */
const ADVICE: ReadonlyMap<string, string> = new Map([
  [
    "28P01",
    "The password of the URL is not that role's; what is special in it must be percent-encoded",
  ],
  ["28000", "The server lets this role in from elsewhere, or with TLS (sslmode=verify-full), only"],
  ["3D000", "Create the database, or name the one that there is"],
  [
    "25006",
    "That is a standby, or made read only: the URL must lead to the primary, also after a failover",
  ],
  [
    "53300",
    "Raise max_connections, or set DATABASE_POOL_SIZE lower: a process takes four beside it",
  ],
  ["57P03", "DATABASE_WAIT_SECONDS makes a start wait for it"],
  ["ECONNREFUSED", "Does it run there? DATABASE_WAIT_SECONDS makes a start wait for it"],
  ["ENOTFOUND", "The URL names a host that nobody knows"],
  ["ETIMEDOUT", "Nothing answers there: a firewall, or another address"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "The certificate is for another name than the URL's"],
  ["CERT_HAS_EXPIRED", "The server needs a new certificate"],
]);

const UNTRUSTED =
  "Name the authority that signed the server's certificate (sslrootcert=/path/to/ca.pem in the URL), " +
  "or trust whoever answers (sslmode=no-verify)";

/** What the driver finds by itself has no code. */
const WORDS: readonly (readonly [RegExp, string])[] = [
  [/client password must be a string/, "The server asks for a password, and the URL has none"],
  [/does not support SSL/, "Leave sslmode out of the URL, or turn TLS on at the server"],
];

/**
 * The same error with a sentence that says what to do, where there is one.
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export function adviceOn(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const advice = adviceFor(error);
  if (advice === undefined) return error;
  const errors: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
  const said = errors.map((each) => (each instanceof Error ? each.message : String(each)));
  return new Error(`${said.join("; ")}. ${advice}.`, { cause: error });
}

function adviceFor(error: Error): string | undefined {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  const known = typeof code === "string" ? ADVICE.get(code) : undefined;
  if (known !== undefined) return known;
  const isFromServer = error instanceof pg.DatabaseError;
  if (!isFromServer && typeof code === "string" && /SELF_SIGNED|UNABLE_TO/.test(code)) {
    return UNTRUSTED;
  }
  const words = WORDS.find(([pattern]) => pattern.test(error.message));
  if (words) return words[1];
  return cause instanceof Error ? adviceFor(cause) : undefined;
}
