/** More queries than this at once, and a reconnect storm would starve the others. */
const MAX_QUERIES = 3;

type Waiting<Key, Answer> = {
  readonly key: Key;
  readonly askers: { resolve(answer: Answer): void; reject(error: unknown): void }[];
};

/**
 * Gathers the reads of everybody who asks at about the same time into one query, and those who ask
 * for the same into one read, so that a thousand viewers who come back at once cost a few queries.
 * A read always begins after it was asked for: a subscriber that subscribed first cannot miss a
 * commit in between.
 *
 * @param load answers for the keys, in their order; for the first of them, at least one, when all
 *   would be too much to hold: the others are asked for again
 * @param options.maxKeys keys of one query
 * @param options.nameOf keys of one name share their answer
 */
export function gather<Key, Answer>(
  load: (keys: readonly Key[]) => Promise<readonly Answer[]>,
  options: { readonly maxKeys: number; readonly nameOf: (key: Key) => string },
): (key: Key) => Promise<Answer> {
  const { maxKeys, nameOf } = options;
  let waiting = new Map<string, Waiting<Key, Answer>>();
  let running = 0;

  function takeNext(): Waiting<Key, Answer>[] {
    const reads: Waiting<Key, Answer>[] = [];
    for (const [name, read] of waiting) {
      if (reads.length === maxKeys) break;
      waiting.delete(name);
      reads.push(read);
    }
    return reads;
  }

  /** Before those who came later; who asked for the same meanwhile may have the same answer. */
  function putBack(reads: readonly Waiting<Key, Answer>[]): void {
    const later = waiting;
    waiting = new Map(reads.map((read) => [nameOf(read.key), read]));
    for (const [name, read] of later) {
      const earlier = waiting.get(name);
      if (earlier) earlier.askers.push(...read.askers);
      else waiting.set(name, read);
    }
  }

  function run(): void {
    while (running < MAX_QUERIES && waiting.size > 0) {
      // It rejects nobody but those who asked.
      answer(takeNext()).catch(() => undefined);
    }
  }

  async function answer(reads: readonly Waiting<Key, Answer>[]): Promise<void> {
    running += 1;
    try {
      const answers = await load(reads.map(({ key }) => key));
      for (const [index, { askers }] of reads.slice(0, answers.length).entries()) {
        for (const { resolve } of askers) resolve(answers[index] as Answer);
      }
      putBack(reads.slice(answers.length));
    } catch (error) {
      for (const { askers } of reads) for (const { reject } of askers) reject(error);
    } finally {
      running -= 1;
      run();
    }
  }

  return (key) =>
    new Promise((resolve, reject) => {
      const name = nameOf(key);
      const read = waiting.get(name) ?? { key, askers: [] };
      read.askers.push({ resolve, reject });
      waiting.set(name, read);
      // The next turn of the loop, so that everybody of this turn is in the same query.
      if (waiting.size === 1) setImmediate(run);
    });
}
