import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { statusEventSchema } from "../../src/protocol/event.ts";
import { rawRequest } from "../support/raw-request.ts";
import { type Edge, idOf, isState, startEdge, upTo, versionsOf } from "./edge.ts";

let edge: Edge;
let jobId: string;

beforeAll(async () => {
  edge = await startEdge();
  jobId = await edge.newJob();
  await edge.report(jobId, 10, 20, 30, 40, 50, 60, 70, 80, 90);
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

/** The versions that a client is told which connects like this, and the type of the first event. */
async function told(options: { lastEventId?: string; query?: string }, count: number) {
  const { query = "", ...others } = options;
  const stream = await edge.open(`/v1/jobs/${jobId}/events${query}`, others);
  await stream.take(count, isState);
  // Whatever was too much would have come together with what was right.
  const events = stream.events.filter(isState);
  await stream.close();
  return { versions: versionsOf(events), type: events[0]?.type };
}

describe("a last id", () => {
  it("is taken from the header, or from the query", async () => {
    expect((await told({ lastEventId: "7" }, 3)).versions).toEqual([8, 9, 10]);
    expect((await told({ query: "?lastEventId=7" }, 3)).versions).toEqual([8, 9, 10]);
  });

  it("in the header wins: the query is what the URL said when it was first opened", async () => {
    const { versions } = await told({ query: "?lastEventId=3", lastEventId: "8" }, 2);
    expect(versions).toEqual([9, 10]);
  });

  it("that is empty is none, and hides no other", async () => {
    expect((await told({ query: "?lastEventId=" }, 1)).versions).toEqual([10]);
    const headers = { "last-event-id": "" };
    const stream = await edge.open(`/v1/jobs/${jobId}/events?lastEventId=8`, { headers });
    await stream.take(2);
    expect(versionsOf(stream.events)).toEqual([9, 10]);
    await stream.close();
  });

  it("of 0 asks for the whole history", async () => {
    expect((await told({ lastEventId: "0" }, 10)).versions).toEqual(upTo(10));
  });

  it("of the current version brings nothing but what is new", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id, { lastEventId: "1" });
    await edge.report(id, 1);
    await stream.next(isState);
    expect(versionsOf(stream.events)).toEqual([2]);
    await stream.close();
  });

  it.each([
    ["above the current version", "11"],
    ["far above", "999999999999999"],
    ["above every integer of PostgreSQL", "99999999999999999999"],
    ["negative", "-1"],
    ["a fraction", "1.5"],
    ["in exponents", "1e1"],
    ["hexadecimal", "0x1"],
    ["no number", "NaN"],
    ["of a stream over many jobs", "9kl2ax-1a.2"],
    ["SQL", "1'; drop table jobcast.jobs; --"],
    ["not ASCII", "\u00b2"],
    ["of 8 KB", "9".repeat(8_000)],
  ])("that is %s resets the client to the current state", async (_, lastEventId) => {
    const { versions, type } = await told({ lastEventId }, 1);
    expect({ versions, type }).toEqual({ versions: [10], type: "reset" });
    const query = `?lastEventId=${encodeURIComponent(lastEventId)}`;
    expect(await told({ query }, 1)).toEqual({ versions: [10], type: "reset" });
  });

  it("that was reset goes on from there", async () => {
    const id = await edge.newJob();
    const stream = await edge.openJob(id, { lastEventId: "99" });
    expect(await stream.next()).toMatchObject({ type: "reset", lastEventId: idOf(1) });
    await edge.report(id, 5);
    expect(await stream.next()).toMatchObject({ type: "status", lastEventId: idOf(2) });
    await stream.close();
  });

  it("is never an error of the server nor a way to other data, whatever it is", async () => {
    const other = await edge.newJob("bob");
    const bytes = fc
      .array(fc.integer({ min: 0x20, max: 0xff }), { maxLength: 80 })
      .map((codes) => String.fromCharCode(...codes.filter((code) => code !== 0x7f)));
    const value = fc
      .oneof(fc.string({ unit: "binary" }), fc.bigInt().map(String), bytes)
      // The one id that rightly brings nothing to wait for.
      .filter((id) => id !== "10");
    const query = fc.oneof(
      value.map((id) => `lastEventId=${encodeURIComponent(id.toWellFormed())}`),
      fc.array(value).map((ids) => ids.map((_, n) => `lastEventId=${n}`).join("&")),
      fc.constantFrom(
        "lastEventId=%00",
        "lastEventId[x]=1",
        "lastEventId[]=1&lastEventId[]=2",
        "lastEventId=%FF%FE",
        "lastEventId=%",
        "after=3&lastEventId=x",
        "__proto__[lastEventId]=3",
      ),
    );
    const authorization = `Authorization: Bearer ${edge.server.token({ scope: "" })}`;
    const ask = async (path: string, header: string) => {
      const head = `GET ${path} HTTP/1.1\r\nHost: x\r\n${authorization}\r\nAccept: text/event-stream`;
      const request = `${head}\r\nLast-Event-ID: ${header}\r\n\r\n`;
      const isComplete = (text: string) => /data: .*\n\n/.test(text) || /^HTTP\/1.1 4/.test(text);
      const { text } = await rawRequest(edge.server.port, Buffer.from(request, "latin1"), {
        isComplete,
      });
      return text;
    };
    await fc.assert(
      fc.asyncProperty(query, bytes, async (search, header) => {
        const text = await ask(`/v1/jobs/${jobId}/events?${search}`, header);
        expect(text).toMatch(/^HTTP\/1.1 (200|400) /);
        const data = /^data: (.*)$/m.exec(text)?.[1];
        if (data) expect(statusEventSchema.parse(JSON.parse(data)).jobId).toBe(jobId);
        expect(text).not.toContain(other);
      }),
      { numRuns: 100 },
    );
    await fc.assert(
      fc.asyncProperty(query, bytes, async (search, header) => {
        const text = await ask(`/v1/events?jobs=${jobId}&${search}`, header);
        expect(text).toMatch(/^HTTP\/1.1 (200|400) /);
        expect(text).not.toContain(other);
      }),
      { numRuns: 100 },
    );
    expect(edge.server.logged.filter((line) => /"level":(40|50|60)/.test(line))).toEqual([]);
  });
});
