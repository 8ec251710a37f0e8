#!/usr/bin/env node
import { createRequire } from "node:module";
import { SignJWT } from "jose";
import { createLog, type Logger } from "./log.ts";
import { ConfigError } from "./options.ts";
import { HELP, parseCommand } from "./service/command-line.ts";
import { type Config, loadConfig, loadMigrateConfig } from "./service/config.ts";
import { runMigrate } from "./service/migrate-command.ts";
import { type RunningServer, startServer } from "./service/server.ts";
import { StartError } from "./service/start-error.ts";

const EVERY_SCOPE = "jobs:create jobs:write jobs:read credits:grant stats:read";

/** Beside `src` in the repository, and beside `dist` in the package. */
const packageJson: { readonly version: string } = createRequire(import.meta.url)("../package.json");

/** Ctrl-C reaches us twice under npm: from the terminal, and from npm, which passes it on. */
const SAME_SIGNAL_MS = 500;

/** Aborts the start, too, whatever it waits for. */
const stopping = new AbortController();

run().catch((error: unknown) => {
  if (stopping.signal.aborted) process.exit(0); // what had been started was stopped again
  report(error);
  process.exit(1);
});

/** In production everything that is printed is read by a program. */
function report(error: unknown): void {
  const isExpected = error instanceof ConfigError || error instanceof StartError;
  if (process.env["NODE_ENV"] !== "production") {
    console.error(isExpected ? error.message : error);
    return;
  }
  const log = createLog("fatal", process.stderr);
  const problems = error instanceof ConfigError ? { problems: error.problems } : {};
  if (isExpected) log.fatal(problems, error.message);
  else log.fatal({ err: error }, "jobcast cannot start");
}

async function run(): Promise<void> {
  const command = parseCommand(process.argv.slice(2));
  if (command === "help") return console.log(HELP);
  if (command === "version") return console.log(packageJson.version);
  readEnvFile();
  if (command === "migrate") return migrateOnly();
  const config = loadConfig(process.env);
  const log = logFor(config);
  const starting = startServer({
    config,
    log,
    signal: stopping.signal,
    onFatal(err) {
      log.fatal({ err }, "jobcast cannot go on");
      end({ starting, code: 1, drainSeconds: 0 });
    },
  });
  endOnSignal(starting, log);
  const server = await starting;
  if (!config.isProduction) console.log(await welcome(server, config));
}

async function migrateOnly(): Promise<void> {
  const config = loadMigrateConfig(process.env);
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stopping.abort());
  const migrated = await runMigrate(config, logFor(config), stopping.signal);
  console.log(migrated.length > 0 ? migrated.join("\n") : "There is nothing to migrate.");
}

/** In production all that is printed is the log. */
function logFor({ logLevel, isProduction }: Pick<Config, "logLevel" | "isProduction">): Logger {
  return createLog(logLevel, isProduction ? process.stdout : process.stderr);
}

/** The file of that name in the working directory; what the environment says counts more. */
function readEnvFile(): void {
  try {
    process.loadEnvFile(".env");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function endOnSignal(starting: Promise<RunningServer>, log: Logger): void {
  let firstAt: number | undefined;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (firstAt === undefined) {
        firstAt = performance.now();
        log.info({ signal }, "stopping");
        stopping.abort();
        end({ starting, code: 0 });
      } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
        process.exit(1);
      }
    });
  }
}

/** In the middle of a start it is run() that ends: with what had been started stopped again. */
function end(how: { starting: Promise<RunningServer>; code: number; drainSeconds?: number }): void {
  const { starting, code, ...options } = how;
  starting
    .then((server) => server.stop(options))
    .then(
      () => process.exit(code), // whatever may still be open
      () => undefined, // the start failed, which run() reports
    );
}

/** What a developer sees: an address, a token, and lines to paste into one shell. */
async function welcome(
  { url, secret, embeddedUrl }: RunningServer,
  { jwt: { issuer, audience } }: Config,
): Promise<string> {
  const lines = [`jobcast listens on ${url}`];
  if (embeddedUrl) lines.push("", "Its database:", `  psql '${embeddedUrl}'`);
  if (secret === undefined) return lines.join("\n");
  const token = await new SignJWT({
    sub: "dev",
    scope: EVERY_SCOPE,
    ...(issuer !== undefined && { iss: issuer }),
    ...(audience !== undefined && { aud: audience }),
  })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuedAt()
    .setExpirationTime("24h")
    .sign(new TextEncoder().encode(secret));
  const curl = `curl -sS -H "Authorization: Bearer $TOKEN"`;
  const json = "-H 'Content-Type: application/json'";
  lines.push(
    "",
    "A token for 24 hours, a job, its stream and an update, to be pasted:",
    `  TOKEN='${token}'`,
    `  JOB=$(${curl} ${json} -d '{"type":"hello"}' ${url}/v1/jobs | sed 's/^{"id":"\\([^"]*\\)".*/\\1/')`,
    `  ${curl} -N "${url}/v1/jobs/$JOB/events" &`,
    `  sleep 1; ${curl} ${json} -X PATCH -d '{"status":"completed"}' "${url}/v1/jobs/$JOB"`,
  );
  return lines.join("\n");
}
