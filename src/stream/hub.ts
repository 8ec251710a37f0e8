import type { News } from "../change/change.ts";
import type { Scope } from "../change/scope.ts";
import type { Snapshot } from "../change/snapshot.ts";
import { OutgoingChange } from "./frames.ts";

/** What the hub hands out. It calls both synchronously and in this order; neither may block. */
export type Subscriber = {
  /** One change of a topic; nothing is written yet. */
  enqueue(change: OutgoingChange): void;
  /**
   * The changes so far are one flush: write them together.
   * @param snapshot what the feed has read with this flush; undefined when more of it follows
   */
  flush(snapshot: Snapshot | undefined): void;
};

const EVERYTHING = "all";

/** The topics of jobs, of an owner's jobs, of a batch's jobs, of all. */
export function topicsOf(scope: Scope): string[] {
  if (scope.kind === "all") return [EVERYTHING];
  return scope.kind === "jobs"
    ? scope.jobIds.map((id) => `job:${id}`)
    : [`${scope.kind}:${scope.id}`];
}

function topicsOfNews({ jobId, ownerId, batchId }: News): string[] {
  const topics = [EVERYTHING, `job:${jobId}`, `owner:${ownerId}`];
  if (batchId !== null) topics.push(`batch:${batchId}`);
  return topics;
}

/** Hands each change to whoever subscribes to its job, its owner or its batch. */
export class Hub {
  readonly #topics = new Map<string, Set<Subscriber>>();
  /** Reached by pages of a flush whose last page is still to come. */
  readonly #touched = new Set<Subscriber>();
  readonly #onError: (error: unknown) => void;

  /** @param onError a subscriber threw; the others are served all the same */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Subscribes until the function it gives back is called; calling that twice does nothing. */
  subscribe(topics: readonly string[], subscriber: Subscriber): () => void {
    for (const topic of topics) {
      const subscribers = this.#topics.get(topic);
      if (subscribers) subscribers.add(subscriber);
      else this.#topics.set(topic, new Set([subscriber]));
    }
    return () => {
      this.#touched.delete(subscriber);
      for (const topic of topics) {
        const subscribers = this.#topics.get(topic);
        subscribers?.delete(subscriber);
        if (subscribers?.size === 0) this.#topics.delete(topic);
      }
    };
  }

  /** Topics that have subscribers. */
  get topicCount(): number {
    return this.#topics.size;
  }

  /** Subscriptions: a subscriber counts once for each of its topics. */
  get subscriberCount(): number {
    let count = 0;
    for (const subscribers of this.#topics.values()) count += subscribers.size;
    return count;
  }

  /** Whether anybody would be told of it. */
  isWatched(news: News): boolean {
    return topicsOfNews(news).some((topic) => this.#topics.has(topic));
  }

  /** A page of the feed. `snapshot` is set on the last page of a flush. */
  publish(changes: readonly News[], snapshot: Snapshot | undefined): void {
    for (const news of changes) this.#route(news);
    for (const subscriber of this.#touched) this.#guard(() => subscriber.flush(snapshot));
    if (snapshot) this.#touched.clear();
  }

  #route(news: News): void {
    let outgoing: OutgoingChange | undefined;
    for (const topic of topicsOfNews(news)) {
      const subscribers = this.#topics.get(topic);
      if (!subscribers) continue;
      outgoing ??= new OutgoingChange(news);
      for (const subscriber of subscribers) {
        this.#touched.add(subscriber);
        const given = outgoing;
        this.#guard(() => subscriber.enqueue(given));
      }
    }
  }

  /** One that throws must not keep the change from the others. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#onError(error);
    }
  }
}
