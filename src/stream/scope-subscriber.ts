import { type Change, withOwner } from "../change/change.ts";
import { formatCursor } from "../change/cursor.ts";
import { isTold, type Scope, type ScopeWalk } from "../change/scope.ts";
import { hasPassed, isVisibleIn, type Snapshot } from "../change/snapshot.ts";
import type { ScopePage } from "../db/scope-reader.ts";
import type { Allowance } from "./allowance.ts";
import type { EventStream } from "./event-stream.ts";
import { eventFrame, type Frame, type OutgoingChange } from "./frames.ts";
import type { Subscriber } from "./hub.ts";
import { Parked } from "./parked.ts";

/** What a client is told from a page on: whether its last id meant nothing, and it starts over. */
export type Opening = { readonly page: ScopePage; readonly isReset: boolean };

/** @property isNew which of them the client was not told before; default: all */
type Telling = Opening & { readonly isNew?: (change: Change) => boolean };

/** Reads patiently, as long as it is wanted; undefined when it is no longer. */
export type ScopeReads = {
  /** What changed since a snapshot or, when that is too much, the present states. */
  since(snapshot: Snapshot, isWanted: () => boolean): Promise<Opening | undefined>;
  next(walk: ScopeWalk, isWanted: () => boolean): Promise<ScopePage | undefined>;
};

/** What one viewer is told, and how. */
export type ScopeView = {
  /** Names the database in cursors. */
  readonly epoch: string;
  readonly scope: Scope;
  /** Whether he is told whose jobs they are. */
  readonly showsOwners: boolean;
};

/**
 * One viewer of many jobs: no committed change is missed, whatever the order of the commits.
 *
 * Its cursor is a snapshot. It is subscribed before anything is read; what the read's own snapshot
 * saw is left out of the live changes, by the transaction that wrote them. An id is written only
 * with the last event of a flush, so a client's last id is always a complete snapshot.
 */
export class ScopeSubscriber implements Subscriber {
  readonly #view: ScopeView;
  readonly #reads: ScopeReads;
  readonly #parked: Parked;
  #stream: EventStream | undefined;
  #isLive = false;
  /** What the last read saw; undefined once the feed has passed it and nothing can repeat. */
  #seen: Snapshot | undefined;
  /** Of everything that this saw the client was told, be it now or by a read. */
  #told: Snapshot | undefined;
  /** What it was told of the flush that is under way: by job, the newest version. */
  readonly #toldSince = new Map<string, number>();
  #waiting: OutgoingChange[] = [];
  /** The snapshot of the newest flush that was parked as a whole. */
  #parkedSnapshot: Snapshot | undefined;

  constructor(view: ScopeView, reads: ScopeReads, parking: Allowance) {
    this.#view = view;
    this.#reads = reads;
    this.#parked = new Parked(parking);
  }

  enqueue(outgoing: OutgoingChange): void {
    if (!isTold(this.#view.scope, outgoing.change)) return;
    if (!this.#isLive) this.#parked.add(outgoing);
    else if (this.#seen && isVisibleIn(this.#seen, outgoing.change.xid)) return;
    else if (outgoing.sharedFrame) this.#waiting.push(outgoing);
    else this.#fallBehind();
  }

  flush(snapshot: Snapshot | undefined): void {
    if (!this.#isLive) {
      this.#parkedSnapshot = snapshot;
      return;
    }
    if (snapshot && this.#seen && hasPassed(snapshot, this.#seen)) this.#seen = undefined;
    // More of this flush may follow, and its id belongs to its last event, which may be this one.
    const last = this.#waiting.pop();
    if (last) this.#send(this.#waiting, snapshot && [last, snapshot]);
    this.#waiting = last && !snapshot ? [last] : [];
    if (!snapshot) return;
    this.#told = snapshot;
    this.#toldSince.clear();
  }

  /** Gives back what it parked: it is unsubscribed. */
  leave(): void {
    this.#parked.clear();
  }

  /** Sends what was read already and whatever is behind it, then what came meanwhile, then live. */
  async begin(stream: EventStream, first: Opening): Promise<void> {
    this.#stream = stream;
    await this.#catchUp(stream, first, true);
  }

  /** @param end the last event of a flush, and the snapshot that it leads to */
  #send(
    changes: readonly OutgoingChange[],
    end: readonly [OutgoingChange, Snapshot] | undefined,
  ): void {
    const [last, snapshot] = end ?? [];
    const all = last ? [...changes, last] : changes;
    const name = this.#view.showsOwners ? "ownedFrame" : "sharedFrame";
    const frames = all.flatMap((outgoing) => outgoing[name] ?? []);
    const endId = snapshot && this.#cursor(snapshot);
    this.#stream?.send(frames, { events: frames.length, endId });
    for (const { change } of changes) this.#toldSince.set(change.jobId, change.version);
  }

  /** A change that is too large to be handed to everybody: what follows is read page by page. */
  #fallBehind(): void {
    this.#isLive = false;
    this.#waiting = []; // read with the others
    const stream = this.#stream;
    if (!stream) return;
    // Nobody waits for it: what fails ends the stream, and its client comes back.
    this.#readOn(stream).catch((error: unknown) => stream.fail(error));
  }

  async #readOn(stream: EventStream): Promise<void> {
    if (!this.#told) throw new TypeError("nobody is live who was told nothing");
    const opening = await this.#reads.since(this.#told, () => stream.isOpen);
    if (opening) await this.#catchUp(stream, this.#withoutRepeats(opening), false);
  }

  /** Of what changed since the last flush a part was told, or read before the feed came to it. */
  #withoutRepeats(opening: Opening): Telling {
    const seen = this.#seen;
    const toldSince = new Map(this.#toldSince);
    this.#toldSince.clear();
    if (opening.isReset) return opening;
    const isNew = ({ jobId, version, xid }: Change) =>
      version > (toldSince.get(jobId) ?? 0) && !(seen && isVisibleIn(seen, xid));
    return { ...opening, isNew };
  }

  async #catchUp(stream: EventStream, first: Telling, isBeginning: boolean): Promise<void> {
    let opening: Telling | undefined = first;
    let isFirst = isBeginning;
    for (;;) {
      if (!(await this.#tell(stream, opening, isFirst))) return;
      if (!this.#parked.isIncomplete) break;
      this.#parked.clear();
      isFirst = false;
      opening = await this.#reads.since(opening.page.snapshot, () => stream.isOpen);
      if (!opening) return;
    }
    this.#seen = opening.page.snapshot;
    this.#told = opening.page.snapshot;
    this.#isLive = true;
    for (const outgoing of this.#parked.takeAll()) this.enqueue(outgoing);
    this.flush(this.#parkedSnapshot);
    this.#parkedSnapshot = undefined;
  }

  /**
   * All pages of a walk, at the pace of the client. Its id comes with the last event, so the last
   * one of each page is kept until it is known whether others follow.
   * @returns false when the client has gone
   */
  async #tell(
    stream: EventStream,
    { page: first, isReset, isNew = () => true }: Telling,
    isFirst: boolean,
  ): Promise<boolean> {
    const cursor = this.#cursor(first.snapshot);
    // Of a reset to nothing it is the last event, and has the id.
    const isBare = isReset && first.changes.length === 0 && !first.next;
    let kept = isReset ? resetFrame(isBare ? cursor : undefined) : undefined;
    let last: Change | undefined;
    for (let page: ScopePage | undefined = first; page; ) {
      const changes: Change[] = last ? [last] : [];
      changes.push(...page.changes.filter(isNew));
      last = changes.pop();
      const frames = changes.map((change) => this.#frame(change));
      await stream.sendPaced(kept ? [kept, ...frames] : frames, frames.length);
      kept = undefined;
      if (!stream.isOpen) return false;
      if (!page.next) break;
      page = await this.#reads.next(page.next, () => stream.isOpen);
      if (!page) return false;
    }
    if (last) {
      stream.send([this.#frame(last, cursor)], { events: 1, kind: "replayed" });
    }
    // Nothing to tell yet, but a client without an id would come back without one, and would miss
    // a job that began and ended in between.
    else if (isReset ? !isBare : isFirst) stream.send([eventFrame("ready", "{}", cursor)]);
    return stream.isOpen;
  }

  #frame(change: Change, id?: string): Frame {
    return eventFrame(change.kind, this.#view.showsOwners ? withOwner(change) : change.json, id);
  }

  #cursor(snapshot: Snapshot): string {
    return formatCursor(this.#view.epoch, snapshot);
  }
}

function resetFrame(id: string | undefined): Frame {
  return eventFrame("reset", JSON.stringify({ reason: "unknown_cursor" }), id);
}
