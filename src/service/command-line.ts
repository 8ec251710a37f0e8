import { parseArgs } from "node:util";
import { StartError } from "./start-error.ts";

export type Command = "start" | "migrate" | "help" | "version";

export const HELP = `jobcast: job status, from commit to browser

Usage: jobcast             starts the service, on an embedded PostgreSQL without DATABASE_URL
       jobcast migrate     migrates the database of DATABASE_URL, and ends
       jobcast --help      says this
       jobcast --version   says which one it is

It is configured by the environment, and by the file .env in the working directory: docs/operations.md.`;

/** @throws {StartError} for what it does not know */
export function parseCommand(args: readonly string[]): Command {
  const { values, positionals } = parse(args);
  if (values.help) return "help";
  if (values.version) return "version";
  const [command = "start", ...more] = positionals;
  if (command !== "start" && command !== "migrate") throw unknown(`Unknown command '${command}'`);
  if (more.length > 0) throw unknown(`Unexpected argument '${more[0]}'`);
  return command;
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean" } },
    });
  } catch (cause) {
    throw unknown((cause as Error).message.replace(/\. To specify a positional.*$/s, ""), cause);
  }
}

function unknown(what: string, cause?: unknown): StartError {
  return new StartError(`${what}. See jobcast --help.`, { cause });
}
