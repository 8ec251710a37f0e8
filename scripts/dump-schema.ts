/**
 * Writes what the migrations make of an empty database: sql/schema.sql, the schema as a picture to
 * read and to compare.
 *
 * Usage: npm run schema                        writes it
 *        npm run check:schema                  compares only: exits 1 and shows what differs
 *        node scripts/dump-schema.ts --url=postgres://...
 *          prints the picture as the server at that URL gives it; the database must be empty
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { migrate } from "../src/db/migrate.ts";
import { withTemporaryPostgres } from "./temporary-postgres.ts";

const ROOT = new URL("../", import.meta.url);
const PICTURE = "sql/schema.sql";
const NOTICE = "Written by `npm run schema` from the migrations in sql/. Do not edit.";

async function drawSchema(url: string): Promise<string> {
  await migrate({ connectionString: url });
  // An empty search_path makes PostgreSQL qualify every name that it prints.
  const pool = new pg.Pool({ connectionString: url, options: "-c search_path=pg_catalog" });
  // `end` does not wait for the sockets: a server that stops right after it tells them so.
  pool.on("error", (error) => {
    if (!pool.ending) throw error;
  });
  try {
    return await drawPicture(pool);
  } finally {
    await pool.end();
  }
}

async function drawPicture(pool: pg.Pool): Promise<string> {
  const query = await readFile(new URL("scripts/schema-picture.sql", ROOT), "utf8");
  const { rows } = await pool.query<{ place: number; about: string; text: string }>(query);
  let text = `-- ${NOTICE}\n`;
  let last = "";
  for (const row of rows) {
    const subject = `${row.place} ${row.about}`;
    text += `${subject === last ? "" : "\n"}${row.text}\n`;
    last = subject;
  }
  return text;
}

/** Whether the committed text is another one; the difference is printed. */
async function isStale(drawing: string): Promise<boolean> {
  const committed = await readFile(new URL(PICTURE, ROOT), "utf8").catch(() => "");
  if (committed === drawing) return false;
  const folder = await mkdtemp(join(tmpdir(), "jobcast-schema-"));
  const [before, after] = ["committed", "regenerated"].map((side) =>
    join(folder, `${side}-${basename(PICTURE)}`),
  ) as [string, string];
  await writeFile(before, committed);
  await writeFile(after, drawing);
  spawnSync("git", ["--no-pager", "diff", "--no-index", before, after], { stdio: "inherit" });
  await rm(folder, { recursive: true });
  return true;
}

const { values } = parseArgs({ options: { check: { type: "boolean" }, url: { type: "string" } } });
const drawing = await (values.url ? drawSchema(values.url) : withTemporaryPostgres(drawSchema));

if (values.url) process.stdout.write(drawing);
else if (!values.check) await writeFile(new URL(PICTURE, ROOT), drawing);
else if (await isStale(drawing)) {
  console.error(`\n${PICTURE} differs from what the migrations make: npm run schema`);
  process.exitCode = 1;
} else console.log(`${PICTURE} is what the migrations make`);
