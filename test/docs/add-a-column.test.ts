import { execFile } from "node:child_process";
import { cp, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endAll, makeFolder, runMain } from "../main-process.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { openStream } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What is put behind which line of a file; the line is there once. */
type Edit = readonly [behind: string, lines: string];

/** Everything that `queuePosition` needs to be told with every version of a job, but its migration. */
const EDITS: Readonly<Record<string, readonly Edit[]>> = {
  "src/protocol/event.ts": [
    [
      "  counts: countsSchema.nullable().meta({ description: STATE_TEXTS.counts }),",
      '  queuePosition: z.int().nullable().meta({ description: "How many are before it." }),',
    ],
  ],
  "src/http/openapi/examples.ts": [["  counts: null,", "  queuePosition: null,"]],
  "src/db/versions.ts": [['  counts: "j.counts",', '  queue_position: "j.queue_position",']],
  "src/db/changes.ts": [
    ["  return `h.job_id, h.version, h.attempt, h.status, h.progress,", "    h.queue_position,"],
    [
      "export const DELETION_COLUMNS = `d.job_id, d.version, 0 as attempt, d.status, 0::float8 as progress,",
      "  null::integer as queue_position,",
    ],
    ["  readonly are_counts_omitted: boolean;", "  readonly queue_position: number | null;"],
    [
      `    \`,"counts":\${counts},"result":\${result},"error":\${error}\` +`,
      `    \`,"queuePosition":\${row.queue_position}\` +`,
    ],
  ],
  "src/db/job-row.ts": [
    ['  | "counts"', '  | "queue_position"'],
    ['    "n.source",', '    "j.queue_position::text",'],
    [
      '    source: row.source ?? "sql",',
      "    queue_position: row.queue_position === null ? null : Number(row.queue_position),",
    ],
  ],
};

/** The functions of the rules that know the columns of a version, from one list of them to another. */
const FUNCTIONS: Readonly<Record<string, readonly (readonly [from: string, to: string])[]>> = {
  tg_jobs__on_update: [
    [
      "new.counts, new.result, new.error)\n",
      "new.counts, new.result, new.error, new.queue_position)\n",
    ],
    [
      "old.counts, old.result, old.error) then\n    new.version",
      "old.counts, old.result, old.error, old.queue_position) then\n    new.version",
    ],
  ],
  tg_jobs__append_history: [
    ["counts, result, error, bytes,", "counts, result, error, queue_position, bytes,"],
    ["a.result, a.error,", "a.result, a.error, a.queue_position,"],
  ],
};

async function migration(): Promise<string> {
  const schema = await readFile(join(ROOT, "sql/schema.sql"), "utf8");
  const functions = Object.entries(FUNCTIONS).map(([name, replacements]) => {
    const [source = ""] =
      new RegExp(
        `CREATE OR REPLACE FUNCTION jobcast\\.${name}\\(\\)[\\s\\S]+?\\n\\$function\\$;\\n`,
      ).exec(schema) ?? [];
    return replacements.reduce((text, [from, to]) => {
      expect(text, name).toContain(from);
      return text.replaceAll(from, to);
    }, source);
  });
  return [
    "alter table jobcast.jobs add column queue_position integer;",
    "alter table jobcast.status_history add column queue_position integer;",
    ...functions,
  ].join("\n");
}

/** A copy of the service with the column. */
async function copyWithColumn(): Promise<string> {
  const folder = makeFolder();
  for (const name of ["src", "sql", "package.json", "tsconfig.json"]) {
    await cp(join(ROOT, name), join(folder, name), { recursive: true });
  }
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const [file, edits] of Object.entries(EDITS)) {
    let text = await readFile(join(ROOT, file), "utf8");
    for (const [behind, lines] of edits) {
      expect(text.split(`${behind}\n`), `${behind} in ${file}`).toHaveLength(2);
      text = text.replace(`${behind}\n`, () => `${behind}\n${lines}\n`);
    }
    await writeFile(join(folder, file), text);
  }
  await writeFile(join(folder, "sql/000999_queue_position.sql"), await migration());
  return folder;
}

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(async () => {
  await endAll();
  await database.drop();
});

describe("a column that streams, added as ARCHITECTURE.md says", () => {
  it("names every file that was touched", async () => {
    const [row = ""] =
      /^\| a column of a job that streams \|.*$/m.exec(
        await readFile(join(ROOT, "ARCHITECTURE.md"), "utf8"),
      ) ?? [];
    const named = Array.from(
      row.matchAll(/`((?:db|protocol|http\/openapi)\/[\w-]+\.ts)`/g),
      ([, file]) => `src/${file}`,
    );
    expect(named.toSorted()).toEqual(Object.keys(EDITS).toSorted());
    for (const name of Object.keys(FUNCTIONS)) expect(row).toContain(`\`${name}\``);
  });

  it("compiles, and is told on streams, of the job and in its history", async () => {
    const copy = await copyWithColumn();
    const compiled = promisify(execFile)(join(ROOT, "node_modules/.bin/tsc"), ["-p", copy]);
    const { stdout } = await compiled.catch((error: { stdout: string }) => error);
    expect(stdout).toBe("");
    const env = { DATABASE_URL: database.url, JWT_SECRET: TEST_SECRET };
    const main = runMain(env, copy, { main: join(copy, "src/main.ts") });
    const url = await main.url();
    const token = signToken({ sub: "alice" });
    // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever came
    const get = async (path: string): Promise<any> =>
      (await fetch(url + path, { headers: { authorization: `Bearer ${token}` } })).json();

    const [job] = await database.query<{ id: string }>(
      "select id from jobcast.create_job(owner_id => 'alice', type => 'mesh')",
    );
    const path = `/v1/jobs/${job?.id}`;
    const stream = await openStream({ url, path: `${path}/events`, token });
    expect(JSON.parse((await stream.next()).data)).toMatchObject({
      version: 1,
      queuePosition: null,
    });
    await database.query("update jobcast.jobs set queue_position = 7");
    const told = { version: 2, queuePosition: 7 };
    expect(JSON.parse((await stream.next(({ type }) => type === "status")).data)).toMatchObject(
      told,
    );
    await stream.close();

    expect(await get(path)).toMatchObject(told);
    expect(await get("/v1/jobs")).toMatchObject({ items: [told] });
    const { items } = await get(`${path}/history`);
    expect(items.at(-1)).toMatchObject(told);
    const { components } = await get("/openapi.json");
    expect(components.schemas.StatusEvent.properties).toHaveProperty("queuePosition");
    main.kill("SIGTERM");
    expect(await main.ended).toBe(0);
  });
});
