/**
 * Runs the random tests (those that use test/support/random.ts or fast-check) on fresh seeds, round
 * after round.
 *
 * Usage: npm run test:random -- [--minutes 10] [--rounds 200] [what vitest takes]
 *        npm run test:random -- --rounds 200 test/sql/batches.test.ts -t storm
 *
 * Prints the seed of each round; the first round that fails ends it with 1 and says how to run that
 * seed again.
 */
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values, tokens } = parseArgs({
  options: { minutes: { type: "string" }, rounds: { type: "string" } },
  strict: false,
  tokens: true,
});
const own = new Set(
  tokens.flatMap((token) =>
    token.kind === "option" && ["minutes", "rounds"].includes(token.name)
      ? [token.index, ...(token.inlineValue ? [] : [token.index + 1])]
      : [],
  ),
);
const given = process.argv.slice(2).filter((_, index) => !own.has(index));
const rounds = Number(values["rounds"] ?? Number.POSITIVE_INFINITY);
const minutes = Number(values["minutes"] ?? (values["rounds"] ? Number.POSITIVE_INFINITY : 10));
if (!(rounds > 0 && minutes > 0))
  throw new TypeError("--minutes and --rounds take numbers above 0");

const isRandom = (file: string) =>
  /from ".*\/random\.ts"|from "fast-check"/.test(readFileSync(file, "utf8"));
const files = given.some((word) => word.startsWith("test/"))
  ? []
  : globSync("test/**/*.test.ts", { exclude: ["test/load/**"] }).filter(isRandom);

const end = performance.now() + minutes * 60_000;
let round = 0;
for (; round < rounds && performance.now() < end; round += 1) {
  const seed = randomInt(2 ** 31);
  const words = ["run", "--reporter=dot", ...files, ...given];
  const { status, stdout, stderr } = spawnSync("vitest", words, {
    env: { ...process.env, TEST_SEED: String(seed) },
    encoding: "utf8",
  });
  console.log(`round ${round + 1}: seed ${seed}: ${status === 0 ? "passed" : "failed"}`);
  if (status === 0) continue;
  console.error(stdout, stderr, `\nTEST_SEED=${seed} npx vitest ${words.join(" ")}`);
  process.exitCode = 1;
  break;
}
if (process.exitCode !== 1) console.log(`${round} rounds passed`);
