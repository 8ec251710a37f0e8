import type { Request } from "express";

/** Where a request's token was found; what the browser adds by itself needs a look at the origin. */
export type FoundToken = { readonly token: string; readonly from: "header" | "query" | "cookie" };

/** Said of a request whose token nobody could read: what is wrong, for the log. */
export class MalformedTokenError extends Error {}

const COOKIE = "jobcast_token";

/** Of the query of streams: `EventSource` sends no headers. */
export const TOKEN_PARAMETER = "access_token";

/** [RFC 6750, 2.1] b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=" */
const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

/** More than any header may have, and little enough to look at. */
const MAX_TOKEN_LENGTH = 16_384;

/**
 * The request's token: `Authorization: Bearer`, else (where `query` says so) `?access_token=`, else
 * the cookie `jobcast_token`. The first that is there counts, even if it is the wrong one.
 *
 * @throws {MalformedTokenError}
 */
export function findToken(req: Request, { query }: { query: boolean }): FoundToken | undefined {
  const header = bearerToken(req.headersDistinct["authorization"]);
  if (header !== undefined) return { token: checked(header, "header"), from: "header" };
  const parameter: unknown = query ? req.query[TOKEN_PARAMETER] : undefined;
  if (parameter !== undefined) return { token: checked(parameter, "query"), from: "query" };
  const cookie = cookieValue(req.headers.cookie);
  if (cookie !== undefined) return { token: checked(cookie, "cookie"), from: "cookie" };
  return undefined;
}

function checked(token: unknown, from: string): string {
  if (typeof token !== "string" || token.length > MAX_TOKEN_LENGTH || !TOKEN.test(token)) {
    throw new MalformedTokenError(`the ${from} holds no token`);
  }
  return token;
}

/** Node keeps the first of several Authorization headers; a proxy before it may keep the last. */
function bearerToken(headers: readonly string[] | undefined): string | undefined {
  if (!headers) return undefined;
  const [header = ""] = headers;
  if (headers.length > 1) throw new MalformedTokenError("several Authorization headers");
  const [scheme = "", ...rest] = header.split(/ +/);
  if (scheme.toLowerCase() === "bearer") return rest.join(" ");
  // Another scheme is for somebody else, such as a proxy that asks for a password.
  if (rest.length > 0) return undefined;
  throw new MalformedTokenError("an Authorization header without a scheme");
}

/**
 * A page of a sibling domain can add a second cookie of this name, so two are refused. An empty one
 * is what is left after a logout.
 */
function cookieValue(header: string | undefined): string | undefined {
  const values = new Set(
    (header ?? "")
      .split(";")
      .map((pair) => pair.trim())
      .filter((pair) => pair.startsWith(`${COOKIE}=`))
      .map((pair) => pair.slice(COOKIE.length + 1).replace(/^"(.*)"$/, "$1"))
      .filter((value) => value !== ""),
  );
  if (values.size > 1) throw new MalformedTokenError(`several cookies ${COOKIE}`);
  return values.values().next().value;
}
