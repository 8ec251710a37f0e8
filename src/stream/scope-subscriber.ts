import { formatCursor } from "../protocol/cursor.ts";
import { hasPassed, isVisibleIn, type Snapshot } from "../protocol/snapshot.ts";
import type { EventStream } from "./event-stream.ts";
import { eventFrame, type Frame, idFrame, type OutgoingChange } from "./frames.ts";
import type { Subscriber } from "./hub.ts";
import type { ScopeRead } from "./ports.ts";

/** Live changes that wait for the first read to be sent; with more than that it reads on. */
const MAX_PARKED = 1_000;

/** What changed since a snapshot (or, when that is too much, the present states), patiently. */
type PatientRead = (
  since: Snapshot,
  isWanted: () => boolean,
) => Promise<{ read: ScopeRead; isReset: boolean } | undefined>;

/**
 * One viewer of many jobs: no committed change is missed, whatever the order of the commits.
 *
 * Its cursor is a snapshot. It is subscribed before anything is read; what the read's own snapshot
 * saw is left out of the live changes, by the transaction that wrote them. An id is written only
 * with the last event of a flush, so a client's last id is always a complete snapshot.
 */
export class ScopeSubscriber implements Subscriber {
  readonly #epoch: string;
  readonly #read: PatientRead;
  #stream: EventStream | undefined;
  #isLive = false;
  /** What the first read saw; undefined once the feed has passed it and nothing can repeat. */
  #seen: Snapshot | undefined;
  #frames: Frame[] = [];
  #parked: OutgoingChange[] = [];
  #parkedTooMany = false;
  /** The snapshot of the newest flush that was parked as a whole. */
  #parkedSnapshot: Snapshot | undefined;

  constructor(epoch: string, read: PatientRead) {
    this.#epoch = epoch;
    this.#read = read;
  }

  enqueue(outgoing: OutgoingChange): void {
    if (!this.#isLive) {
      if (this.#parked.length < MAX_PARKED) this.#parked.push(outgoing);
      else this.#parkedTooMany = true;
    } else if (!this.#seen || !isVisibleIn(this.#seen, outgoing.change.xid)) {
      this.#frames.push(outgoing.sharedFrame);
    }
  }

  flush(snapshot: Snapshot | undefined): void {
    if (!this.#isLive) {
      this.#parkedSnapshot = snapshot;
      return;
    }
    if (snapshot && this.#seen && hasPassed(snapshot, this.#seen)) this.#seen = undefined;
    const last = this.#frames.pop();
    if (!last) return;
    const before = this.#frames;
    this.#frames = [];
    if (snapshot) {
      const frames = [...before, idFrame(this.#cursor(snapshot)), last];
      this.#stream?.send(frames, before.length + 1);
    } else {
      // More of this flush follows, and its id belongs to its last event, which may be this one.
      this.#stream?.send(before, before.length);
      this.#frames.push(last);
    }
  }

  /** Sends what was read already, then whatever came meanwhile, then what is live. */
  async begin(stream: EventStream, first: ScopeRead, isReset: boolean): Promise<void> {
    this.#stream = stream;
    await stream.sendPaced(this.#toFrames(first, isReset), first.changes.length);
    let known: ScopeRead = first;
    while (this.#parkedTooMany && stream.isOpen) {
      this.#parkedTooMany = false;
      this.#parked = [];
      const missed = await this.#read(known.snapshot, () => stream.isOpen);
      if (!missed) return;
      known = missed.read;
      if (missed.isReset || known.changes.length > 0) {
        await stream.sendPaced(this.#toFrames(known, missed.isReset), known.changes.length);
      }
    }
    this.#seen = known.snapshot;
    this.#isLive = true;
    for (const outgoing of this.#parked.splice(0)) this.enqueue(outgoing);
    this.flush(this.#parkedSnapshot);
  }

  #toFrames({ changes, snapshot }: ScopeRead, isReset: boolean): Frame[] {
    const cursor = this.#cursor(snapshot);
    const frames = changes.map(({ event }, index) => {
      const isLast = index === changes.length - 1;
      // An id in a frame of its own could be carried off by a heartbeat between the two.
      return eventFrame("status", JSON.stringify(event), isLast ? cursor : undefined);
    });
    const isEmpty = frames.length === 0;
    if (isReset) {
      const data = JSON.stringify({ reason: "unknown_cursor" });
      return [eventFrame("reset", data, isEmpty ? cursor : undefined), ...frames];
    }
    // Nothing to tell yet, but a client without an id would come back without one, and would miss
    // a job that began and ended in between.
    return isEmpty ? [eventFrame("ready", "{}", cursor)] : frames;
  }

  #cursor(snapshot: Snapshot): string {
    return formatCursor(this.#epoch, snapshot);
  }
}
