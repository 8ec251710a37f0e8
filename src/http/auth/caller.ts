import type { Response } from "express";

export type Scope = "jobs:create" | "jobs:write" | "jobs:read" | "credits:grant" | "stats:read";

/** How far another machine's clock may be off before its tokens are refused or outlive themselves. */
export const CLOCK_TOLERANCE_SECONDS = 5;

/** Who calls, as the token says. */
export type Caller = {
  /** The token's `sub`. */
  readonly ownerId: string;
  readonly scopes: ReadonlySet<string>;
  /** A stream token: it may do nothing but subscribe. */
  readonly subscribeOnly: boolean;
  /** Names a stream token whose streams are counted by themselves, and not with its owner's others. */
  readonly viewer: string | undefined;
  /** The jobs that a stream token is limited to. */
  readonly jobs: ReadonlySet<string> | undefined;
  /** The batch that a stream token is limited to, and its jobs. */
  readonly batchId: string | undefined;
  /** Of a stream token: whether somebody has voided it meanwhile. */
  readonly isRevoked?: (() => boolean) | undefined;
  /** When its streams end: milliseconds since the epoch, the tolerance for clocks included. */
  readonly expiresAt: number;
};

/** A symbol, so that no other middleware's `res.locals.caller` can pass for ours. */
const CALLER = Symbol("caller");

type Locals = { [CALLER]?: Caller };

export function setCaller(res: Response, caller: Caller): void {
  (res.locals as Locals)[CALLER] = caller;
}

/** Undefined on a route that anybody may call, and before it is known. */
export function callerIfKnown(res: Response): Caller | undefined {
  return (res.locals as Locals)[CALLER];
}

/** @throws {TypeError} on a route that was mounted without authentication. */
export function callerOf(res: Response): Caller {
  const caller = callerIfKnown(res);
  if (!caller) throw new TypeError("this route was mounted without authentication");
  return caller;
}
