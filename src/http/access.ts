import { JobcastError } from "../errors.ts";
import type { Caller, Scope } from "./auth/caller.ts";

/*
 * Who may do what with whose jobs, batches and credits. What an operation asks of its caller at all
 * is its `access`; what it depends on whose the thing is, is here and nowhere else. What belongs to
 * others looks as if it were not there.
 */

/** Anything, with any of these scopes; a stream token has none. @throws {JobcastError} insufficient_scope */
export function requireScope(caller: Caller, ...scopes: readonly [Scope, ...Scope[]]): void {
  if (!caller.subscribeOnly && scopes.some((scope) => caller.scopes.has(scope))) return;
  throw new JobcastError("insufficient_scope", `The token lacks the scope "${scopes[0]}".`);
}

/** A job may be read and watched by its owner, and by who may read all; by a stream token of jobs, those. */
export function mayRead(caller: Caller, job: { id: string; ownerId: string }): boolean {
  if (caller.jobs && !caller.jobs.has(job.id)) return false;
  return job.ownerId === caller.ownerId || mayReadAll(caller);
}

/** What is of an owner and of no single job, such as a batch: the same, but by no stream token of jobs. */
export function mayReadOwner(caller: Caller, ownerId: string): boolean {
  return !caller.jobs && (ownerId === caller.ownerId || mayReadAll(caller));
}

/** Workers and backends read everything. */
export function mayReadAll({ scopes }: Caller): boolean {
  return scopes.has("jobs:read") || scopes.has("jobs:write");
}

/** Whoever may create jobs may pass on where a provider reports on them: that can write the job. */
export function mayPassOn({ scopes }: Caller): boolean {
  return scopes.has("jobs:create") || scopes.has("jobs:write");
}

/** Jobs and batches are made, cancelled and retried for others by those who may write any. */
export function requireOwn(caller: Caller, ownerId: string): void {
  if (ownerId !== caller.ownerId) requireScope(caller, "jobs:write");
}

/** Whose jobs or batches a list is about: undefined is everybody's, for those who may read all. */
export function listedOwner(caller: Caller, owner: string | undefined): string | undefined {
  if (mayReadAll(caller)) return owner;
  if (owner !== undefined && owner !== caller.ownerId) requireScope(caller, "jobs:read");
  return caller.ownerId;
}

/** Somebody else's account is for those who fill it and for those who may read jobs. */
export function accountOwner(caller: Caller, owner = caller.ownerId): string {
  if (owner !== caller.ownerId) requireScope(caller, "jobs:read", "credits:grant");
  return owner;
}
