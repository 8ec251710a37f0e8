import { describe, expect, it } from "vitest";
import { gather } from "../../src/db/gather.ts";
import { createSignal } from "../support/signal.ts";

/** A loader whose queries end when the test says so. */
function createLoader(maxKeys: number) {
  const queries: { keys: readonly string[]; end: (error?: Error) => void }[] = [];
  const read = gather<string, string>(
    async (keys) => {
      const ending = createSignal();
      queries.push({ keys, end: (error) => (error ? ending.reject(error) : ending.resolve()) });
      await ending.promise;
      return keys.map((key) => key.toUpperCase());
    },
    { maxKeys, nameOf: (key) => key },
  );
  return { queries, read };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("gather", () => {
  it("asks once for everybody of one turn, and once for all who want the same", async () => {
    const { queries, read } = createLoader(100);
    const answers = Promise.all(["a", "b", "a", "c", "a"].map(read));
    await turn();
    expect(queries.map(({ keys }) => keys)).toEqual([["a", "b", "c"]]);
    queries[0]?.end();
    expect(await answers).toEqual(["A", "B", "A", "C", "A"]);
  });

  it("gives nobody the answer of a query that had begun before it asked", async () => {
    const { queries, read } = createLoader(100);
    const first = read("a");
    await turn();
    const second = read("a");
    await turn();
    expect(queries.map(({ keys }) => keys)).toEqual([["a"], ["a"]]);
    queries[1]?.end();
    expect(await second).toBe("A");
    queries[0]?.end();
    expect(await first).toBe("A");
  });

  it("splits what is too much for one query, runs three at once, and leaves nobody out", async () => {
    const { queries, read } = createLoader(2);
    const keys = Array.from("abcdefghijk");
    const answers = Promise.all(keys.map(read));
    await turn();
    expect(queries.map((query) => query.keys.join(""))).toEqual(["ab", "cd", "ef"]);
    for (let index = 0; index < 6; index += 1) {
      expect(queries.length).toBeLessThanOrEqual(index + 3);
      queries[index]?.end();
      await turn();
    }
    expect(await answers).toEqual(keys.map((key) => key.toUpperCase()));
    const alone = read("z");
    await turn();
    queries.at(-1)?.end();
    expect(await alone).toBe("Z");
  });

  it("passes a failure on to those whom it concerns, and goes on", async () => {
    const { queries, read } = createLoader(100);
    const failed = Promise.allSettled([read("a"), read("a"), read("b")]);
    await turn();
    queries[0]?.end(new Error("gone"));
    expect((await failed).map(({ status }) => status)).toEqual([
      "rejected",
      "rejected",
      "rejected",
    ]);
    const later = read("a");
    await turn();
    queries[1]?.end();
    expect(await later).toBe("A");
  });
});
