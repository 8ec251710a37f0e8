/**
 * The seed of everything random in the tests, `TEST_SEED` or a fixed one, so that a run of the suite
 * is the same as the one before it. `npm run test:random` runs the random tests on fresh seeds.
 */
export const SEED = Number.parseInt(process.env.TEST_SEED ?? "1", 10);

export type Random = {
  /** From 0 to 1, which it never is. */
  next(): number;
  /** A whole number from 0 to `end` - 1. */
  below(end: number): number;
  oneOf<T>(items: readonly T[]): T;
  shuffled<T>(items: readonly T[]): T[];
};

/**
 * Numbers that are the same for the same seed and the same purpose, so that a failure can be run
 * again, and one test does not change another one's.
 */
export function createRandom(purpose: string, seed = SEED): Random {
  let state = seed;
  for (const char of purpose) state = (Math.imul(state, 31) + (char.codePointAt(0) ?? 0)) | 0;

  function next(): number {
    // Mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  const below = (end: number) => Math.floor(next() * end);

  return {
    next,
    below,
    oneOf<T>(items: readonly T[]): T {
      if (items.length === 0) throw new TypeError("nothing to choose from");
      return items[below(items.length)] as T;
    },
    shuffled<T>(items: readonly T[]): T[] {
      const keyed = items.map((item) => ({ item, key: next() }));
      return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
    },
  };
}
