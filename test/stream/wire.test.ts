import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { statusEventSchema } from "../../src/protocol/event.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { type Edge, isState, startEdge } from "./edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterEach(() => edge.expectNothingOpen());
afterAll(() => edge?.stop());

/** What ends a line here or there, what looks like a field, and what is hard to encode. */
const PIECES = [
  ..."\r\n\t\v\f\u0001\u001b\u007f\u0085\u2028\u2029\ufeff\u200d\\\"'<:",
  "\r\n",
  "\n\n",
  "\ndata: {}\n\n",
  "\nid: 999\n",
  "\revent: close\r",
  "\\u0000",
  "retry: 1",
  "e\u0301",
  "\u{1f468}\u200d\u{1f469}",
  "\u{10ffff}",
];
/** What PostgreSQL can hold: no NUL, no half of a character. */
const storable = (value: string) => value.replaceAll("\0", "").toWellFormed();

const text = fc
  .array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: "binary" })), { maxLength: 12 })
  .map((pieces) => storable(pieces.join("")));

/**
 * Without a backslash: after an object with the key "a\\", JSON.parse of V8 13.6 takes the key "a\n"
 * of another one for the same, because it compares with what is written and not with what it means.
 */
const key = text.map((value) => value.replaceAll("\\", ""));

const json = fc.oneof(
  fc.dictionary(key, text),
  text,
  fc
    .jsonValue({ maxDepth: 5 })
    .map((value) => JSON.stringify(value))
    .filter((written) => written !== "null" && !/\\u0000|\\ud[89a-f]|\\\\/.test(written))
    .map((written) => JSON.parse(written)), // there is no -0 in JSON
);

const report = fc.record({
  stage: text.map((value) => value.slice(0, 100).toWellFormed()),
  message: text,
  result: json,
  error: fc.record({
    code: text.map((value) => `x${value.slice(0, 100).toWellFormed()}`),
    message: text,
  }),
});

/** What a server never sends, and EventSource would hide or choke on. */
function expectWellFormed(stream: StreamClient): void {
  expect(stream.parser.ignoredLines).toEqual([]);
  expect(stream.parser.comments).toEqual([]);
  expect(stream.idOnlyBlocks).toBe(0);
  expect(stream.parser.emptyBlocks).toBe(0);
  expect(stream.parser.idlessEvents).toBe(0);
  for (const { lastEventId, type } of stream.events) {
    expect(lastEventId).toMatch(/^([0-9a-z.-]{1,64})?$/);
    expect(type).toMatch(/^(status|ping|reset|close|ready)$/);
  }
}

/** A job with every kind of text in it, and a stream of it and one of all. */
async function openBoth() {
  const id = await edge.newJob();
  const streams = await Promise.all([edge.openJob(id), edge.open(`/v1/events?jobs=${id}`)]);
  for (const stream of streams) await stream.next();
  return { id, streams };
}

describe("whatever is written", () => {
  it("in SQL comes out as one event with the same data", async () => {
    const { id, streams } = await openBoth();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(report, async ({ stage, message, result, error }) => {
        const counts = { total: ++count, completed: 0, failed: 0 };
        await edge.db.query(
          `update jobcast.jobs set stage = $2, message = $3, result = $4, error = $5, counts = $6
           where id = $1`,
          [id, stage, message, JSON.stringify(result), error, counts],
        );
        for (const stream of streams) {
          const { data } = await stream.next();
          const event = statusEventSchema.parse(JSON.parse(data));
          expect(event).toMatchObject({ jobId: id, stage, message, error, counts });
          expect(event.result).toEqual(result);
        }
      }),
      { numRuns: 120, endOnFailure: true },
    );
    for (const stream of streams) {
      expect(stream.events).toHaveLength(count + 1);
      expectWellFormed(stream);
    }
  });

  it("over HTTP comes out as one event with the same data", async () => {
    const { id, streams } = await openBoth();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(report, async (update) => {
        const counts = { total: ++count, completed: 0, failed: 0 };
        // As it is sent: fast-check makes objects without a prototype too.
        const body = JSON.parse(JSON.stringify({ ...update, counts }));
        const { status } = await edge.server.call("PATCH", `/v1/jobs/${id}`, body);
        expect(status).toBe(200);
        for (const stream of streams) {
          const { data } = await stream.next();
          expect(JSON.parse(data)).toMatchObject(body);
          expect(JSON.parse(data).result).toEqual(body.result);
        }
      }),
      { numRuns: 60, endOnFailure: true },
    );
    for (const stream of streams) {
      expect(stream.events).toHaveLength(count + 1);
      expectWellFormed(stream);
    }
  });

  it("is not looked at by whoever names a job, its type or its owner", async () => {
    await fc.assert(
      fc.asyncProperty(text, text, async (name, title) => {
        const sub = `o${name}`.slice(0, 200).toWellFormed();
        const [job] = await edge.db.query<{ id: string }>(
          "select id from jobcast.create_job($1, $2, $3, metadata => $4)",
          [sub, sub, title, { [title]: name }],
        );
        const token = edge.server.token({ sub, scope: "" });
        const stream = await edge.open("/v1/events", { token });
        const { data } = await stream.next(isState);
        expect(JSON.parse(data).jobId).toBe(job?.id);
        await edge.complete(job?.id ?? "");
        await stream.next();
        await stream.close();
        expectWellFormed(stream);
      }),
      { numRuns: 30 },
    );
  });

  it("of 100 KB and more, with characters of every width, arrives whole", async () => {
    const { id, streams } = await openBoth();
    for (const unit of ["a", "\n", "\u00e9", "\u0085", "\u2028", "\u2029", "\u{1f600}"]) {
      const result = unit.repeat(100_000);
      await edge.db.query("update jobcast.jobs set result = $2 where id = $1", [
        id,
        JSON.stringify(result),
      ]);
      for (const stream of streams) {
        const { data } = await stream.next();
        expect(JSON.parse(data).result === result).toBe(true);
      }
    }
    for (const stream of streams) {
      expectWellFormed(stream);
      await stream.close();
      // Some clients split lines there.
      expect(await stream.body()).not.toMatch(/[\u0085\u2028\u2029]/);
    }
  });

  it.each([
    ["stage", { stage: "a\u0000b" }],
    ["message", { message: "\u0000" }],
    ["result", { result: { deep: [{ "\u0000": 1 }] } }],
    ["error", { error: { code: "x", message: "\u0000" } }],
    ["half a character", { message: "\ud800" }],
  ])("with a NUL or half a character in it (%s) is refused with 400", async (_, body) => {
    const { id, streams } = await openBoth();
    const answer = await edge.server.call("PATCH", `/v1/jobs/${id}`, body);
    expect(answer).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    await edge.report(id, 1);
    for (const stream of streams) expect(JSON.parse((await stream.next()).data).version).toBe(2);
  });
});

describe("the bytes of a stream", () => {
  it("begin without a byte order mark, and end with the last event", async () => {
    const { id, streams } = await openBoth();
    await edge.complete(id, "\ufeff");
    const [job] = streams;
    const body = await job?.body();
    expect(body?.charCodeAt(0)).toBe("r".charCodeAt(0));
    expect(body?.endsWith("}\n\n")).toBe(true);
  });
});
