import { access, readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";

const ROOT = new URL("../../", import.meta.url);

const HEAD = ["| guarantee | proved by |", "|---|---|"];
const ROW = /^\| [^|]+ \| ([^|]+) \|$/;

/** A file of tests, and the name of one as it is written there. */
const REFERENCE = /^`(test\/[\w./-]+\.test\.ts)`: (.+)$/;
/** Why there is no test. */
const REASON = /^(cannot happen|outside): ./;

/** The first argument of `it(...)`, or behind a table or a condition: of `it.each(...)(...)`. */
const NAMED = /(?:\b(?:it|test|describe)(?:\.\w+)*|\))\(\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1,/g;

/** A line of a table, and what stands in its second column; nothing where it has no such form. */
type Row = { readonly line: string; readonly proofs: readonly string[] };

function read(path: string): Promise<string> {
  return readFile(new URL(path, ROOT), "utf8");
}

async function readRows(): Promise<Row[]> {
  const lines = (await read("docs/guarantees.md")).split("\n");
  return lines
    .filter((line) => line.startsWith("|") && !HEAD.includes(line))
    .map((line) => ({ line, proofs: ROW.exec(line)?.[1]?.split("<br>") ?? [] }));
}

function isProved({ proofs: [first = "", ...others] }: Row): boolean {
  return REASON.test(first) || [first, ...others].every((proof) => REFERENCE.test(proof));
}

/** The names of tests in a source, as they are written between their quotes. */
function namesIn(source: string): string[] {
  return Array.from(source.matchAll(NAMED), ([, , name = ""]) => name);
}

describe("docs/guarantees.md", () => {
  it("says of every guarantee which tests prove it, or why none is needed", async () => {
    const rows = await readRows();
    expect(rows.length).toBeGreaterThan(100);
    expect(rows.filter((row) => !isProved(row)).map(({ line }) => line)).toEqual([]);
  });

  it("names tests that there are, each of them once in its file", async () => {
    const wrong: string[] = [];
    for (const proof of new Set((await readRows()).flatMap(({ proofs }) => proofs))) {
      const [, path, name] = REFERENCE.exec(proof) ?? [];
      if (path === undefined || name === undefined) continue;
      const source = await read(path).catch(() => undefined);
      const found = namesIn(source ?? "").filter((each) => each === name).length;
      if (source === undefined) wrong.push(`there is no ${path}`);
      else if (found !== 1) wrong.push(`${path} has ${found} tests of the name: ${name}`);
    }
    expect(wrong).toEqual([]);
  });

  it("cites files that there are", async () => {
    const text = await read("docs/guarantees.md");
    const cited = text.matchAll(/`((?:src|sql|docs)\/[^`]+)`/g);
    const paths = new Set(Array.from(cited, ([, path = ""]) => path));
    expect(paths.size).toBeGreaterThan(10);
    for (const path of paths) await access(new URL(path, ROOT));
  });
});

it("names are found however they are written, and nothing else is", () => {
  const quoted = 'it("one", run); it.each([1])(\n  "%s and two",\n  run,\n);';
  const others = "describe.skipIf(no)('three', run); it(`four`, run);";
  expect(namesIn(quoted + others)).toEqual(["one", "%s and two", "three", "four"]);
  expect(namesIn('it(name, run); wait("five", run); // says "six",')).toEqual([]);
});
