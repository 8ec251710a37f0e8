import { z } from "zod";
import { STREAM_DEFAULTS } from "./protocol/stream-defaults.ts";

/** What the process is told by its environment; see .env.example for units and defaults. */
export type Config = {
  readonly isProduction: boolean;
  readonly port: number;
  readonly host: string;
  /** Unset: an embedded PostgreSQL under `dataDir`. */
  readonly databaseUrl: string | undefined;
  readonly listenDatabaseUrl: string | undefined;
  readonly dataDir: string;
  readonly feed: "auto" | "bell" | "poll";
  readonly jwt: {
    /** Unset without `jwksUrl` (development only): one is made and kept under `dataDir`. */
    readonly secret: string | undefined;
    readonly jwksUrl: string | undefined;
    readonly issuer: string | undefined;
    readonly audience: string | undefined;
  };
  readonly publicUrl: string | undefined;
  readonly callbackSecrets: readonly string[];
  readonly corsOrigins: readonly string[];
  readonly heartbeatSeconds: number;
  readonly retryMs: number;
  readonly streamBufferBytes: number;
  readonly maxStreams: number;
  readonly maxStreamsPerOwner: number;
  readonly maxStreamSeconds: number;
  readonly drainSeconds: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
};

export type ConfigProblem = { readonly key: string; readonly message: string };

/** Everything that is wrong with the environment, in one message that a person can act on. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ key, message }) => `  ${key}: ${message}`);
    super(`jobcast cannot start with these settings:\n${lines.join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** RFC 7518, 3.2: a key of at least the hash's size. A shorter one can be guessed offline. */
const MIN_SECRET_BYTES = 32;

/** Their values never appear in a message: what is wrong is said in other words. */
const SECRET_KEYS: ReadonlySet<string> = new Set([
  "DATABASE_URL",
  "LISTEN_DATABASE_URL",
  "JWT_SECRET",
  "CALLBACK_SECRETS",
]);

function wholeNumber(min: number, max: number, unit: string) {
  const expected = `expected a whole number from ${min} to ${max} (${unit})`;
  return z
    .string()
    .regex(/^\d{1,15}$/, expected)
    .transform(Number)
    .pipe(z.number().min(min, expected).max(max, expected));
}

function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, `expected one of ${values.join(", ")}`);
}

function postgresUrl() {
  return z.string().refine(isPostgresUrl, "expected postgres://user:password@host:port/database");
}

/** As pg reads it: blanks are taken, and so is a user without a host (a Unix socket). */
function isPostgresUrl(text: string): boolean {
  const url = text.replaceAll(" ", "%20").replace("@/", "@socket/");
  return /^postgres(ql)?:\/\//.test(url) && URL.canParse(url);
}

/** An http or https URL; without the slash at its end, so that paths can be put behind it. */
function webUrl(expected: string) {
  return z
    .string()
    .refine(isWebUrl, expected)
    .transform((url) => url.replace(/\/+$/, ""));
}

function isWebUrl(text: string): boolean {
  if (!/^https?:\/\/[^/]/i.test(text) || !URL.canParse(text)) return false;
  const { username, password, search, hash } = new URL(text);
  return !username && !password && !search && !hash;
}

function isOrigin(text: string): boolean {
  if (!isWebUrl(text) || text.includes("*")) return false;
  return new URL(text).href === `${new URL(text).origin}/`;
}

/** Canonical base64 only: what another decoder reads differently would be another key. */
function isWebhookSecret(text: string): boolean {
  const [, base64 = ""] = /^whsec_(.*)$/.exec(text) ?? [];
  const key = Buffer.from(base64, "base64");
  return key.length >= 24 && key.length <= 64 && key.toString("base64") === base64;
}

function toList(text: string): string[] {
  return text.split(",").map((each) => each.trim());
}

const settings = z.object({
  NODE_ENV: oneOf(["development", "production", "test"]).default("development"),
  PORT: wholeNumber(0, 65_535, "a TCP port, 0 for any that is free").default(3000),
  HOST: z.string().optional(),
  DATABASE_URL: postgresUrl().optional(),
  LISTEN_DATABASE_URL: postgresUrl().optional(),
  DATA_DIR: z.string().default(".jobcast"),
  FEED: oneOf(["auto", "bell", "poll"]).default("auto"),
  JWT_SECRET: z
    .string()
    .refine(
      (secret) => Buffer.byteLength(secret) >= MIN_SECRET_BYTES,
      `expected at least ${MIN_SECRET_BYTES} bytes, as "openssl rand -base64 48" makes them`,
    )
    .optional(),
  JWT_JWKS_URL: z
    .string()
    .refine(
      (url) => isWebUrl(url.replace(/\?[^#]*/, "")),
      "expected an http or https URL of a JSON Web Key Set, without user and password",
    )
    .optional(),
  JWT_ISSUER: z.string().optional(),
  JWT_AUDIENCE: z.string().optional(),
  PUBLIC_URL: webUrl("expected an http or https URL without user, query or fragment").optional(),
  CALLBACK_SECRETS: z
    .string()
    .transform(toList)
    .refine(
      (secrets) => secrets.every(isWebhookSecret),
      'expected secrets of Standard Webhooks, "whsec_" and the base64 of 24 to 64 bytes, separated by commas',
    )
    .default([]),
  CORS_ORIGINS: z
    .string()
    .transform(toList)
    .refine(
      (origins) => origins.every(isOrigin),
      'expected origins such as "https://app.example.com", separated by commas (no "*": cookies are accepted)',
    )
    .transform((origins) => origins.map((each) => new URL(each).origin))
    .default([]),
  HEARTBEAT_SECONDS: wholeNumber(1, 300, "seconds").default(STREAM_DEFAULTS.heartbeatSeconds),
  RETRY_MS: wholeNumber(100, 600_000, "milliseconds").default(STREAM_DEFAULTS.retryMs),
  STREAM_BUFFER_BYTES: wholeNumber(4096, 1_073_741_824, "bytes").default(
    STREAM_DEFAULTS.streamBufferBytes,
  ),
  MAX_STREAMS: wholeNumber(1, 1_000_000, "streams").default(STREAM_DEFAULTS.maxStreams),
  MAX_STREAMS_PER_OWNER: wholeNumber(1, 1_000_000, "streams").default(
    STREAM_DEFAULTS.maxStreamsPerOwner,
  ),
  // The upper bound is a week: setTimeout takes at most 2^31 ms, and fires at once above that.
  MAX_STREAM_SECONDS: wholeNumber(1, 604_800, "seconds").default(STREAM_DEFAULTS.maxStreamSeconds),
  DRAIN_SECONDS: wholeNumber(0, 3600, "seconds").default(10),
  LOG_LEVEL: oneOf(LOG_LEVELS).default("info"),
});

/** The name of every variable that is read. */
export const CONFIG_KEYS: readonly string[] = Object.keys(settings.shape);

/**
 * Reads the settings. A variable that is empty counts as unset.
 *
 * @throws {ConfigError} naming every variable that is wrong or missing, and never a secret.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const given = Object.fromEntries(
    CONFIG_KEYS.filter((key) => env[key]).map((key) => [key, env[key]]),
  );
  const result = settings.safeParse(given);
  const problems = [...fieldProblems(result.error, given), ...contradictions(given)];
  if (!result.success || problems.length > 0) throw new ConfigError(problems);
  return deepFreeze(toConfig(result.data));
}

function fieldProblems(
  error: z.ZodError | undefined,
  given: Readonly<Record<string, string | undefined>>,
): ConfigProblem[] {
  return (error?.issues ?? []).map(({ path, message }) => {
    const key = String(path[0]);
    return { key, message: `${message}, got ${shown(key, given[key] ?? "")}` };
  });
}

/** A value as a message may show it: without a secret, and on one line that a person can read. */
function shown(key: string, value: string): string {
  if (SECRET_KEYS.has(key)) return `${Buffer.byteLength(value)} bytes, which are not shown here`;
  const text = value.replace(/\/\/.*@/, "//[redacted]@");
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
}

/** What is wrong only beside another variable; looked at even when single ones are wrong too. */
function contradictions(given: Readonly<Record<string, string | undefined>>): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  if (given["NODE_ENV"] === "production" && !given["JWT_SECRET"] && !given["JWT_JWKS_URL"]) {
    const message = `expected in production (at least ${MIN_SECRET_BYTES} bytes), or JWT_JWKS_URL, got neither`;
    problems.push({ key: "JWT_SECRET", message });
  }
  if (given["LISTEN_DATABASE_URL"] && !given["DATABASE_URL"]) {
    const message = "expected together with DATABASE_URL only, which is not set";
    problems.push({ key: "LISTEN_DATABASE_URL", message });
  }
  return problems;
}

function toConfig(from: z.infer<typeof settings>): Config {
  const isProduction = from.NODE_ENV === "production";
  return {
    isProduction,
    port: from.PORT,
    host: from.HOST ?? (isProduction ? "0.0.0.0" : "127.0.0.1"),
    databaseUrl: from.DATABASE_URL,
    listenDatabaseUrl: from.LISTEN_DATABASE_URL,
    dataDir: from.DATA_DIR,
    feed: from.FEED,
    jwt: {
      secret: from.JWT_SECRET,
      jwksUrl: from.JWT_JWKS_URL,
      issuer: from.JWT_ISSUER,
      audience: from.JWT_AUDIENCE,
    },
    publicUrl: from.PUBLIC_URL,
    callbackSecrets: from.CALLBACK_SECRETS,
    corsOrigins: from.CORS_ORIGINS,
    heartbeatSeconds: from.HEARTBEAT_SECONDS,
    retryMs: from.RETRY_MS,
    streamBufferBytes: from.STREAM_BUFFER_BYTES,
    maxStreams: from.MAX_STREAMS,
    maxStreamsPerOwner: from.MAX_STREAMS_PER_OWNER,
    maxStreamSeconds: from.MAX_STREAM_SECONDS,
    drainSeconds: from.DRAIN_SECONDS,
    logLevel: from.LOG_LEVEL,
  };
}

function deepFreeze(config: Config): Config {
  Object.freeze(config.jwt);
  Object.freeze(config.callbackSecrets);
  Object.freeze(config.corsOrigins);
  return Object.freeze(config);
}
