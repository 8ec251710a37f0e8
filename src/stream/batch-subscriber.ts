import type { BatchState } from "../db/batch-reader.ts";
import { deletedBatchJson } from "../protocol/batch.ts";
import { isFinal } from "../protocol/status.ts";
import type { EventKind, EventStream } from "./event-stream.ts";
import { eventFrame } from "./frames.ts";
import type { Subscriber } from "./hub.ts";

/** Reads the batch, and again while the database is away, as long as it is wanted. */
type RetryingRead = (isWanted: () => boolean) => Promise<BatchState | undefined>;

/**
 * One viewer of a batch: its newest state whenever one of its jobs changed, versions ascending.
 * States that come faster than they are read are skipped: a batch has no history to be complete.
 */
export class BatchSubscriber implements Subscriber {
  readonly #batchId: string;
  readonly #read: RetryingRead;
  #stream: EventStream | undefined;
  #sent = 0;
  #isStale = false;
  #isReading = false;

  constructor(batchId: string, read: RetryingRead) {
    this.#batchId = batchId;
    this.#read = read;
  }

  enqueue(): void {
    this.#isStale = true;
  }

  flush(): void {
    const stream = this.#stream;
    if (!this.#isStale || !stream || this.#isReading) return;
    // Nobody waits for it: what fails ends the stream, and its client comes back.
    this.#refresh(stream).catch((error: unknown) => stream.fail(error));
  }

  /**
   * @param first what was read after subscribing
   * @param sent the version that the client has; undefined when its last id means nothing here
   */
  begin(stream: EventStream, first: BatchState, sent: number | undefined): void {
    this.#stream = stream;
    this.#sent = sent ?? 0;
    this.#take(stream, first, sent === undefined ? "reset" : "batch", "replayed");
    this.flush();
  }

  async #refresh(stream: EventStream): Promise<void> {
    this.#isReading = true;
    while (this.#isStale && stream.isOpen) {
      this.#isStale = false;
      const state = await this.#read(() => stream.isOpen);
      if (state) this.#take(stream, state, "batch", "live");
      else {
        stream.send([eventFrame("deleted", deletedBatchJson(this.#batchId))]);
        stream.end();
      }
    }
    this.#isReading = false;
  }

  #take(
    stream: EventStream,
    { batch, id }: BatchState,
    type: "batch" | "reset",
    kind: EventKind,
  ): void {
    if (batch.version <= this.#sent) return;
    this.#sent = batch.version;
    stream.send([eventFrame(type, batch.json, id)], { events: 1, kind });
    if (isFinal(batch.status)) stream.end();
  }
}
