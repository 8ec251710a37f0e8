/**
 * Writes the tables in docs/ that say what the code says, between the lines that name them.
 *
 * Usage: npm run docs                writes them
 *        npm run check:docs          compares only: exits 1 and names what differs
 */
import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { ERROR_CODES } from "../src/errors.ts";
import { EVENT_TABLE } from "../src/http/openapi/event-table.ts";
import { PROBLEM_TEXTS } from "../src/http/openapi/problem-texts.ts";
import { RESOURCES } from "../src/http/operations/all.ts";
import { PROBLEM_STATUS } from "../src/http/problem.ts";

const row = (...cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
const code = (text: string) => `\`${text}\``;
const or = (scopes: readonly string[] = []) => scopes.map(code).join(" or ");

function errorsTable(): string[] {
  return [
    row("code", "status", "when", "what to do"),
    row("---", "---", "---", "---"),
    ...ERROR_CODES.map((each) => {
      const { when, remedy } = PROBLEM_TEXTS[each];
      return row(code(each), PROBLEM_STATUS[each], when, remedy);
    }),
  ];
}

function accessTable(): string[] {
  const operations = RESOURCES.flatMap((resource) => resource.operations);
  const rows = operations
    .filter(({ isHidden }) => !isHidden)
    .map(({ method, path, summary, access }) => {
      const call = code(`${method.toUpperCase()} ${path}`);
      if (access === "open") return row(call, summary, "nobody is asked", "");
      if (access === "provider") {
        return row(call, summary, "the job's callback token, or a signature", "");
      }
      const token = access.isStream || access.isWatched ? "a token, or a stream token" : "a token";
      const owners = access.ownersMay === undefined ? "" : `; owners may ${access.ownersMay}`;
      const needs = access.scopes ? `a token with ${or(access.scopes)}${owners}` : token;
      return row(call, summary, needs, or(access.others));
    });
  return [
    row("call", "does", "needs", "and for what is somebody else's"),
    row("---", "---", "---", "---"),
    ...rows,
  ];
}

const TABLES = [
  { file: "docs/access.md", name: "access", lines: accessTable() },
  { file: "docs/errors.md", name: "errors", lines: errorsTable() },
  { file: "docs/protocol.md", name: "events", lines: EVENT_TABLE },
];

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
let areSame = true;
for (const { file, name, lines } of TABLES) {
  const url = new URL(`../${file}`, import.meta.url);
  const text = await readFile(url, "utf8");
  const place = new RegExp(`(<!-- ${name}: [^\\n]* -->\\n)[\\s\\S]*?(<!-- end -->)`);
  if (!place.test(text)) throw new Error(`${file} has no place for the table of ${name}`);
  const written = text.replace(place, (_, begin, end) => `${begin}\n${lines.join("\n")}\n\n${end}`);
  if (written === text) continue;
  if (!values.check) await writeFile(url, written);
  else {
    console.error(`${file} is not what the code says: npm run docs`);
    areSame = false;
  }
}
if (values.check && areSame) console.log("docs/ says what the code says");
process.exitCode = areSame ? 0 : 1;
