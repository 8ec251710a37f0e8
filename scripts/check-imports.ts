/**
 * Checks that the imports in src/ follow the layers of ARCHITECTURE.md, type imports too, and that
 * nobody reads the process's settings or the wall clock but who may.
 *
 * Usage: npm run check:imports            (or: node scripts/check-imports.ts [folder])
 *
 * Prints every violation as file:line and exits 1.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseSync, Visitor } from "oxc-parser";

type Rule = { may: readonly string[]; typesOf?: readonly string[]; because: string };
type Import = { from: string; to: string; line: number; typeOnly: boolean };

const BASE = [
  "protocol/",
  "change/",
  "errors.ts",
  "once.ts",
  "tally.ts",
  "backoff.ts",
  "calm-log.ts",
  "database-errors.ts",
];
/** Each entry of src/, what it may import beside itself, and the mishap that this prevents. */
const LAYERS: Readonly<Record<string, Rule>> = {
  "protocol/": { may: [], because: "browsers share it: one import would ship the server to them" },
  "change/": { may: ["protocol/"], because: "everything that passes on a change knows it" },
  "errors.ts": { may: ["protocol/"], because: "everything throws: it would close a cycle" },
  "database-errors.ts": {
    may: ["errors.ts", "protocol/"],
    because: "both doors explain with it: what it needed, each would have to have",
  },
  "backoff.ts": { may: [], because: "everything that tries again waits by it" },
  "calm-log.ts": { may: ["errors.ts", "protocol/"], because: "everything that fails tells it" },
  "tally.ts": { may: [], because: "everything that shares something out counts with it" },
  "once.ts": { may: [], because: "everything that writes once uses it: it would close a cycle" },
  "options.ts": { may: [], because: "both doors read it: what it needed, each would have to have" },
  "open-files.ts": { may: [], because: "what it would need opens files" },
  "log.ts": { may: BASE, because: "a logger that needs the database cannot log that it is down" },
  "embedded/": {
    may: [],
    because: "it is for who has no database: nobody else may come to need it",
  },
  "db/": { may: BASE, because: "SQL that knows streams cannot be used or tested without them" },
  "feed/": { may: ["db/", ...BASE], because: "a feed that knows its hub can be held up by it" },
  "stream/": {
    may: BASE,
    typesOf: ["db/"],
    because: "it is told what was read, and so is tested without a database",
  },
  "http/": {
    may: ["stream/", ...BASE],
    typesOf: ["db/", "feed/"],
    because: "a route that builds its own pool or feed escapes its limits and its shutdown",
  },
  "jobs/": { may: ["db/", ...BASE], because: "a producer that skips the one door loses events" },
  "routes.ts": {
    may: ["db/", "stream/", "http/", "log.ts", ...BASE],
    because:
      "a route that is mounted anywhere else escapes authentication and the API's description",
  },
  "readiness.ts": {
    may: BASE,
    typesOf: ["db/", "feed/", "http/"],
    because: "it only looks at the parts",
  },
  "jobcast.ts": {
    may: [
      "readiness.ts",
      "routes.ts",
      "options.ts",
      "open-files.ts",
      "db/",
      "feed/",
      "stream/",
      "http/",
      "log.ts",
      ...BASE,
    ],
    because: "inside somebody's app it must not read their environment or take their port",
  },
  "index.ts": {
    may: ["jobcast.ts", "options.ts", "jobs/", ...BASE],
    because: "what it exports is a promise",
  },
  "service/": {
    may: ["jobcast.ts", "options.ts", "open-files.ts", "log.ts", "embedded/", "db/", ...BASE],
    because: "a part wired here is missing for whoever mounts jobcast in their own app",
  },
  "main.ts": {
    may: ["service/", "options.ts", "log.ts"],
    because: "no test can reach main.ts",
  },
};
/** Elsewhere they are a hidden setting, or a second hand on the exit that cuts the drain short. */
const ONLY_IN_MAIN = new Set(["env", "exit", "exitCode", "on", "once"]);

/** Somebody may set the wall clock: it says when a token expires, and never how long to wait. */
const ON_THE_WALL_CLOCK = new Set([
  "embedded/data-dir-claim.ts", // the time of a file
  "http/callbacks/callback-token.ts",
  "http/callbacks/webhook-signature.ts",
  "http/events/events-request.ts",
  "http/auth/stream-token.ts",
  "stream/registry.ts",
]);

const root = resolve(process.argv[2] ?? "src");
const violations: string[] = [];
const report = (file: string, line: number, what: string) =>
  violations.push(`${relative(process.cwd(), join(root, file))}:${line}: ${what}`);

/** Parses one file: reports what it does to the process, returns its imports of our own files. */
function readImports(file: string): Import[] {
  const source = readFileSync(join(root, file), "utf8");
  const { program, errors } = parseSync(file, source);
  const lineOf = (offset: number) => source.slice(0, offset).split("\n").length;
  for (const error of errors) report(file, lineOf(error.labels[0]?.start ?? 0), error.message);

  const found: Import[] = [];
  const add = (node: { start: number }, specifier: string, kind: string | null | undefined) => {
    const line = lineOf(node.start);
    if (/^(node:)?process$/.test(specifier)) report(file, line, "use the global process");
    if (!specifier.startsWith(".")) return;
    const to = relative(root, resolve(root, dirname(file), specifier));
    found.push({ from: file, to, line, typeOnly: kind === "type" });
  };
  new Visitor({
    // `import { type A }` is a value import: under verbatimModuleSyntax it loads the file.
    ImportDeclaration: (node) => add(node, node.source.value, node.importKind),
    ExportAllDeclaration: (node) => add(node, node.source.value, node.exportKind),
    ExportNamedDeclaration: (node) => node.source && add(node, node.source.value, node.exportKind),
    ImportExpression: ({ source, start }) =>
      source.type === "Literal" && add({ start }, String(source.value), "value"),
    TSImportType: (node) => add(node, node.source.value, "type"),
    NewExpression: ({ callee, arguments: given, start }) => {
      if (callee.type === "Identifier" && callee.name === "Date" && given.length === 0) {
        checkClock(file, lineOf(start));
      }
    },
    MemberExpression: (node) => {
      if (source.slice(node.start, node.end) === "Date.now") checkClock(file, lineOf(node.start));
      const text = source.slice(node.start, node.end).replace(/\["(\w+)"\]$/, ".$1");
      const [object, name = "", ...rest] = text.replace(/^globalThis\./, "").split(/\??\./);
      if (object !== "process" || rest.length > 0 || !ONLY_IN_MAIN.has(name)) return;
      if (file !== "main.ts") report(file, lineOf(node.start), `${text} belongs to main.ts`);
    },
  }).visit(program);
  return found;
}

function checkClock(file: string, line: number): void {
  if (!ON_THE_WALL_CLOCK.has(file)) report(file, line, "use performance.now(): clocks are set");
}

function checkLayer({ from, to, line, typeOnly }: Import): void {
  if (to.startsWith("..")) return void report(from, line, `imports ${to}, outside of src`);
  if (/(^|\/)index\.ts$/.test(to)) report(from, line, `imports ${to}: a barrel hides cycles`);
  const [layer = from, target = to] = [from, to].map((file) => file.replace(/\/.*/, "/"));
  const rule = LAYERS[layer];
  if (!rule || layer === target || rule.may.includes(target)) return;
  if (typeOnly && rule.typesOf?.includes(target)) return;
  report(from, line, `${layer} may not import ${to}: ${rule.because}`);
}

/** Walks depth first; an import that leads back into the current path closes a cycle. */
function checkCycles(graph: ReadonlyMap<string, readonly Import[]>): void {
  const done = new Set<string>();
  const walk = (file: string, before: readonly string[]) => {
    const path = [...before, file];
    for (const { to, line } of graph.get(file) ?? []) {
      const loop = path.slice(path.indexOf(to));
      if (path.includes(to)) report(file, line, `cycle: ${[...loop, to].join(" > ")}`);
      else if (!done.has(to)) walk(to, path);
    }
    done.add(file);
  };
  for (const file of graph.keys()) if (!done.has(file)) walk(file, []);
}

for (const entry of readdirSync(root, { withFileTypes: true })) {
  const name = entry.isDirectory() ? `${entry.name}/` : entry.name;
  if (!LAYERS[name]) report(name, 1, "has no layer: give it a rule in scripts/check-imports.ts");
}
const files = readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
const sources = files.filter((file) => /\.tsx?$/.test(file));
const graph = new Map(sources.map((file) => [file, readImports(file)]));
for (const imports of graph.values()) for (const each of imports) checkLayer(each);
checkCycles(graph);

for (const violation of violations) console.error(violation);
if (violations.length > 0) process.exitCode = 1;
else console.log(`${graph.size} files follow the layers`);
