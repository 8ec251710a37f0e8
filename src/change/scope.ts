import type { Snapshot } from "./snapshot.ts";

/** Which jobs a stream over many jobs is about. */
export type Scope =
  | { readonly kind: "jobs"; readonly jobIds: readonly string[] }
  | { readonly kind: "owner"; readonly id: string }
  | { readonly kind: "batch"; readonly id: string };

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
