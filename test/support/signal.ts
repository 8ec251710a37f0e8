export type Signal<T = void> = {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: Error): void;
};

/** A promise with its two ends apart: a test waits for it, a callback somewhere else settles it. */
export function createSignal<T = void>(): Signal<T> {
  let ends: Pick<Signal<T>, "resolve" | "reject"> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    ends = { resolve, reject };
  });
  if (ends === undefined) throw new TypeError("a promise runs its executor at once");
  return { promise, ...(ends as Pick<Signal<T>, "resolve" | "reject">) };
}
