import type { Response } from "express";
import { JobcastError } from "../../errors.ts";

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
  /** When its streams end: milliseconds since the epoch, the tolerance for clocks included. */
  readonly expiresAt: number;
};

/** A symbol, so that no other middleware's `res.locals.caller` can pass for ours. */
const CALLER = Symbol("caller");

type Locals = { [CALLER]?: Caller };

export function setCaller(res: Response, caller: Caller): void {
  (res.locals as Locals)[CALLER] = caller;
}

/** @throws {TypeError} on a route that was mounted without authentication. */
export function callerOf(res: Response): Caller {
  const caller = (res.locals as Locals)[CALLER];
  if (!caller) throw new TypeError("this route was mounted without authentication");
  return caller;
}

/** @throws {JobcastError} insufficient_scope; also for a stream token, whatever its scope. */
export function requireScope(caller: Caller, scope: Scope): void {
  if (caller.subscribeOnly || !caller.scopes.has(scope)) {
    throw new JobcastError("insufficient_scope", `The token lacks the scope "${scope}".`);
  }
}

/** Whether the caller may know of the job: its own, or any with `jobs:read` or `jobs:write`. */
export function mayRead(caller: Caller, job: { id: string; ownerId: string }): boolean {
  if (caller.jobs) return caller.jobs.has(job.id) && isReader(caller, job.ownerId);
  return isReader(caller, job.ownerId);
}

/** The same for what is of an owner and of no single job; not for a token of some jobs only. */
export function mayReadOwner(caller: Caller, ownerId: string): boolean {
  return !caller.jobs && isReader(caller, ownerId);
}

/** Whether it is the backend of many: what it gives away is for as many viewers. */
export function mayReadAll({ scopes }: Caller): boolean {
  return scopes.has("jobs:read") || scopes.has("jobs:write");
}

function isReader(caller: Caller, owner: string): boolean {
  return owner === caller.ownerId || mayReadAll(caller);
}
