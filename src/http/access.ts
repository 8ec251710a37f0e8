import { JobcastError } from "../errors.ts";
import type { Caller, Scope } from "./auth/caller.ts";

/*
 * Who may do what, and with whose jobs, batches and credits. What belongs to others looks as if it
 * were not there, unless the caller named them: then he is told the scope that he lacks.
 */

/** For who has a token. */
export type TokenAccess = {
  /** One of these is needed. Default: none is */
  readonly scopes?: readonly [Scope, ...Scope[]];
  /** With one of these it may be done with what is somebody else's. */
  readonly others?: readonly [Scope, ...Scope[]];
  /** Whether a stream token is enough. */
  readonly isStream?: true;
};

/** Anybody; who has the token in a job's callback URL, or a signature; or who has a token. */
export type Access = "open" | "provider" | TokenAccess;

const CREATORS = ["jobs:create", "jobs:write"] as const;
const WRITERS = ["jobs:write"] as const;
const READERS = ["jobs:read", "jobs:write"] as const;
const ACCOUNTANTS = ["jobs:read", "credits:grant"] as const;
const GRANTORS = ["credits:grant"] as const;

/** Every operation, by its id. */
export const ACCESS = {
  createJob: { scopes: CREATORS, others: WRITERS },
  listJobs: { others: READERS },
  getJob: { others: READERS },
  getJobHistory: { others: READERS },
  cancelJob: { others: WRITERS },
  retryJob: { others: WRITERS },
  updateJob: { scopes: WRITERS, others: WRITERS },
  updateJobs: { scopes: WRITERS, others: WRITERS },
  streamJob: { isStream: true, others: READERS },
  streamJobs: { isStream: true, others: READERS },
  createBatch: { scopes: CREATORS, others: WRITERS },
  listBatches: { others: READERS },
  getBatch: { others: READERS },
  streamBatch: { isStream: true, others: READERS },
  cancelBatch: { others: WRITERS },
  getCredits: { others: ACCOUNTANTS },
  listCreditTransactions: { others: ACCOUNTANTS },
  grantCredits: { scopes: GRANTORS, others: GRANTORS },
  receiveCallback: "provider",
  createStreamToken: { others: READERS },
  getStatistics: { scopes: ["stats:read"] },
  getMetrics: "open",
  getHealth: "open",
  getReadiness: "open",
  getDescription: "open",
  getReference: "open",
  getReferenceScript: "open",
} as const satisfies Readonly<Record<string, Access>>;

/** Anything, with any of these scopes; a stream token has none. @throws {JobcastError} insufficient_scope */
export function requireScope(caller: Caller, ...scopes: readonly [Scope, ...Scope[]]): void {
  if (!caller.subscribeOnly && hasAny(caller, scopes)) return;
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
export function mayReadAll(caller: Caller): boolean {
  return hasAny(caller, READERS);
}

/** Whoever may create jobs may pass on where a provider reports on them: that can write the job. */
export function mayPassOn(caller: Caller): boolean {
  return hasAny(caller, CREATORS);
}

/** Jobs and batches are made, cancelled and retried for others by those who may write any. */
export function requireOwn(caller: Caller, ownerId: string): void {
  if (ownerId !== caller.ownerId) requireScope(caller, ...WRITERS);
}

/** Whose jobs or batches a list is about: undefined is everybody's, for those who may read all. */
export function listedOwner(caller: Caller, owner: string | undefined): string | undefined {
  if (mayReadAll(caller)) return owner;
  if (owner !== undefined && owner !== caller.ownerId) requireScope(caller, ...READERS);
  return caller.ownerId;
}

/** Somebody else's account is for those who fill it and for those who may read jobs. */
export function accountOwner(caller: Caller, owner = caller.ownerId): string {
  if (owner !== caller.ownerId) requireScope(caller, ...ACCOUNTANTS);
  return owner;
}

function hasAny({ scopes }: Caller, some: readonly Scope[]): boolean {
  return some.some((scope) => scopes.has(scope));
}
