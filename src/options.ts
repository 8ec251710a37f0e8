import { z } from "zod";

/*
 * What jobcast can be told, whoever tells it: an application by `createJobcast`, or the environment.
 * One schema for both, so that what stops the one start stops the other.
 */

export type OptionProblem = { readonly key: string; readonly message: string };

/** Everything that is wrong with the settings, in one message that a person can act on. */
export class ConfigError extends Error {
  readonly problems: readonly OptionProblem[];

  constructor(problems: readonly OptionProblem[]) {
    const lines = problems.map(({ key, message }) => `  ${key}: ${message}`);
    super(`jobcast cannot start with these settings:\n${lines.join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}

/** RFC 7518, 3.2: a key of at least the hash's size. A shorter one can be guessed offline. */
export const MIN_SECRET_BYTES = 32;

export function wholeNumber(min: number, max: number, unit: string) {
  const expected = `expected a whole number from ${min} to ${max} (${unit})`;
  return z.int(expected).min(min, expected).max(max, expected);
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, `expected one of ${values.join(", ")}`);
}

const postgresUrl = z.string("expected a text").superRefine((url, context) => {
  const message = postgresUrlProblem(url);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});

/** As pg reads it: blanks are taken, and so is a user without a host (a Unix socket). */
function postgresUrlProblem(text: string): string | undefined {
  const expected = "expected postgres://user:password@host:port/database";
  const url = text.replaceAll(" ", "%20").replace("@/", "@socket/");
  if (!/^postgres(ql)?:\/\//.test(url)) return expected;
  if (!URL.canParse(url)) {
    const hosts = /^[^/]+\/\/(?:[^@/]*@)?([^/?#]*)/.exec(url)?.[1] ?? "";
    if (hosts.includes(",")) return "expected one host: of several pg would know only one";
    return `${expected}, and what is special in the password percent-encoded (/ as %2F, # as %23)`;
  }
  // Of an unencoded password that begins with digits a URL makes a port, and goes on with the rest.
  const { pathname, search, hash } = new URL(url);
  if (hash !== "" || pathname.includes("@") || /^\?[^=]*@/.test(search)) {
    return "expected what is special in the password percent-encoded (/ as %2F, # as %23, ? as %3F)";
  }
  return undefined;
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

const WEBHOOK_SECRET =
  'expected secrets of Standard Webhooks, "whsec_" and the base64 of 24 to 64 bytes';

const ORIGIN = 'expected origins such as "https://app.example.com" (no "*": cookies are accepted)';

const text = z.string("expected a text");

const days = wholeNumber(1, 36_500, "days").optional();

/** After how many days something is removed; what is left out stays for ever. */
export const retentionFields = {
  completedDays: days,
  failedDays: days,
  cancelledDays: days,
  timeoutDays: days,
  stepsDays: days,
  deliveriesDays: days,
  keysDays: days,
};

const perMinute = wholeNumber(1, 10_000_000, "a minute").optional();

/** How much one may ask for; what is left out is not bounded. */
export const limitFields = {
  writesPerMinute: perMinute,
  streamsPerMinute: perMinute,
  callbacksPerMinute: perMinute,
  refusalsPerMinute: perMinute,
  addressPerMinute: perMinute,
  unfinishedJobsPerOwner: wholeNumber(1, 10_000_000, "jobs").optional(),
  unfinishedBytesPerOwner: wholeNumber(1_024, 1_099_511_627_776, "bytes").optional(),
  trustedProxies: wholeNumber(0, 10, "proxies").optional(),
};

/** Each option by itself; units and defaults are in .env.example. */
export const optionFields = {
  databaseUrl: postgresUrl,
  listenDatabaseUrl: postgresUrl.optional(),
  databasePoolSize: wholeNumber(4, 1_000, "connections").default(12),
  migrate: oneOf(["auto", "off"]).default("auto"),
  feed: oneOf(["auto", "bell", "poll"]).default("auto"),
  presence: oneOf(["off", "on"]).default("off"),
  publicUrl: text
    .refine(isWebUrl, "expected an http or https URL without user, query or fragment")
    // Paths are put behind it.
    .transform((url) => url.replace(/\/+$/, ""))
    .optional(),
  callbackSecrets: z.array(text.refine(isWebhookSecret, WEBHOOK_SECRET)).default([]),
  corsOrigins: z
    .array(text.refine(isOrigin, ORIGIN).transform((origin) => new URL(origin).origin))
    .default([]),
  heartbeatSeconds: wholeNumber(1, 300, "seconds").default(8),
  retryMs: wholeNumber(100, 600_000, "milliseconds").default(2_000),
  streamBufferBytes: wholeNumber(4096, 1_073_741_824, "bytes").default(1_048_576),
  totalBufferBytes: wholeNumber(1_048_576, 1_099_511_627_776, "bytes").default(134_217_728),
  maxStreams: wholeNumber(1, 1_000_000, "streams").default(50_000),
  maxStreamsPerOwner: wholeNumber(1, 1_000_000, "streams").default(100),
  // The upper bound is a week.
  maxStreamSeconds: wholeNumber(1, 604_800, "seconds").default(3_600),
};

const secret = text.refine(
  (each) => Buffer.byteLength(each) >= MIN_SECRET_BYTES,
  `expected at least ${MIN_SECRET_BYTES} bytes, as "openssl rand -base64 48" makes them`,
);

export const jwtFields = {
  secret: secret.optional(),
  previousSecret: secret.optional(),
  jwksUrl: text
    .refine(
      (url) => isWebUrl(url.replace(/\?[^#]*/, "")),
      "expected an http or https URL of a JSON Web Key Set, without user and password",
    )
    .optional(),
  issuer: text.min(1, "expected a text that is not empty").optional(),
  audience: text.min(1, "expected a text that is not empty").optional(),
};

const optionsSchema = z.strictObject({
  ...optionFields,
  jwt: z
    .strictObject({
      ...jwtFields,
      /** Tells who was refused why, as the service does outside production: not for strangers. */
      explainRefusals: z.boolean("expected true or false").default(false),
    })
    .refine(
      ({ secret, jwksUrl }) => secret !== undefined || jwksUrl !== undefined,
      `expected a secret of at least ${MIN_SECRET_BYTES} bytes or a jwksUrl, got neither`,
    ),
  retention: z.strictObject(retentionFields).default({}),
  limits: z.strictObject(limitFields).prefault({}),
});

/** What an application may say: see .env.example for what each is. */
export type GivenOptions = z.input<typeof optionsSchema>;

/** The same, complete. */
export type Options = z.output<typeof optionsSchema>;

/** @throws {ConfigError} naming every option that is wrong, missing or unknown, and never a secret. */
export function parseOptions(given: GivenOptions): Options {
  const { success, data, error } = optionsSchema.safeParse(given);
  if (success) return data;
  throw new ConfigError(
    error.issues.flatMap((issue) => {
      const key = issue.path.map(String).join(".");
      if (issue.code !== "unrecognized_keys") return [{ key, message: issue.message }];
      const unknown = issue.keys.map((name) => (key === "" ? name : `${key}.${name}`));
      return unknown.map((name) => ({ key: name, message: "is not known" }));
    }),
  );
}
