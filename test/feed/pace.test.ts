import { beforeEach, describe, expect, it } from "vitest";
import { Pace } from "../../src/feed/pace.ts";

let clock: number;
let pace: Pace;

beforeEach(() => {
  clock = 1_000_000;
  pace = new Pace({ now: () => clock });
});

/** So many transactions a second for so long, in reads of 10 ms. */
function write(perSecond: number, ms: number): void {
  for (let passed = 0; passed < ms; passed += 10) {
    clock += 10;
    pace.add(perSecond / 100);
  }
}

describe("the pace of writers", () => {
  it("is a reason to stay awake while transactions come fast", () => {
    write(1_000, 1_000);
    expect(pace.isBusy).toBe(false);
    write(2_000, 500);
    expect(pace.isBusy).toBe(true);
    write(1_000, 1_000);
    expect(pace.isBusy).toBe(true);
    write(500, 500);
    expect(pace.isBusy).toBe(false);
  });

  it("is asked for now and then, while something happens", () => {
    expect(pace.shouldAsk()).toBe(false);
    write(100, 50);
    expect(pace.shouldAsk()).toBe(true);
    write(1_000, 50);
    expect(pace.shouldAsk()).toBe(false);
    write(1_000, 50);
    expect(pace.shouldAsk()).toBe(true);
  });

  it("is a reason to stay awake for seconds when writers queue, and for longer when they do so again", () => {
    for (const seconds of [5, 10, 20, 40, 60, 60]) {
      pace.queued();
      write(200, seconds * 1_000 - 10);
      expect(pace.isBusy).toBe(true);
      write(200, 20);
      expect(pace.isBusy).toBe(false);
      write(200, 500); // asleep, and they queue again
    }
    write(200, 10_000);
    pace.queued();
    write(200, 5_010);
    expect(pace.isBusy).toBe(false);
  });

  it("is none when they have stopped", () => {
    pace.queued();
    write(0, 500);
    expect(pace.isBusy).toBe(false);
  });

  it("makes reads frequent while they bring something", () => {
    pace.add(1);
    const paying = pace.pollMs;
    pace.add(0);
    expect(pace.pollMs).toBeGreaterThan(paying);
  });
});
