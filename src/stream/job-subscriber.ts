import type { EventText } from "../change/change.ts";
import type { JobReplay } from "../db/job-reader.ts";
import { deletedJson } from "../protocol/event.ts";
import { isFinal } from "../protocol/status.ts";
import type { Allowance } from "./allowance.ts";
import type { EventStream } from "./event-stream.ts";
import { eventFrame, type Frame, type OutgoingChange, replayedFrame } from "./frames.ts";
import type { Subscriber } from "./hub.ts";
import { Parked } from "./parked.ts";

/**
 * Reads above a version, or the newest event alone, and again while the database is away, as long
 * as it is wanted.
 */
type RetryingRead = (
  after: number | null,
  isWanted: () => boolean,
) => Promise<JobReplay | undefined>;

/**
 * One viewer of one job: every version once, ascending, without a hole.
 *
 * It is subscribed before anything is read, and parks what arrives meanwhile, so a commit between
 * subscribing and reading is either in what was read or parked. Versions tell which.
 */
export class JobSubscriber implements Subscriber {
  readonly #jobId: string;
  readonly #read: RetryingRead;
  readonly #parked: Parked;
  #stream: EventStream | undefined;
  /** The newest version that was sent. */
  #sent = 0;
  #isLive = false;
  #frames: Frame[] = [];
  #isEnding = false;

  constructor(jobId: string, read: RetryingRead, parking: Allowance) {
    this.#jobId = jobId;
    this.#read = read;
    this.#parked = new Parked(parking);
  }

  enqueue(outgoing: OutgoingChange): void {
    if (this.#isEnding || this.#stream?.isOpen === false) return;
    const { version, status } = outgoing.change;
    const { jobFrame } = outgoing;
    if (!this.#isLive) this.#parked.add(outgoing);
    else if (jobFrame && version === this.#sent + 1) {
      this.#frames.push(jobFrame);
      this.#sent = version;
      this.#isEnding = isFinal(status);
    } else if (version > this.#sent) {
      // A hole, or a large one: what is missing is in the table.
      this.#isLive = false;
      this.#parked.add(outgoing);
      this.#catchUpAlone();
    }
  }

  flush(): void {
    if (!this.#isLive || !this.#stream) return;
    this.#stream.send(this.#frames, { events: this.#frames.length });
    this.#frames = [];
    if (this.#isEnding) this.#stream.end();
  }

  /** Gives back what it parked: it is unsubscribed. */
  leave(): void {
    this.#parked.clear();
  }

  /**
   * Sends what was read already, then what is missing, then what is live.
   * @param replay the first page of what the client is missing
   * @param isReset whether the client's last id means nothing here and it gets the current state
   */
  begin(stream: EventStream, replay: JobReplay, isReset: boolean): void {
    this.#stream = stream;
    const [first] = replay.events;
    this.#sent = first ? first.version - 1 : replay.version;
    if (isReset) this.#startOver(replay);
    else this.#take(replay);
    this.#catchUpAlone(replay.version);
  }

  /** Nobody waits for it: what fails ends the stream, and its client comes back. */
  #catchUpAlone(known?: number): void {
    this.#catchUp(known).catch((error: unknown) => this.#stream?.fail(error));
  }

  /** Reads until nothing is missing, then lets go of what was parked, in one turn of the loop. */
  async #catchUp(known?: number): Promise<void> {
    const stream = this.#stream;
    if (!stream) return;
    for (let version = known; ; ) {
      const frames = this.#frames.splice(0);
      await stream.sendPaced(frames, frames.length);
      // Nobody is there to be told: what was let go of now would find the same hole, for ever.
      if (!stream.isOpen) return this.#parked.clear();
      if (this.#isEnding) break;
      const isComplete = version !== undefined && this.#sent >= version;
      if (isComplete && !this.#parked.isIncomplete) break; // a hole in what was parked shows when it is let go
      version = await this.#readOn(stream);
    }
    this.#isLive = true;
    for (const outgoing of this.#parked.takeAll()) this.enqueue(outgoing);
    this.flush();
  }

  /**
   * One page more. It is let go of here: while a slow client takes its frames, nobody needs it.
   * @returns the version that the job has now
   */
  async #readOn(stream: EventStream): Promise<number | undefined> {
    // What comes from now on is parked again, and the read that follows sees all that came before.
    if (this.#parked.isIncomplete) this.#parked.clear();
    const isWanted = () => stream.isOpen;
    let replay = await this.#read(this.#sent, isWanted);
    if (replay && hasHole(replay, this.#sent)) {
      replay = await this.#read(null, isWanted);
      if (replay) this.#startOver(replay);
    } else if (replay) this.#take(replay);
    if (!replay) {
      stream.send([eventFrame("deleted", deletedJson(this.#jobId, this.#sent + 1))]);
      stream.end();
    }
    return replay?.version;
  }

  #take(replay: JobReplay): void {
    for (const event of replay.events) {
      if (event.version <= this.#sent) continue;
      this.#frames.push(replayedFrame(event));
      this.#hasTaken(event, replay);
    }
  }

  /** What was sent is no place to go on from: the present state is. */
  #startOver(replay: JobReplay): void {
    const newest = replay.events.at(-1);
    if (!newest) return;
    this.#frames.push(eventFrame("reset", newest.json, newest.id));
    this.#hasTaken(newest, replay);
  }

  #hasTaken({ version, status }: EventText, replay: JobReplay): void {
    this.#sent = version;
    this.#isEnding = isFinal(status) && version === replay.version;
  }
}

/**
 * Whether versions above `after` are missing in what was read above it: their history was pruned,
 * or the job is another one by now.
 */
export function hasHole({ events, version }: JobReplay, after: number): boolean {
  if (events.length === 0) return version !== after;
  return events.some((event, index) => event.version !== after + 1 + index);
}
