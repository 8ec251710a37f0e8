import { randomUUID } from "node:crypto";

/** How long our own ring may wait to be sent, and then to be heard. */
const ANSWER_MS = 5_000;

const DEAF =
  `our own notification was sent and not heard within ${ANSWER_MS} ms: LISTEN does not work through ` +
  "a transaction pooler or on a standby; set LISTEN_DATABASE_URL to a direct connection, or FEED=poll";

/**
 * Rings with a token of its own and waits for it to come back: the only proof that a connection
 * hears, because a pooler, a standby or a half-open socket says OK to everything else.
 */
export class Probe {
  readonly #ring: (payload: string) => Promise<void>;
  readonly #waiting = new Map<string, () => void>();

  /** @param ring sends a notification with this payload by another connection */
  constructor(ring: (payload: string) => Promise<void>) {
    this.#ring = ring;
  }

  /** Whether a notification was one of ours; whoever waits for it is told. */
  take(payload: string): boolean {
    const heard = this.#waiting.get(payload);
    heard?.();
    return heard !== undefined;
  }

  /**
   * Resolves when the ring was heard; with the reason when it could not be sent, which says nothing
   * about the connection that listens: it must not be given up because the pool has no place.
   * @throws when it was sent and not heard, or when `lost` is aborted meanwhile, with its reason
   */
  async send(lost: AbortSignal): Promise<{ unsent?: unknown }> {
    const token = randomUUID();
    const over = new AbortController();
    let isSent = false;
    try {
      return await new Promise((resolve, reject) => {
        lost.addEventListener("abort", () => reject(lost.reason), { signal: over.signal });
        const timer = setTimeout(() => {
          if (isSent) reject(new Error(DEAF));
          else resolve({ unsent: new Error(`nothing could be sent within ${ANSWER_MS} ms`) });
        }, ANSWER_MS);
        over.signal.addEventListener("abort", () => clearTimeout(timer));
        this.#waiting.set(token, () => resolve({}));
        const sent = () => {
          isSent = true;
          if (!over.signal.aborted) timer.refresh();
        };
        this.#ring(token).then(sent, (unsent) => resolve({ unsent }));
      });
    } finally {
      over.abort();
      this.#waiting.delete(token);
    }
  }
}
