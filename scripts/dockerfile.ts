/**
 * Reads a Dockerfile as far as ours goes, and carries out its COPY and RUN steps in folders.
 *
 * Usage: import { buildStage, parseDockerfile } from "./dockerfile.ts"   (see prove-image.ts)
 */
import { cp, mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { run } from "./run.ts";

export type Stage = {
  readonly name: string;
  readonly image: string;
  /** RUN and COPY, in their order. */
  readonly steps: { readonly instruction: "RUN" | "COPY"; readonly argument: string }[];
  readonly env: Record<string, string>;
  /** The last of each other instruction, such as WORKDIR, USER or CMD. */
  readonly settings: Record<string, string>;
};

const SETTINGS = new Set(["WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"]);

/** @throws {Error} naming an instruction that it does not know: a step left out proves nothing. */
export function parseDockerfile(text: string): Stage[] {
  const stages: Stage[] = [];
  const lines = text.replace(/^#.*\n/gm, "").replace(/\\\n\s*/g, "");
  for (const line of lines.split("\n").filter((each) => each.trim() !== "")) {
    const [, instruction = "", argument = ""] = /^([A-Z]+) (.+)$/.exec(line) ?? [];
    const stage = stages.at(-1);
    if (instruction === "FROM") stages.push(parseFrom(argument));
    else if (!stage) throw new Error(`before the first FROM: ${line}`);
    else if (instruction === "RUN" || instruction === "COPY")
      stage.steps.push({ instruction, argument });
    else if (instruction === "ENV") Object.assign(stage.env, parsePairs(argument));
    else if (SETTINGS.has(instruction)) stage.settings[instruction] = argument;
    else throw new Error(`unknown instruction: ${line}`);
  }
  return stages;
}

/** The words of the JSON form, ["node", "main.js"], which runs without a shell. */
export function parseCommand(argument: string | undefined): string[] {
  const words: unknown = JSON.parse(argument?.replace(/^.*?(?=\[)/, "") ?? "");
  if (Array.isArray(words) && words.every((word) => typeof word === "string")) return words;
  throw new Error(`expected a command as a JSON list of strings, got ${argument}`);
}

function parseFrom(argument: string): Stage {
  const [, image, name] = /^(\S+) AS (\S+)$/.exec(argument) ?? [];
  if (!image || !name) throw new Error(`expected FROM image AS name, got FROM ${argument}`);
  return { name, image, steps: [], env: {}, settings: {} };
}

function parsePairs(argument: string): Record<string, string> {
  const pairs = argument.split(/\s+/).map((pair) => pair.split(/=(.*)/s).slice(0, 2));
  return Object.fromEntries(pairs) as Record<string, string>;
}

/** Fills `folder`/context with what .dockerignore lets through; it must refuse all else. */
export async function makeContext(folder: string): Promise<void> {
  const lines = (await readFile(".dockerignore", "utf8")).split("\n");
  if (!lines.includes("*")) throw new Error('.dockerignore must begin with "*"');
  const names = lines.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  for (const name of names) await cp(name, join(folder, "context", name), { recursive: true });
}

/** Carries out a stage in `folder`/its name and returns the folder that is its WORKDIR. */
export async function buildStage(
  { name, steps, settings }: Stage,
  folder: string,
  options: { env: Record<string, string>; signal: AbortSignal },
): Promise<string> {
  const cwd = join(folder, name, settings["WORKDIR"] ?? "/");
  await mkdir(cwd, { recursive: true });
  for (const { instruction, argument } of steps) {
    console.log(`[${name}] ${instruction} ${argument}`);
    if (instruction === "COPY") await copy(argument, cwd, folder);
    else await run("/bin/sh", ["-c", argument], { ...options, cwd });
  }
  return cwd;
}

/** `COPY [--from=stage] source... target`: folders are merged, a target with a slash is a folder. */
async function copy(argument: string, workdir: string, folder: string): Promise<void> {
  const [, from = "context", list = ""] = /^(?:--from=(\S+) )?(.+)$/.exec(argument) ?? [];
  const sources = list.split(/\s+/);
  const target = sources.pop() ?? "";
  for (const source of sources) {
    const to = target.endsWith("/") ? join(target, basename(source)) : target;
    const options = { recursive: true, verbatimSymlinks: true };
    await cp(join(folder, from, source), join(workdir, to), options);
  }
}
