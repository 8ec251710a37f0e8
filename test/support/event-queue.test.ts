import { describe, expect, it } from "vitest";
import { createEventQueue } from "./event-queue.ts";

const event = (data: string, type = "status") => ({ type, data, lastEventId: data });
const isStatus = ({ type }: { type: string }) => type === "status";

function setup() {
  let ending: string | undefined;
  const queue = createEventQueue(() => ending);
  return {
    queue,
    end() {
      ending = "was cut off";
      queue.wake();
    },
  };
}

describe("next", () => {
  it("hands out what has come already, one after the other", async () => {
    const { queue } = setup();
    queue.add(event("1"));
    queue.add(event("2"));
    expect(await queue.next()).toEqual(event("1"));
    expect(await queue.next()).toEqual(event("2"));
    expect(queue.events).toHaveLength(2);
  });

  it("waits for the one that is wanted and passes over the others", async () => {
    const { queue } = setup();
    const wanted = queue.next(isStatus);
    queue.add(event("p", "ping"));
    queue.add(event("1"));
    expect(await wanted).toEqual(event("1"));
  });

  it("hands out what came before the end although the stream has ended", async () => {
    const { queue, end } = setup();
    queue.add(event("1"));
    end();
    expect(await queue.next()).toEqual(event("1"));
  });

  it("fails as soon as the stream ends, and lists what did come", async () => {
    const { queue, end } = setup();
    const wanted = queue.next(isStatus, 60_000);
    queue.add(event("p", "ping"));
    end();
    await expect(wanted).rejects.toThrow(/the stream was cut off .* 1 came\n {2}ping #p p/s);
  });

  it("fails at the deadline and lists what did come", async () => {
    const { queue } = setup();
    queue.add(event("p", "ping"));
    await expect(queue.next(isStatus, 20)).rejects.toThrow(/waited 20 ms .*1 came\n {2}ping #p p/s);
  });

  it("eats no event after it has failed", async () => {
    const { queue } = setup();
    await expect(queue.next(isStatus, 20)).rejects.toThrow("none came");
    queue.add(event("1"));
    await new Promise(setImmediate); // whoever still listens has its turn
    expect(await queue.next()).toEqual(event("1"));
  });
});

describe("take", () => {
  it("waits for as many as are asked for and leaves the rest", async () => {
    const { queue } = setup();
    const three = queue.take(3, isStatus);
    for (const data of ["1", "2", "3", "4"]) queue.add(event(data));
    expect((await three).map(({ data }) => data)).toEqual(["1", "2", "3"]);
    expect(await queue.next()).toEqual(event("4"));
  });

  it("has one deadline for all of them and says which one was missing", async () => {
    const { queue } = setup();
    queue.add(event("1"));
    await expect(queue.take(3, isStatus, 20)).rejects.toThrow("waited 20 ms for event 2 of 3");
  });
});
