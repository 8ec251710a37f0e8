import { describe, expect, it } from "vitest";
import { DeadlineError, until, within } from "./deadline.ts";

const never = new Promise<never>(() => undefined);

describe("within", () => {
  it("passes on the value of a promise that is in time", async () => {
    await expect(within(Promise.resolve(7), 1_000, "seven")).resolves.toBe(7);
  });

  it("passes on the failure of a promise that is in time", async () => {
    await expect(within(Promise.reject(new TypeError("no")), 1_000, "it")).rejects.toThrow("no");
  });

  it("fails at the deadline and says what was awaited, as it is by then", async () => {
    let seen = 0;
    const late = within(never, 20, () => `three events, ${seen} came`);
    seen = 2;
    await expect(late).rejects.toThrow(new DeadlineError("waited 20 ms for three events, 2 came"));
  });
});

describe("until", () => {
  it("returns the first answer that is neither undefined nor false", async () => {
    const answers = [undefined, false, 0, 1];
    await expect(until(() => answers.shift(), 1_000, "an answer")).resolves.toBe(0);
  });

  it("fails at the deadline when the answer never comes", async () => {
    await expect(until(() => undefined, 20, "rain")).rejects.toThrow("waited 20 ms for rain");
  });

  it("fails at the deadline, naming the whole wait once, when the check itself hangs", async () => {
    await expect(until(() => never, 20, "rain")).rejects.toThrow(/waited 20 ms for rain$/);
  });

  it("fails at once when the check throws", async () => {
    const broken = () => Promise.reject(new TypeError("broken"));
    await expect(until(broken, 60_000, "nothing")).rejects.toThrow("broken");
  });
});
