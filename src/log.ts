import type { IncomingMessage, ServerResponse } from "node:http";
import { unescape as unescapeQuery } from "node:querystring";
import { type DestinationStream, destination as fileDestination, type Logger, pino } from "pino";
import type { Options } from "pino-http";
import { isCountedOnly } from "./calm-log.ts";

export type { Logger };

/** Writes JSON lines, by default to the standard output. */
export function createLog(
  level: string,
  destination: DestinationStream = fileDestination(1),
): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination);
}

/**
 * What pino-http writes of a request: method, URL and status, and no header at all, because
 * Authorization and Cookie carry tokens and others may.
 */
export const requestLogOptions = {
  // Ours get the request itself instead of a copy that has every header in it.
  wrapSerializers: false,
  serializers: {
    req: ({ id, method, url, originalUrl }: IncomingMessage & { originalUrl?: string }) => ({
      id,
      method,
      url: redactUrl(originalUrl ?? url ?? ""),
    }),
    res: ({ statusCode }: ServerResponse) => ({ status: statusCode }),
  },
  quietReqLogger: true,
  customLogLevel: ({ url }: IncomingMessage, res: ServerResponse) => {
    // What is refused for want of a database is counted, not listed, and so are probes.
    if (res.statusCode === 503 || isCountedOnly(res) || PROBES.test(url ?? "")) return "debug";
    return res.statusCode >= 500 ? "warn" : "info";
  },
  // The status says it: what went wrong has been logged where it did.
  customErrorObject: (_req, _res, _error, { err, ...line }) => line,
} satisfies Options;

/** What an orchestrator or a scraper asks every few seconds, under a prefix too. */
const PROBES = /^[^?]*\/(healthz|readyz|metrics)(\?|$)/;

/**
 * What looks like a token, wherever it is: clients put a second question mark, encode the first one,
 * or call it as they like. A JWT, and what is behind the number of a callback's attempt.
 */
const TOKENS = /eyJ[\w%.~-]{16,}|(?<![\w.])\d+(?:\.|%2e)[\w%.~-]{24,}/gi;

/**
 * The URL with the value of every query parameter that is named like a token taken out, and with
 * everything that looks like one.
 *
 * Names are decoded as Express decodes them: `access%5Ftoken` and `%74oken` name a token too.
 */
export function redactUrl(url: string): string {
  return redactNamed(url).replace(TOKENS, "[redacted]");
}

function redactNamed(url: string): string {
  const mark = url.indexOf("?");
  if (mark === -1) return url;
  const pairs = url.slice(mark + 1).split("&");
  return `${url.slice(0, mark)}?${pairs.map(redactPair).join("&")}`;
}

function redactPair(pair: string): string {
  const equals = pair.indexOf("=");
  const name = equals === -1 ? pair : pair.slice(0, equals);
  if (equals === -1 || !/token/i.test(unescapeQuery(name))) return pair;
  return `${name}=[redacted]`;
}
