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
  /** What owners may do without one, which the handler sees to. */
  readonly ownersMay?: string;
  /** Whether it is a stream, for which a stream token is enough. */
  readonly isStream?: true;
  /** Whether one is enough to read it: what one may watch. */
  readonly isWatched?: true;
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
  listJobs: { isWatched: true, others: READERS },
  getJob: { isWatched: true, others: READERS },
  getJobHistory: { isWatched: true, others: READERS },
  getJobViewers: { isWatched: true, others: READERS },
  cancelJob: { others: WRITERS },
  retryJob: { others: WRITERS },
  deleteJob: { others: WRITERS },
  updateJob: { scopes: WRITERS, others: WRITERS, ownersMay: "set the title and metadata" },
  emitEvent: { scopes: WRITERS, others: WRITERS },
  updateJobs: { scopes: WRITERS, others: WRITERS },
  streamJob: { isStream: true, others: READERS },
  streamJobs: { isStream: true, others: READERS },
  createBatch: { scopes: CREATORS, others: WRITERS },
  listBatches: { others: READERS },
  getBatch: { isWatched: true, others: READERS },
  streamBatch: { isStream: true, others: READERS },
  cancelBatch: { others: WRITERS },
  addJobs: { scopes: CREATORS, others: WRITERS },
  retryBatch: { others: WRITERS },
  deleteBatch: { others: WRITERS },
  getCredits: { others: ACCOUNTANTS },
  listCreditTransactions: { others: ACCOUNTANTS },
  grantCredits: { scopes: GRANTORS, others: GRANTORS },
  adjustCredits: { scopes: GRANTORS, others: GRANTORS },
  setOverdraft: { scopes: GRANTORS, others: GRANTORS },
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

type OneJob = { readonly id: string; readonly ownerId: string; readonly batchId?: string | null };

/**
 * A job may be read and watched by its owner, and by who may read all; by a stream token of jobs or
 * of a batch, those.
 */
export function mayRead(caller: Caller, { id, ownerId, batchId }: OneJob): boolean {
  if (caller.jobs && !caller.jobs.has(id)) return false;
  if (caller.batchId !== undefined && caller.batchId !== batchId) return false;
  return ownerId === caller.ownerId || mayReadAll(caller);
}

/** The same of a batch: by no stream token of jobs. */
export function mayReadBatch(caller: Caller, { id, ownerId }: Omit<OneJob, "batchId">): boolean {
  if (caller.jobs || (caller.batchId !== undefined && caller.batchId !== id)) return false;
  return ownerId === caller.ownerId || mayReadAll(caller);
}

/** Workers and backends read everything. */
export function mayReadAll(caller: Caller): boolean {
  return hasAny(caller, READERS);
}

/** Whoever may create jobs may pass on where a provider reports on them: that can write the job. */
export function mayPassOn(caller: Caller): boolean {
  return hasAny(caller, CREATORS);
}

/** A stream token of some of an owner's jobs. */
export function isLimited({ jobs, batchId }: Caller): boolean {
  return jobs !== undefined || batchId !== undefined;
}

/** Whose a job is, is told beside it to who may read everybody's, and to no viewer of single jobs. */
export function maySeeOwners(caller: Caller): boolean {
  return !isLimited(caller) && mayReadAll(caller);
}

/** Jobs and batches are made, cancelled and retried for others by those who may write any. */
export function requireOwn(caller: Caller, ownerId: string): void {
  if (ownerId !== caller.ownerId) requireScope(caller, ...WRITERS);
}

/** Whether he may report on jobs: on any. */
export function mayWrite(caller: Caller): boolean {
  return hasAny(caller, WRITERS);
}

/** A producer names its own jobs; of anybody else the name would tell whether there is such a job. */
export function requireNaming(caller: Caller, id: string | undefined): void {
  if (id !== undefined) requireScope(caller, ...WRITERS);
}

/** Whose jobs or batches a list is about: undefined is everybody's, for those who may read all. */
export function listedOwner(caller: Caller, owner: string | undefined): string | undefined {
  if (isLimited(caller)) throw new JobcastError("insufficient_scope", "This token is for less.");
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
