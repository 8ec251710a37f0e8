/** One event as an `EventSource` would fire it. `lastEventId` is "" until the server sets one. */
export type StreamEvent = { type: string; data: string; lastEventId: string };

const LINE_END = /\r\n|\r|\n/;

/**
 * A parser of `text/event-stream`, written after the text of the HTML standard, sections 9.2.5 and
 * 9.2.6, and after nothing else: parsers made for production forgive (eventsource-parser drops a
 * block without data together with its id), and what they forgive, a browser punishes.
 *
 * Besides the events it records what a well-behaved server never sends and what `EventSource`
 * hides, so that a test can assert on it.
 */
export class EventStreamParser {
  /** Ids of the blocks that moved the last event id but held no data: no event told of the move. */
  readonly idOnlyBlocks: string[] = [];
  /** Blocks with fields and without data, which some clients take for an event. */
  emptyBlocks = 0;
  /** Events that came without an id although one was set before, which some clients then forget. */
  idlessEvents = 0;
  /** Texts of the comment lines, without the colon and one space after it. */
  readonly comments: string[] = [];
  /** Values of the valid `retry` fields, in milliseconds. */
  readonly retries: number[] = [];
  /** Lines that a browser ignores although they are no comments: bad ids, unknown fields. */
  readonly ignoredLines: string[] = [];

  readonly #onEvent: (event: StreamEvent) => void;
  // [spec] "Streams must be decoded using the UTF-8 decode algorithm." TextDecoder does just that:
  // it strips one leading BOM, a second one stays and spoils the first line.
  readonly #decoder = new TextDecoder("utf-8");

  // [spec] "When a stream is parsed, a data buffer, an event type buffer, and a last event ID
  // buffer must be associated with it. They must be initialized to the empty string."
  #data = "";
  #type = "";
  #idBuffer: string;

  #lastEventId: string;
  #hasIdField = false;
  #hasField = false;
  #line = "";
  #endedWithCr = false;

  /**
   * `lastEventId` seeds the last event id, as browsers do when they reconnect. The letter of the
   * standard starts every stream, reconnected ones too, with none, which is the default.
   */
  constructor(onEvent: (event: StreamEvent) => void, lastEventId = "") {
    this.#onEvent = onEvent;
    this.#idBuffer = lastEventId;
    this.#lastEventId = lastEventId;
  }

  /** What a browser would send as `Last-Event-ID` if the connection broke at this moment. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  /** Takes the next bytes, cut wherever the network cut them. */
  push(chunk: Uint8Array): void {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === "") return;
    // A CR at the end of a chunk ended its line there and then. The LF behind it is the other half
    // of that line end, and not an empty line, which would dispatch the event too early.
    if (this.#endedWithCr && text.startsWith("\n")) text = text.slice(1);
    if (text === "") {
      this.#endedWithCr = false;
      return;
    }
    this.#endedWithCr = text.endsWith("\r");

    const [first = "", ...rest] = text.split(LINE_END);
    this.#line += first;
    for (const next of rest) {
      const line = this.#line;
      this.#line = next;
      this.#takeLine(line);
    }
  }

  /**
   * Ends the stream; says whether that cut off an event or a line.
   *
   * [spec] "Once the end of the file is reached, any pending data must be discarded. (If the file
   * ends in the middle of an event, before the final empty line, the incomplete event is not
   * dispatched.)" Its id is discarded with it: only a dispatch moves the last event id.
   */
  end(): boolean {
    const rest = this.#line + this.#decoder.decode();
    const isCut = rest !== "" || this.#data !== "" || this.#type !== "" || this.#hasIdField;
    this.#line = "";
    this.#clearBlock();
    return isCut;
  }

  #takeLine(line: string): void {
    // [spec] "If the line is empty (a blank line): Dispatch the event, as defined below."
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    // [spec] "If the line starts with a U+003A COLON character (:): Ignore the line."
    if (colon === 0) {
      this.comments.push(withoutLeadingSpace(line.slice(1)));
      return;
    }
    // [spec] "Otherwise, the string is not empty but does not contain a U+003A COLON character (:):
    // Process the field [...] using the whole line as the field name, and the empty string as the
    // field value."
    if (colon === -1) this.#takeField(line, "", line);
    else this.#takeField(line.slice(0, colon), withoutLeadingSpace(line.slice(colon + 1)), line);
  }

  /** [spec] "Field names must be compared literally, with no case folding performed." */
  #takeField(name: string, value: string, line: string): void {
    this.#hasField = true;
    if (name === "event") {
      this.#type = value;
    } else if (name === "data") {
      // [spec] "Append the field value to the data buffer, then append a single U+000A LINE FEED
      // (LF) character to the data buffer."
      this.#data += `${value}\n`;
    } else if (name === "id" && !value.includes("\0")) {
      // [spec] "If the field value does not contain U+0000 NULL, then set the last event ID buffer
      // to the field value. Otherwise, ignore the field."
      this.#idBuffer = value;
      this.#hasIdField = true;
    } else if (name === "retry" && /^[0-9]+$/.test(value)) {
      // [spec] "If the field value consists of only ASCII digits, then interpret the field value
      // as an integer in base ten [...] Otherwise, ignore the field."
      this.retries.push(Number.parseInt(value, 10));
    } else {
      this.ignoredLines.push(line);
    }
  }

  #dispatch(): void {
    // [spec] 1. "Set the last event ID string of the event source to the value of the last event ID
    // buffer. The buffer does not get reset [...]". It comes before the look at the data.
    const isMoved = this.#hasIdField && this.#idBuffer !== this.#lastEventId;
    this.#lastEventId = this.#idBuffer;
    const data = this.#data;
    const type = this.#type;
    if (data === "" && this.#hasField) this.emptyBlocks += 1;
    if (data !== "" && !this.#hasIdField && this.#lastEventId !== "") this.idlessEvents += 1;
    this.#clearBlock();
    // [spec] 2. "If the data buffer is an empty string, set the data buffer and the event type
    // buffer to the empty string and return."
    if (data === "") {
      if (isMoved) this.idOnlyBlocks.push(this.#lastEventId);
      return;
    }
    // [spec] 3. "If the data buffer's last character is a U+000A LINE FEED (LF) character, then
    // remove the last character from the data buffer." 5. and 6. the type is "message" unless set.
    this.#onEvent({
      type: type === "" ? "message" : type,
      data: data.slice(0, -1),
      lastEventId: this.#lastEventId,
    });
  }

  #clearBlock(): void {
    this.#data = "";
    this.#type = "";
    this.#hasIdField = false;
    this.#hasField = false;
  }
}

/** [spec] "If value starts with a U+0020 SPACE character, remove it from value." One, not all. */
function withoutLeadingSpace(value: string): string {
  return value.startsWith(" ") ? value.slice(1) : value;
}
