/** More than this in one query, or queries at once, and a reconnect storm would starve the others. */
const MAX_KEYS = 500;
const MAX_QUERIES = 3;

type Waiting<Key, Answer> = {
  readonly key: Key;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
};

/**
 * Gathers the reads of everybody who asks at about the same time into one query, so that a
 * thousand viewers who come back at once cost a few queries. A read always begins after it was
 * asked for: a subscriber that subscribed first cannot miss a commit in between.
 *
 * @param load answers for the keys, in their order
 */
export function gather<Key, Answer>(
  load: (keys: readonly Key[]) => Promise<readonly Answer[]>,
): (key: Key) => Promise<Answer> {
  const waiting: Waiting<Key, Answer>[] = [];
  let running = 0;

  async function runNext(): Promise<void> {
    const reads = waiting.splice(0, MAX_KEYS);
    running += 1;
    try {
      const answers = await load(reads.map(({ key }) => key));
      for (const [index, read] of reads.entries()) read.resolve(answers[index] as Answer);
    } catch (error) {
      for (const read of reads) read.reject(error);
    } finally {
      running -= 1;
      if (waiting.length > 0) void runNext();
    }
  }

  /** The reads that were waiting may have gone with a query that ended meanwhile. */
  function start(): void {
    if (waiting.length > 0 && running < MAX_QUERIES) void runNext();
  }

  return (key) =>
    new Promise((resolve, reject) => {
      waiting.push({ key, resolve, reject });
      // The next turn of the loop, so that everybody of this turn is in the same query.
      if (waiting.length === 1) setImmediate(start);
    });
}
