/** Which jobs a stream over many jobs is about. */
export type Scope =
  | { readonly kind: "jobs"; readonly jobIds: readonly string[] }
  | { readonly kind: "owner"; readonly id: string }
  | { readonly kind: "batch"; readonly id: string };
