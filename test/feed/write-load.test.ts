import { beforeEach, describe, expect, it } from "vitest";
import { WriteLoad } from "../../src/feed/write-load.ts";

let clock: number;
let load: WriteLoad;

beforeEach(() => {
  clock = 1_000_000;
  load = new WriteLoad({ now: () => clock });
});

/** So many transactions a second for so long, in reads of 10 ms. */
function write(perSecond: number, ms: number): void {
  for (let passed = 0; passed < ms; passed += 10) {
    clock += 10;
    load.add(perSecond / 100);
  }
}

describe("the load of writers", () => {
  it("is a reason to stay awake while transactions come fast", () => {
    write(1_000, 1_000);
    expect(load.isBusy).toBe(false);
    write(2_000, 500);
    expect(load.isBusy).toBe(true);
    write(1_000, 1_000);
    expect(load.isBusy).toBe(true);
    write(500, 500);
    expect(load.isBusy).toBe(false);
  });

  it("is asked for now and then, while something happens", () => {
    expect(load.shouldAsk()).toBe(false);
    write(100, 50);
    expect(load.shouldAsk()).toBe(true);
    write(1_000, 50);
    expect(load.shouldAsk()).toBe(false);
    write(1_000, 50);
    expect(load.shouldAsk()).toBe(true);
  });

  it("is a reason to stay awake for seconds when writers queue, and for longer when they do so again", () => {
    for (const seconds of [5, 10, 20, 40, 60, 60]) {
      load.queued();
      write(200, seconds * 1_000 - 10);
      expect(load.isBusy).toBe(true);
      write(200, 20);
      expect(load.isBusy).toBe(false);
      write(200, 500); // asleep, and they queue again
    }
    write(200, 10_000);
    load.queued();
    write(200, 5_010);
    expect(load.isBusy).toBe(false);
  });

  it("is none when they have stopped", () => {
    load.queued();
    write(0, 500);
    expect(load.isBusy).toBe(false);
  });

  it("makes reads frequent while they bring something", () => {
    load.add(1);
    const paying = load.pollMs;
    load.add(0);
    expect(load.pollMs).toBeGreaterThan(paying);
  });
});
