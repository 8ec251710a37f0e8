/** Why the service cannot start, in a sentence for whoever starts it. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/**
 * @param before what it was about; the reason follows
 * @throws {StartError} unless the error is a mistake in the program, which needs its stack
 */
export function fail(before: string, error: unknown): never {
  if (error instanceof TypeError || !(error instanceof Error)) throw error;
  // What is thrown when a name has several addresses and none answers has no message of its own.
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const reasons = errors.map((each) => (each instanceof Error ? each.message : String(each)));
  throw new StartError(`${before}${reasons.join("; ")}`, { cause: error });
}
