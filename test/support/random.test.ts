import { describe, expect, it } from "vitest";
import { createRandom } from "./random.ts";

describe("random numbers", () => {
  const take = (purpose: string, seed: number) => {
    const random = createRandom(purpose, seed);
    return Array.from({ length: 50 }, () => random.below(1_000));
  };

  it("are the same for the same seed and purpose, and no others", () => {
    expect(take("a", 1)).toEqual(take("a", 1));
    expect(take("a", 1)).not.toEqual(take("a", 2));
    expect(take("a", 1)).not.toEqual(take("b", 1));
  });

  it("are all there is to choose from", () => {
    const random = createRandom("all");
    expect(new Set(Array.from({ length: 200 }, () => random.below(5)))).toEqual(
      new Set([0, 1, 2, 3, 4]),
    );
    expect(random.shuffled([1, 2, 3]).sort()).toEqual([1, 2, 3]);
  });
});
