#!/usr/bin/env node
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import jwt from "jsonwebtoken";
import { type Config, loadConfig } from "./config.ts";
import { createLog, type Logger } from "./log.ts";
import { ConfigError } from "./options.ts";
import { type RunningServer, StartError, startServer } from "./server.ts";

const EVERY_SCOPE = "jobs:create jobs:write jobs:read credits:grant stats:read";

/** Beside `src` in the repository, and beside `dist` in the package. */
const packageJson: { readonly version: string } = createRequire(import.meta.url)("../package.json");

/** Ctrl-C reaches us twice under npm: from the terminal, and from npm, which passes it on. */
const SAME_SIGNAL_MS = 500;

const HELP = `jobcast: job status, from commit to browser

Usage: jobcast             starts the service, on an embedded PostgreSQL without DATABASE_URL
       jobcast --help      says this
       jobcast --version   says which one it is

It is configured by the environment, and by the file .env in the working directory: docs/operations.md.`;

/** Aborts the start, too, whatever it waits for. */
const stopping = new AbortController();

run().catch((error: unknown) => {
  if (stopping.signal.aborted) process.exit(0); // what had been started was stopped again
  const isExpected = error instanceof ConfigError || error instanceof StartError;
  console.error(isExpected ? error.message : error);
  process.exit(1);
});

async function run(): Promise<void> {
  if (isAnswered()) return;
  readEnvFile();
  const config = loadConfig(process.env);
  const log = createLog(config.logLevel, config.isProduction ? process.stdout : process.stderr);
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
  if (!config.isProduction) console.log(welcome(server, config));
}

/** What is asked of the command itself. @throws {StartError} for what it does not know */
function isAnswered(): boolean {
  try {
    const { values } = parseArgs({
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean" } },
    });
    if (values.help) console.log(HELP);
    else if (values.version) console.log(packageJson.version);
    else return false;
    return true;
  } catch (cause) {
    throw new StartError(`${(cause as Error).message}. See jobcast --help.`, { cause });
  }
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
function welcome(
  { url, secret, embeddedUrl }: RunningServer,
  { jwt: { issuer, audience } }: Config,
): string {
  const lines = [`jobcast listens on ${url}`];
  if (embeddedUrl) lines.push("", "Its database:", `  psql '${embeddedUrl}'`);
  if (secret === undefined) return lines.join("\n");
  const token = jwt.sign({ sub: "dev", scope: EVERY_SCOPE }, secret, {
    expiresIn: "24h",
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  });
  const curl = `curl -sS -H "Authorization: Bearer $TOKEN"`;
  const json = "-H 'Content-Type: application/json'";
  lines.push(
    "",
    "A token for 24 hours, a job, its stream and an update, to be pasted:",
    `  TOKEN='${token}'`,
    `  JOB=$(${curl} ${json} -d '{"type":"hello"}' ${url}/v1/jobs | sed 's/.*"jobId":"\\([^"]*\\)".*/\\1/')`,
    `  ${curl} -N "${url}/v1/jobs/$JOB/events" &`,
    `  sleep 1; ${curl} ${json} -X PATCH -d '{"status":"completed"}' "${url}/v1/jobs/$JOB"`,
  );
  return lines.join("\n");
}
