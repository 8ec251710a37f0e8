import type { Status } from "../protocol/status.ts";
import type { News } from "./change.ts";
import type { Snapshot } from "./snapshot.ts";

/** Which jobs a stream over many jobs is about, and what of them. */
export type Scope = Jobs & { readonly filter?: Filter };

type Jobs =
  | { readonly kind: "jobs"; readonly jobIds: readonly string[] }
  | { readonly kind: "owner"; readonly id: string }
  | { readonly kind: "batch"; readonly id: string }
  | { readonly kind: "all" };

/** What is left out names no one: every type, every status. */
export type Filter = {
  readonly types?: readonly string[] | undefined;
  /** Of the version that is told, which need not be the job's present one. */
  readonly statuses?: readonly Status[] | undefined;
};

/** Whether a change of a job in the scope is told. That it was deleted is: nobody knows what it was. */
export function isTold({ filter }: Scope, { kind, type, status }: News): boolean {
  if (!filter || kind === "deleted") return true;
  const { types, statuses } = filter;
  return (!types || types.includes(type)) && (!statuses || statuses.includes(status));
}

/**
 * Where somebody is who is told of many jobs page by page: what one snapshot saw of them, which does
 * not change while he reads, and how far he is.
 */
export type ScopeWalk = {
  /** What he will have seen at the end. */
  readonly snapshot: Snapshot;
  /** What he had seen before: he is told the changes since. Undefined: the states of the jobs. */
  readonly since: Snapshot | undefined;
  /** The last row: of changes its job's id and version, of states its job's creation and id. */
  readonly after: readonly [string, string];
};
