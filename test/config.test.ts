import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../src/options.ts";
import { CONFIG_KEYS, loadConfig } from "../src/service/config.ts";

const SECRET = "a-secret-of-at-least-32-bytes-really";

/** As a provider shows it. */
const webhookSecret = (bytes: number) => `whsec_${Buffer.alloc(bytes, 7).toString("base64")}`;

function problemsOf(env: Record<string, string | undefined>): Record<string, string> {
  try {
    loadConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return Object.fromEntries(error.problems.map(({ key, message }) => [key, message]));
  }
  return {};
}

describe("the defaults", () => {
  it("start in development on the loopback, with an embedded database", () => {
    expect(loadConfig({})).toEqual({
      isProduction: false,
      port: 3000,
      host: "127.0.0.1",
      databaseWaitSeconds: 0,
      migrate: "auto",
      dataDir: ".jobcast",
      feed: "auto",
      presence: "off",
      jwt: {},
      callbackSecrets: [],
      limits: {},
      corsOrigins: [],
      databasePoolSize: 12,
      heartbeatSeconds: 8,
      retryMs: 2000,
      streamBufferBytes: 1_048_576,
      totalBufferBytes: 134_217_728,
      maxStreams: 50_000,
      maxStreamsPerOwner: 100,
      maxStreamSeconds: 3600,
      retention: {},
      drainSeconds: 10,
      logLevel: "info",
    });
  });

  it("listen everywhere in production", () => {
    const config = loadConfig({ NODE_ENV: "production", JWT_SECRET: SECRET });
    expect(config).toMatchObject({ isProduction: true, host: "0.0.0.0" });
  });

  it("take the place of empty variables", () => {
    const empty = Object.fromEntries(CONFIG_KEYS.map((key) => [key, ""]));
    expect(loadConfig(empty)).toEqual(loadConfig({}));
  });

  it("cannot be changed afterwards, nor what they hold", () => {
    const config = loadConfig({});
    const values = [
      config,
      config.jwt,
      config.callbackSecrets,
      config.corsOrigins,
      config.retention,
    ];
    expect(values.map((value) => Object.isFrozen(value))).toEqual(values.map(() => true));
  });
});

describe("what is set", () => {
  it("is what the parts are given", () => {
    const config = loadConfig({
      NODE_ENV: "production",
      PORT: "0",
      HOST: "::1",
      DATABASE_URL: "postgres://u:p@db/jobs",
      LISTEN_DATABASE_URL: "postgresql://u:p@direct/jobs",
      DATABASE_WAIT_SECONDS: "30",
      MIGRATE: "off",
      DATA_DIR: "/var/lib/jobcast",
      FEED: "poll",
      JWT_SECRET: SECRET,
      JWT_PREVIOUS_SECRET: `${SECRET}-before`,
      JWT_JWKS_URL: "https://id.example/keys?tenant=1",
      JWT_ISSUER: "https://id.example",
      JWT_AUDIENCE: "jobs",
      PUBLIC_URL: "https://jobs.example/sub/",
      CALLBACK_SECRETS: `${webhookSecret(24)}, ${webhookSecret(64)}`,
      CORS_ORIGINS: "https://app.example/, http://localhost:5173",
      HEARTBEAT_SECONDS: "1",
      RETRY_MS: "100",
      STREAM_BUFFER_BYTES: "4096",
      TOTAL_BUFFER_BYTES: "1048576",
      DATABASE_POOL_SIZE: "4",
      MAX_STREAMS: "1",
      MAX_STREAMS_PER_OWNER: "2",
      MAX_STREAM_SECONDS: "3",
      RETENTION_COMPLETED_DAYS: "1",
      RETENTION_FAILED_DAYS: "2",
      RETENTION_CANCELLED_DAYS: "3",
      RETENTION_TIMEOUT_DAYS: "4",
      RETENTION_STEPS_DAYS: "5",
      RETENTION_DELIVERIES_DAYS: "6",
      RETENTION_KEYS_DAYS: "7",
      DRAIN_SECONDS: "0",
      LOG_LEVEL: "silent",
    });
    expect(config).toEqual({
      isProduction: true,
      port: 0,
      host: "::1",
      databaseUrl: "postgres://u:p@db/jobs",
      listenDatabaseUrl: "postgresql://u:p@direct/jobs",
      databaseWaitSeconds: 30,
      migrate: "off",
      dataDir: "/var/lib/jobcast",
      feed: "poll",
      presence: "off",
      jwt: {
        secret: SECRET,
        previousSecret: `${SECRET}-before`,
        jwksUrl: "https://id.example/keys?tenant=1",
        issuer: "https://id.example",
        audience: "jobs",
      },
      publicUrl: "https://jobs.example/sub",
      callbackSecrets: [webhookSecret(24), webhookSecret(64)],
      corsOrigins: ["https://app.example", "http://localhost:5173"],
      heartbeatSeconds: 1,
      retryMs: 100,
      streamBufferBytes: 4096,
      totalBufferBytes: 1_048_576,
      databasePoolSize: 4,
      maxStreams: 1,
      maxStreamsPerOwner: 2,
      limits: {},
      retention: {
        completedDays: 1,
        failedDays: 2,
        cancelledDays: 3,
        timeoutDays: 4,
        stepsDays: 5,
        deliveriesDays: 6,
        keysDays: 7,
      },
      maxStreamSeconds: 3,
      drainSeconds: 0,
      logLevel: "silent",
    });
  });
});

describe("what is wrong", () => {
  it("is told all at once, each with its value and what was expected", () => {
    const env = {
      NODE_ENV: "staging",
      PORT: "http",
      FEED: "push",
      RETRY_MS: "2s",
      MAX_STREAMS: "0",
      DRAIN_SECONDS: "-1",
      LOG_LEVEL: "loud",
      JWT_JWKS_URL: "keys.json",
      PUBLIC_URL: "jobs.example",
      CORS_ORIGINS: "*",
      DATABASE_URL: "mysql://root:hunter2@db/jobs",
      JWT_SECRET: "too-short-hunter2",
    };
    const problems = problemsOf(env);
    expect(Object.keys(problems).sort()).toEqual(Object.keys(env).sort());
    expect(problems["PORT"]).toBe(
      'expected a whole number from 0 to 65535 (a TCP port, 0 for any that is free), got "http"',
    );
    expect(problems["FEED"]).toBe('expected one of auto, bell, poll, got "push"');
    for (const [key, value] of Object.entries(env)) {
      if (value.includes("hunter2")) continue;
      expect(problems[key]).toContain(JSON.stringify(value));
    }
    expect(() => loadConfig(env)).toThrow(/PORT: .*\n(.*\n)*.*MAX_STREAMS: /);
  });

  it("never shows a secret, nor the password in a URL", () => {
    const env = {
      DATABASE_URL: "mysql://root:hunter2@db/jobs",
      LISTEN_DATABASE_URL: "hunter2",
      JWT_SECRET: "hunter2",
      JWT_JWKS_URL: "https://user:hunter2@id.example/keys",
      PUBLIC_URL: "https://user:hunter2/x@y@jobs.example",
      CALLBACK_SECRETS: "whsec_hunter2",
    };
    expect(Object.keys(problemsOf(env))).toHaveLength(6);
    expect(JSON.stringify(problemsOf(env))).not.toContain("hunter2");
  });

  it("includes what contradicts another variable, beside what is wrong by itself", () => {
    const problems = problemsOf({
      NODE_ENV: "production",
      PORT: "x",
      LISTEN_DATABASE_URL: "postgres://db/jobs",
    });
    expect(Object.keys(problems).sort()).toEqual(["JWT_SECRET", "LISTEN_DATABASE_URL", "PORT"]);
  });

  for (const [key, value] of [
    ["PORT", "65536"],
    ["PORT", "3000.5"],
    ["PORT", "1e3"],
    ["PORT", " 3000"],
    ["MAX_STREAM_SECONDS", "604801"],
    ["HEARTBEAT_SECONDS", "0"],
    ["STREAM_BUFFER_BYTES", "999999999999999999999"],
    ["DATABASE_URL", "postgres://user:hunter2@db:54x/jobs"],
    ["DATABASE_URL", "host=db dbname=jobs"],
    ["JWT_SECRET", "31-bytes-are-not-enough-for-it!"],
    ["PUBLIC_URL", "https://jobs.example/?a=b"],
    ["PUBLIC_URL", "ftp://jobs.example"],
    ["CORS_ORIGINS", "https://app.example/path"],
    ["CORS_ORIGINS", "https://*.example"],
    ["CORS_ORIGINS", "null"],
    ["CORS_ORIGINS", "https://a.example,"],
    ["CALLBACK_SECRETS", webhookSecret(23)],
    ["CALLBACK_SECRETS", webhookSecret(65)],
    ["CALLBACK_SECRETS", webhookSecret(32).slice("whsec_".length)],
    ["CALLBACK_SECRETS", webhookSecret(32).replace("B", "*")],
    ["CALLBACK_SECRETS", `${webhookSecret(32)},`],
  ] as const) {
    it(`refuses ${value} as ${key}`, () => {
      expect(Object.keys(problemsOf({ [key]: value }))).toEqual([key]);
    });
  }

  it("is no secret in production, unless keys come from elsewhere", () => {
    expect(Object.keys(problemsOf({ NODE_ENV: "production" }))).toEqual(["JWT_SECRET"]);
    const jwksUrl = "https://id.example/keys";
    expect(problemsOf({ NODE_ENV: "production", JWT_JWKS_URL: jwksUrl })).toEqual({});
  });

  it("is no database URL that pg takes", () => {
    for (const url of [
      "postgres:///jobs",
      "postgresql://user@/jobs?host=/run/postgresql",
      "postgres://user:a b%@db:5432/jobs?sslmode=require",
    ]) {
      expect(problemsOf({ DATABASE_URL: url })).toEqual({});
    }
  });

  it.each([
    ["postgres://u:p@a:5432,b:5432/jobs", /^expected one host/],
    ["postgres://u:pa/ss@db/jobs", /password percent-encoded/],
    ["postgres://u:pa#ss@db/jobs", /password percent-encoded/],
    ["postgres://u:12#34@db/jobs", /password percent-encoded/],
    ["postgres://u:12/34@db/jobs", /password percent-encoded/],
    ["postgres://u:12?34@db/jobs", /password percent-encoded/],
  ])("says of %s what to do about it", (url, message) => {
    const problem = problemsOf({ DATABASE_URL: url })["DATABASE_URL"];
    expect(problem).toMatch(message);
    expect(problem).not.toContain("db/jobs");
  });

  it("counts the bytes of a secret, not its characters", () => {
    expect(problemsOf({ JWT_SECRET: "ä".repeat(16) })).toEqual({});
  });
});

describe(".env.example", () => {
  const blocks = readFileSync(new URL("../.env.example", import.meta.url), "utf8")
    .trimEnd()
    .split("\n\n")
    .slice(1);
  const documented = blocks.map((block) => ({
    key: /^([A-Z_]+)=$/m.exec(block)?.[1],
    comment: block.replace(/^[A-Z_]+=$/m, ""),
  }));

  it("lists the variables that are read, all of them and no others", () => {
    expect(documented.map(({ key }) => key)).toEqual(CONFIG_KEYS);
  });

  it("says what each is and what it is without", () => {
    for (const { key, comment } of documented) expect(comment, key).toMatch(/^#.*\bDefault: /ms);
  });

  it("names every default that is a number, and its unit", () => {
    const defaults = new Map(Object.entries(loadConfig({})));
    for (const { key = "", comment } of documented) {
      const name = key.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
      const value = defaults.get(name);
      if (typeof value !== "number") continue;
      expect(comment, key).toMatch(new RegExp(`Default: ${value}\\b`));
      expect(comment, key).toMatch(/port|seconds|milliseconds|bytes|streams/i);
    }
  });
});
