import { describe, expect, it } from "vitest";
import { Turns } from "../../src/db/turns.ts";
import { createSignal } from "../support/signal.ts";

/** Work that goes on until it is told to end. */
function createWork() {
  const end = createSignal<void>();
  const failure = createSignal<Error>();
  let hasBegun = false;
  return {
    run: async () => {
      hasBegun = true;
      const error = await Promise.race([end.promise, failure.promise]);
      if (error) throw error;
    },
    end: () => end.resolve(),
    fail: (error: Error) => failure.resolve(error),
    hasBegun: () => hasBegun,
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("turns", () => {
  it("are as many at once as there are places, in the order of their coming", async () => {
    const turns = new Turns(2);
    const works = [createWork(), createWork(), createWork(), createWork()];
    const done = works.map((work) => turns.run({}, work.run));
    await turn();
    expect(works.map((work) => work.hasBegun())).toEqual([true, true, false, false]);
    expect([turns.running, turns.waiting]).toEqual([2, 2]);
    works[1]?.end();
    await turn();
    expect(works.map((work) => work.hasBegun())).toEqual([true, true, true, false]);
    for (const work of works) work.end();
    await Promise.all(done);
    expect([turns.running, turns.waiting]).toEqual([0, 0]);
  });

  it("leave a place for others, however many somebody asks for", async () => {
    const turns = new Turns(6);
    const many = Array.from({ length: 50 }, createWork);
    const done = many.map((work) => turns.run({ owner: "ada" }, work.run));
    const other = createWork();
    const others = turns.run({ owner: "bob" }, other.run);
    await turn();
    expect(other.hasBegun()).toBe(true);
    expect(many.filter((work) => work.hasBegun()).length).toBe(4);
    other.end();
    await others;
    for (const work of many) work.end();
    await Promise.all(done);
  });

  it("of one job come one after the other, and wait for nobody else's", async () => {
    const turns = new Turns(4);
    const [first, second, other] = [createWork(), createWork(), createWork()];
    const done = [
      turns.run({ owner: "ada", job: "1" }, first.run),
      turns.run({ owner: "ada", job: "1" }, second.run),
      turns.run({ owner: "ada", job: "2" }, other.run),
    ];
    await turn();
    expect([first, second, other].map((work) => work.hasBegun())).toEqual([true, false, true]);
    first.end();
    await turn();
    expect(second.hasBegun()).toBe(true);
    second.end();
    other.end();
    await Promise.all(done);
  });

  it("of a job that is locked are refused with the one that found it so, and no others", async () => {
    const turns = new Turns(4);
    const locked = Object.assign(new Error("locked"), { code: "55P03" });
    const [first, behind, other] = [createWork(), createWork(), createWork()];
    const outcomes = [
      turns.run({ job: "1" }, first.run),
      turns.run({ job: "1" }, behind.run),
      turns.run({ job: "2" }, other.run),
    ].map((done) =>
      done.then(
        () => "done",
        (error: unknown) => error,
      ),
    );
    await turn();
    first.fail(locked);
    other.end();
    expect(await Promise.all(outcomes)).toEqual([locked, locked, "done"]);
    expect(behind.hasBegun()).toBe(false);
    // A failure of another kind is its own.
    const [failing, next] = [createWork(), createWork()];
    const later = [turns.run({ job: "1" }, failing.run), turns.run({ job: "1" }, next.run)];
    const refused = expect(later[0]).rejects.toThrow("other");
    failing.fail(new Error("other"));
    await refused;
    next.end();
    await later[1];
  });

  it("are refused when too many wait, the one who has most of them first", async () => {
    const turns = new Turns(1);
    const busy = createWork();
    const running = turns.run({}, busy.run);
    const waiting: Promise<unknown>[] = [];
    let refused = 0;
    const ask = (owner: string) =>
      waiting.push(
        turns
          .run({ owner }, async () => undefined)
          .catch(() => {
            refused += 1;
          }),
      );
    for (let count = 0; count < 3_000; count += 1) ask("ada");
    await turn();
    expect(turns.waiting).toBeLessThan(2_000);
    const before = refused;
    expect(before).toBeGreaterThan(0);
    for (let count = 0; count < 100; count += 1) ask("bob");
    await turn();
    expect(refused).toBe(before);
    busy.end();
    await running;
    await Promise.all(waiting);
    expect(refused).toBe(before);
  });
});
