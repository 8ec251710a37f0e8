import { DEFAULT_DEADLINE_MS, within } from "./deadline.ts";
import type { StreamEvent } from "./event-stream.ts";
import { createSignal } from "./signal.ts";

export type EventPredicate = (event: StreamEvent) => boolean;

export type EventQueue = {
  /** Every event that has come, also those that `next` and `take` have handed out. */
  readonly events: readonly StreamEvent[];
  /**
   * The next event that no `next` or `take` has handed out or passed over, and that `isWanted`
   * (default: any). What it passes over is gone for the calls that follow. Default deadline 10 s.
   *
   * @throws {DeadlineError} when none comes in time; Error when the stream ends first. Both list
   *   what did come.
   */
  next(isWanted?: EventPredicate, deadlineMs?: number): Promise<StreamEvent>;
  /** The next `count` of them, within one deadline for all. Throws as `next` does. */
  take(count: number, isWanted?: EventPredicate, deadlineMs?: number): Promise<StreamEvent[]>;
};

/** The queue with the side that feeds it: `wake` is called when the stream has ended. */
export type FedEventQueue = EventQueue & { add(event: StreamEvent): void; wake(): void };

/**
 * Holds the events of one stream for tests that wait for them.
 *
 * `howItEnded` says, in words, how the stream ended, or `undefined` while it is open.
 */
export function createEventQueue(howItEnded: () => string | undefined): FedEventQueue {
  const events: StreamEvent[] = [];
  let position = 0;
  let wakeUp = createSignal<void>();

  function wake(): void {
    wakeUp.resolve();
    wakeUp = createSignal<void>();
  }

  async function take(
    count: number,
    isWanted: EventPredicate = () => true,
    deadlineMs = DEFAULT_DEADLINE_MS,
  ): Promise<StreamEvent[]> {
    const taken: StreamEvent[] = [];
    let hasGivenUp = false;

    async function fill(): Promise<void> {
      while (!hasGivenUp) {
        while (taken.length < count && position < events.length) {
          const event = events[position];
          position += 1;
          if (event !== undefined && isWanted(event)) taken.push(event);
        }
        if (taken.length >= count) return;
        const ending = howItEnded();
        if (ending !== undefined) throw new Error(`the stream ${ending} before ${awaited()}`);
        await wakeUp.promise;
      }
    }

    function awaited(): string {
      const event = count === 1 ? "the awaited event" : `event ${taken.length + 1} of ${count}`;
      return `${event}: ${listing(events)}`;
    }

    try {
      await within(fill(), deadlineMs, awaited);
      return taken;
    } finally {
      // A wait that is over must not go on to eat the events of the waits after it.
      hasGivenUp = true;
    }
  }

  async function next(isWanted?: EventPredicate, deadlineMs?: number): Promise<StreamEvent> {
    const [event] = await take(1, isWanted, deadlineMs);
    if (event === undefined) throw new TypeError("take(1) gave no event");
    return event;
  }

  function add(event: StreamEvent): void {
    events.push(event);
    wake();
  }

  return { events, next, take, add, wake };
}

/** The last events, one a line, short enough for the message of an error. */
function listing(events: readonly StreamEvent[]): string {
  if (events.length === 0) return "none came";
  const shown = events.slice(-20).map(({ type, lastEventId, data }) => {
    const text = data.length > 160 ? `${data.slice(0, 160)}... (${data.length})` : data;
    return `  ${type} #${lastEventId} ${text}`;
  });
  const head = events.length > shown.length ? `the last ${shown.length} of ` : "";
  return `${head}${events.length} came\n${shown.join("\n")}`;
}
