import { z } from "zod";
import {
  ConfigError,
  type GivenOptions,
  jwtFields,
  limitFields,
  MIN_SECRET_BYTES,
  type OptionProblem,
  type Options,
  oneOf,
  optionFields,
  retentionFields,
  wholeNumber,
} from "../options.ts";
import { grouped, LIMITS, numberIn, ofGroup, RETENTION } from "./config-groups.ts";

/** What the process is told by its environment; see .env.example for units and defaults. */
export type Config = Omit<Options, "databaseUrl" | "jwt"> & {
  readonly isProduction: boolean;
  readonly port: number;
  readonly host: string;
  /** Unset: an embedded PostgreSQL under `dataDir`. */
  readonly databaseUrl: string | undefined;
  /** How long a start waits for a database that is not there yet. */
  readonly databaseWaitSeconds: number;
  readonly dataDir: string;
  /** Unset without a key set (development only): a secret is made and kept under `dataDir`. */
  readonly jwt: Omit<Options["jwt"], "explainRefusals">;
  readonly drainSeconds: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
};

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** Their values never appear in a message: what is wrong is said in other words. */
const SECRET_KEYS: ReadonlySet<string> = new Set([
  "DATABASE_URL",
  "LISTEN_DATABASE_URL",
  "JWT_SECRET",
  "JWT_PREVIOUS_SECRET",
  "CALLBACK_SECRETS",
]);

/** A list as an environment has it: separated by commas. */
function listIn(field: z.ZodType<string[], string[] | undefined>) {
  return z
    .string()
    .optional()
    .transform((text) => text?.split(",").map((each) => each.trim()))
    .pipe(field);
}

const settings = z.object({
  NODE_ENV: oneOf(["development", "production", "test"]).default("development"),
  PORT: numberIn(wholeNumber(0, 65_535, "a TCP port, 0 for any that is free").default(3000)),
  HOST: z.string().optional(),
  DATABASE_URL: optionFields.databaseUrl.optional(),
  LISTEN_DATABASE_URL: optionFields.listenDatabaseUrl,
  DATABASE_WAIT_SECONDS: numberIn(wholeNumber(0, 3600, "seconds").default(0)),
  MIGRATE: optionFields.migrate,
  DATABASE_POOL_SIZE: numberIn(optionFields.databasePoolSize),
  DATA_DIR: z.string().default(".jobcast"),
  FEED: optionFields.feed,
  PRESENCE: optionFields.presence,
  JWT_SECRET: jwtFields.secret,
  JWT_PREVIOUS_SECRET: jwtFields.previousSecret,
  JWT_JWKS_URL: jwtFields.jwksUrl,
  JWT_ISSUER: jwtFields.issuer,
  JWT_AUDIENCE: jwtFields.audience,
  PUBLIC_URL: optionFields.publicUrl,
  CALLBACK_SECRETS: listIn(optionFields.callbackSecrets),
  CORS_ORIGINS: listIn(optionFields.corsOrigins),
  HEARTBEAT_SECONDS: numberIn(optionFields.heartbeatSeconds),
  RETRY_MS: numberIn(optionFields.retryMs),
  STREAM_BUFFER_BYTES: numberIn(optionFields.streamBufferBytes),
  TOTAL_BUFFER_BYTES: numberIn(optionFields.totalBufferBytes),
  MAX_STREAMS: numberIn(optionFields.maxStreams),
  MAX_STREAMS_PER_OWNER: numberIn(optionFields.maxStreamsPerOwner),
  MAX_STREAM_SECONDS: numberIn(optionFields.maxStreamSeconds),
  ...grouped(LIMITS, limitFields),
  ...grouped(RETENTION, retentionFields),
  DRAIN_SECONDS: numberIn(wholeNumber(0, 3600, "seconds").default(10)),
  LOG_LEVEL: oneOf(LOG_LEVELS).default("info"),
});

/** The name of every variable that is read. */
export const CONFIG_KEYS: readonly string[] = Object.keys(settings.shape);

/** What `jobcast migrate` needs to know. */
export type MigrateConfig = Pick<Config, "isProduction" | "databaseWaitSeconds" | "logLevel"> & {
  readonly databaseUrl: string;
};

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings. A variable that is empty counts as unset.
 *
 * @throws {ConfigError} naming every variable that is wrong or missing, and never a secret.
 */
export function loadConfig(env: Env): Config {
  return deepFreeze(toConfig(read(settings, env, contradictions)));
}

/**
 * The same of what a migration needs, which is no secret of tokens.
 *
 * @throws {ConfigError}
 */
export function loadMigrateConfig(env: Env): MigrateConfig {
  const needed = { NODE_ENV: true, DATABASE_WAIT_SECONDS: true, LOG_LEVEL: true } as const;
  const from = read(settings.pick(needed).extend({ DATABASE_URL: optionFields.databaseUrl }), env);
  return {
    isProduction: from.NODE_ENV === "production",
    databaseUrl: from.DATABASE_URL,
    databaseWaitSeconds: from.DATABASE_WAIT_SECONDS,
    logLevel: from.LOG_LEVEL,
  };
}

function read<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  env: Env,
  contradict: (given: Env) => OptionProblem[] = () => [],
): z.output<z.ZodObject<Shape>> {
  const given = Object.fromEntries(
    Object.keys(schema.shape)
      .filter((key) => env[key])
      .map((key) => [key, env[key]]),
  );
  const result = schema.safeParse(given);
  const problems = [...fieldProblems(result.error, given), ...contradict(given)];
  if (!result.success || problems.length > 0) throw new ConfigError(problems);
  return result.data;
}

function fieldProblems(error: z.ZodError | undefined, given: Env): OptionProblem[] {
  const problems = (error?.issues ?? []).map(({ path, message }): [string, OptionProblem] => {
    const key = String(path[0]);
    const value = shown(key, given[key] ?? "");
    return [key, { key, message: `${message}, got ${value}` }];
  });
  return [...new Map(problems).values()]; // of a list one item is enough
}

/** A value as a message may show it: without a secret, and on one line that a person can read. */
function shown(key: string, value: string): string {
  if (SECRET_KEYS.has(key)) return `${Buffer.byteLength(value)} bytes, which are not shown here`;
  const text = value.replace(/\/\/.*@/, "//[redacted]@");
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
}

/** What is wrong only beside another variable; looked at even when single ones are wrong too. */
function contradictions(given: Env): OptionProblem[] {
  const problems: OptionProblem[] = [];
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
    databasePoolSize: from.DATABASE_POOL_SIZE,
    databaseWaitSeconds: from.DATABASE_WAIT_SECONDS,
    migrate: from.MIGRATE,
    dataDir: from.DATA_DIR,
    feed: from.FEED,
    presence: from.PRESENCE,
    jwt: {
      secret: from.JWT_SECRET,
      previousSecret: from.JWT_PREVIOUS_SECRET,
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
    totalBufferBytes: from.TOTAL_BUFFER_BYTES,
    maxStreams: from.MAX_STREAMS,
    maxStreamsPerOwner: from.MAX_STREAMS_PER_OWNER,
    maxStreamSeconds: from.MAX_STREAM_SECONDS,
    retention: ofGroup(RETENTION, from),
    limits: ofGroup(LIMITS, from),
    drainSeconds: from.DRAIN_SECONDS,
    logLevel: from.LOG_LEVEL,
  };
}

/** What jobcast itself is told of it, when it is known where the database is and what signs tokens. */
export function optionsOf(
  config: Config,
  { databaseUrl, secret }: { databaseUrl: string; secret: string | undefined },
): GivenOptions {
  const {
    isProduction,
    port,
    host,
    dataDir,
    databaseWaitSeconds,
    drainSeconds,
    logLevel,
    ...options
  } = config;
  const jwt = { ...config.jwt, secret, explainRefusals: !isProduction };
  return { ...options, databaseUrl, jwt };
}

function deepFreeze(config: Config): Config {
  Object.freeze(config.jwt);
  Object.freeze(config.retention);
  Object.freeze(config.limits);
  Object.freeze(config.callbackSecrets);
  Object.freeze(config.corsOrigins);
  return Object.freeze(config);
}
