import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventStreamParser, type StreamEvent } from "./event-stream.ts";

const encoder = new TextEncoder();

function parse(text: string, { chunkSize = Number.MAX_SAFE_INTEGER, lastEventId = "" } = {}) {
  const events: StreamEvent[] = [];
  const parser = new EventStreamParser((event) => events.push(event), lastEventId);
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length; at += chunkSize) {
    parser.push(bytes.subarray(at, at + chunkSize));
  }
  return { events, parser };
}

const message = (data: string, lastEventId = "") => ({ type: "message", data, lastEventId });

describe("line ends and chunks", () => {
  const lines = [
    "id: 1",
    "event: status",
    'data: {"a":"ü€😀"}',
    "",
    ": hi",
    "data:b",
    "data",
    "",
    "",
  ];
  const expected = [
    { type: "status", data: '{"a":"ü€😀"}', lastEventId: "1" },
    { type: "message", data: "b\n", lastEventId: "1" },
  ];

  for (const [name, lineEnd] of [
    ["LF", "\n"],
    ["CR", "\r"],
    ["CRLF", "\r\n"],
  ] as const) {
    for (const chunkSize of [1, 2, 3, 7, 1_000]) {
      it(`reads lines that end in ${name}, in chunks of ${chunkSize}`, () => {
        expect(parse(lines.join(lineEnd), { chunkSize }).events).toEqual(expected);
      });
    }
  }

  it("dispatches on a CR without waiting for what follows it", () => {
    expect(parse("data: now\r\r").events).toEqual([message("now")]);
  });

  it("takes CR LF for one line end although a chunk ends between the two", () => {
    expect(parse("data: a\r\ndata: b\r\n\r\n", { chunkSize: 8 }).events).toEqual([message("a\nb")]);
  });

  it("takes CR LF LF for a line end and an empty line, in chunks of 1 too", () => {
    const text = "data: a\r\n\ndata: b\n\n";
    expect(parse(text, { chunkSize: 1 }).events).toEqual([message("a"), message("b")]);
  });

  it("gives the same events wherever the stream is cut", () => {
    const piece = fc.constantFrom(
      "data: x",
      "data",
      "id: 4",
      "id",
      "id: \0",
      "event: e",
      "retry: 5",
      ":",
      "é😀",
      "\r",
      "\n",
      "\r\n",
    );
    const stream = fc.array(piece, { maxLength: 60 }).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(stream, fc.integer({ min: 1, max: 9 }), (text, chunkSize) => {
        const whole = parse(text);
        const cut = parse(text, { chunkSize });
        expect(cut.events).toEqual(whole.events);
        expect(cut.parser.lastEventId).toBe(whole.parser.lastEventId);
        expect(cut.parser.idOnlyBlocks).toEqual(whole.parser.idOnlyBlocks);
      }),
    );
  });
});

describe("byte order marks", () => {
  it("strips one, also when it comes byte by byte", () => {
    expect(parse("\uFEFFdata: a\n\n", { chunkSize: 1 }).events).toEqual([message("a")]);
  });

  it("leaves a second one, which spoils the first line", () => {
    const { events, parser } = parse("\uFEFF\uFEFFdata: a\ndata: b\n\n");
    expect(events).toEqual([message("b")]);
    expect(parser.ignoredLines).toEqual(["\uFEFFdata: a"]);
  });
});

describe("fields", () => {
  it("removes one space after the colon and no more", () => {
    expect(parse("data:  a \n\n").events).toEqual([message(" a ")]);
  });

  it("dispatches an event whose data is one empty line", () => {
    expect(parse("data\n\n").events).toEqual([message("")]);
  });

  it("dispatches nothing for a block without data, and forgets its type", () => {
    expect(parse("event: status\n\ndata: a\n\n").events).toEqual([message("a")]);
  });

  it("keeps the id for later events until the server sets another", () => {
    const { events } = parse("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n");
    expect(events).toEqual([message("a", "1"), message("b", "1"), message("c", "")]);
  });

  it("ignores an id that holds NUL", () => {
    const { events, parser } = parse("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n");
    expect(events).toEqual([message("a", "1"), message("b", "1")]);
    expect(parser.ignoredLines).toEqual(["id: 2\0"]);
  });

  it("takes a retry of ASCII digits only", () => {
    const lines = ["retry: 2500", "retry:0", "retry", "retry: 1.5", "retry: -1", "retry: 5s"];
    const { parser } = parse(`${lines.join("\n")}\nretry:  7\nretry: ١\n\n`);
    expect(parser.retries).toEqual([2500, 0]);
    expect(parser.ignoredLines).toHaveLength(6);
  });

  it("compares field names literally", () => {
    const { events, parser } = parse("Data: a\n data: b\n\n");
    expect(events).toEqual([]);
    expect(parser.ignoredLines).toEqual(["Data: a", " data: b"]);
  });

  it("records comments and dispatches nothing for them", () => {
    const { events, parser } = parse(": keep-alive\n\n:\n\n");
    expect(events).toEqual([]);
    expect(parser.comments).toEqual(["keep-alive", ""]);
  });
});

describe("what a well-behaved server never sends", () => {
  it("is a block with fields and no data", () => {
    expect(parse("retry: 5\n\n: hi\n\nid: 7\n\nretry: 5\ndata: a\n\n\n").parser.emptyBlocks).toBe(
      2,
    );
  });

  it("is an event without an id behind one that had an id", () => {
    const { parser } = parse("data: a\n\nid: 7\ndata: b\n\ndata: c\n\nid: 7\ndata: d\n\n");
    expect(parser.idlessEvents).toBe(1);
  });
});

describe("the last event id", () => {
  it("moves with a block that has an id and no data, which is recorded", () => {
    const { events, parser } = parse("id: 7\n\ndata: a\n\n");
    expect(parser.idOnlyBlocks).toEqual(["7"]);
    expect(events).toEqual([message("a", "7")]);
  });

  it("stays where it is, and nothing is recorded, when a block holds neither id nor data", () => {
    const { parser } = parse("id: 7\ndata: a\n\nretry: 5\n\n: hi\n\nevent: e\n\n\n");
    expect(parser.idOnlyBlocks).toEqual([]);
    expect(parser.lastEventId).toBe("7");
  });

  it("is recorded as moved when such a block empties it", () => {
    expect(parse("id: 7\ndata: a\n\nid\n\n").parser.idOnlyBlocks).toEqual([""]);
  });

  it("does not move with an event that was cut off, id included", () => {
    const { events, parser } = parse("id: 6\ndata: six\n\nid: 7\ndata: sev");
    expect(parser.end()).toBe(true);
    expect(events).toEqual([message("six", "6")]);
    expect(parser.lastEventId).toBe("6");
  });

  it("starts with the one of the connection before, where a test wants what browsers do", () => {
    const { events, parser } = parse("data: ping\n\n", { lastEventId: "9" });
    expect(events).toEqual([message("ping", "9")]);
    expect(parser.lastEventId).toBe("9");
    expect(parser.idOnlyBlocks).toEqual([]);
  });
});

describe("the end", () => {
  it("cuts nothing off after an empty line", () => {
    expect(parse("retry: 5\n\ndata: a\n\n").parser.end()).toBe(false);
  });

  for (const tail of ["data: a\n", "id: 1\n", "event: e\n", "da", ": comm", "data: \uFFFD"]) {
    it(`cuts something off after ${JSON.stringify(tail)}`, () => {
      expect(parse(`data: a\n\n${tail}`).parser.end()).toBe(true);
    });
  }

  it("cuts something off in the middle of a character", () => {
    const { parser } = parse("data: a\n\n");
    parser.push(Uint8Array.of(0xe2, 0x82));
    expect(parser.end()).toBe(true);
  });
});
