import { describe, expect, it } from "vitest";
import { createJobcast, type JobcastOptions } from "../src/jobcast.ts";
import { createLog } from "../src/log.ts";
import { ConfigError, limitFields, retentionFields } from "../src/options.ts";
import { CONFIG_KEYS, loadConfig } from "../src/service/config.ts";
import { LIMITS } from "../src/service/config-groups.ts";
import { TEST_SECRET } from "./support/tokens.ts";

const GOOD = { databaseUrl: "postgres://db/jobs", jwt: { secret: TEST_SECRET } };

/** By key, what `createJobcast` has against them. */
function problemsOf(options: object): Record<string, string> {
  try {
    createJobcast({ ...GOOD, log: createLog("silent"), ...options } as JobcastOptions);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return Object.fromEntries(error.problems.map(({ key, message }) => [key, message]));
  }
  return {};
}

/** `heartbeatSeconds` as the environment has it. */
const variableOf = (option: string) =>
  option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();

describe("the options of createJobcast", () => {
  it.each([
    ["no secret at all", { jwt: {} }, "jwt"],
    ["an empty secret, whose tokens anybody can sign", { jwt: { secret: "" } }, "jwt.secret"],
    ["a secret that can be guessed", { jwt: { secret: "x" } }, "jwt.secret"],
    ["the password that everybody takes", { jwt: { secret: "secret" } }, "jwt.secret"],
    [
      "an empty secret beside a key set",
      { jwt: { secret: "", jwksUrl: "https://id.example/keys" } },
      "jwt.secret",
    ],
    ["an empty issuer", { jwt: { secret: TEST_SECRET, issuer: "" } }, "jwt.issuer"],
    ["an empty audience", { jwt: { secret: TEST_SECRET, audience: "" } }, "jwt.audience"],
    ["a key set that is a path", { jwt: { jwksUrl: "/keys" } }, "jwt.jwksUrl"],
    ["no heartbeat", { heartbeatSeconds: 0 }, "heartbeatSeconds"],
    ["a negative number", { maxStreamSeconds: -1 }, "maxStreamSeconds"],
    ["not a number", { maxStreams: Number.NaN }, "maxStreams"],
    ["infinity", { streamBufferBytes: Number.POSITIVE_INFINITY }, "streamBufferBytes"],
    ["a number as text", { retryMs: "2000" }, "retryMs"],
    ["half a stream", { maxStreamsPerOwner: 1.5 }, "maxStreamsPerOwner"],
    ["null", { totalBufferBytes: null }, "totalBufferBytes"],
    ["a pool that starves", { databasePoolSize: 1 }, "databasePoolSize"],
    ["a feed that is none", { feed: "bogus" }, "feed"],
    ["another database", { databaseUrl: "mysql://db/jobs" }, "databaseUrl"],
    ["no database", { databaseUrl: "" }, "databaseUrl"],
    ["every origin", { corsOrigins: ["*"] }, "corsOrigins.0"],
    [
      "a path as origin",
      { corsOrigins: ["https://a.example", "https://b.example/x"] },
      "corsOrigins.1",
    ],
    ["a callback secret that is everybody's", { callbackSecrets: ["whsec_"] }, "callbackSecrets.0"],
    ["a public URL with a password", { publicUrl: "https://a:b@jobs.example" }, "publicUrl"],
    ["a word that is misspelt", { heartbeatSecond: 5 }, "heartbeatSecond"],
    [
      "a word of another door",
      { jwt: { secret: TEST_SECRET, secretOrKey: "x" } },
      "jwt.secretOrKey",
    ],
  ])("are refused with %s", (_, options, key) => {
    expect(Object.keys(problemsOf(options))).toEqual([key]);
  });

  it("are refused all at once, in one message that shows no secret", () => {
    const wrong = { jwt: { secret: "hunter2" }, heartbeatSeconds: 0, feed: "bogus" };
    const problems = problemsOf(wrong);
    expect(Object.keys(problems).sort()).toEqual(["feed", "heartbeatSeconds", "jwt.secret"]);
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });

  it("are taken where they are left out, or undefined as a variable that is not set", () => {
    expect(problemsOf({ publicUrl: undefined, maxStreams: undefined })).toEqual({});
  });
});

describe("both doors", () => {
  // One value that is out of range for each option that both have; lists are of texts.
  const wrong: Readonly<Record<string, string | number>> = {
    databaseUrl: "mysql://db/jobs",
    listenDatabaseUrl: "mysql://db/jobs",
    migrate: "sometimes",
    feed: "bogus",
    publicUrl: "ftp://jobs.example",
    presence: "maybe",
    callbackSecrets: "whsec_",
    corsOrigins: "*",
    databasePoolSize: 3,
    heartbeatSeconds: 0,
    retryMs: 99,
    streamBufferBytes: 4095,
    totalBufferBytes: 1,
    maxStreams: 0,
    maxStreamsPerOwner: 0,
    maxStreamSeconds: 0,
  };
  const onlyOfTheProcess = [
    ...["NODE_ENV", "PORT", "HOST", "DATA_DIR", "DATABASE_WAIT_SECONDS"],
    ...["DRAIN_SECONDS", "LOG_LEVEL"],
  ];

  it("have the same options, but for those of the process", () => {
    const shared = CONFIG_KEYS.filter(
      (key) =>
        !onlyOfTheProcess.includes(key) &&
        !/^(JWT|RETENTION)_/.test(key) &&
        !Object.hasOwn(LIMITS, key),
    );
    expect(Object.keys(wrong).map(variableOf).sort()).toEqual([...shared].sort());
  });

  it("have the same settings of what is kept", () => {
    for (const key of Object.keys(retentionFields)) {
      expect(Object.keys(problemsOf({ retention: { [key]: 0 } }))).toEqual([`retention.${key}`]);
      const name = variableOf(`retention_${key.replace("Days", "_days")}`);
      const env = { DATABASE_URL: "postgres://db/jobs", [name]: "0" };
      expect(() => loadConfig(env)).toThrow(`${name}: expected a whole number from 1`);
    }
    expect(CONFIG_KEYS.filter((key) => key.startsWith("RETENTION_"))).toHaveLength(
      Object.keys(retentionFields).length,
    );
  });

  it("have the same limits", () => {
    expect(Object.values(LIMITS).sort()).toEqual(Object.keys(limitFields).sort());
    for (const [name, key] of Object.entries(LIMITS)) {
      expect(Object.keys(problemsOf({ limits: { [key]: -1 } }))).toEqual([`limits.${key}`]);
      const env = { DATABASE_URL: "postgres://db/jobs", [name]: "x" };
      expect(() => loadConfig(env)).toThrow(`${name}: expected a whole number from `);
    }
  });

  it.each(Object.entries(wrong))("refuse %s = %s", (option, value) => {
    const isList = option === "callbackSecrets" || option === "corsOrigins";
    expect(Object.keys(problemsOf({ [option]: isList ? [value] : value }))).toEqual([
      isList ? `${option}.0` : option,
    ]);
    const env = { DATABASE_URL: "postgres://db/jobs", [variableOf(option)]: String(value) };
    expect(() => loadConfig(env)).toThrow(`${variableOf(option)}: `);
  });
});
