import type { z } from "zod";
import type { ErrorCode } from "../../errors.ts";
import type { Scope } from "../auth/caller.ts";
import type { ParameterDescription } from "./parameters.ts";
import type { SchemaDescription } from "./schemas.ts";

/**
 * Who may call: `open` is anybody, `caller` anybody with a token, `stream` a stream token too,
 * `provider` who has the token in a job's callback URL; scopes are alternatives.
 */
export type Access = "open" | "caller" | "stream" | "provider" | readonly [Scope, ...Scope[]];

/** An example by its name: the answer to the request `image` is the answer that is called so too. */
export type Examples = Readonly<Record<string, unknown>>;

export type Content = {
  readonly schema: z.ZodType;
  readonly examples: Examples;
};

export type Answer = {
  readonly description: string;
  /** By media type. */
  readonly content?: Readonly<Record<string, Content>>;
  readonly headers?: Readonly<Record<string, { description: string; example: string }>>;
};

/** One method of one path, as the reference shows it and as the examples are tried. */
export type Operation = {
  /** Unique; what a generator of clients calls its function. */
  readonly id: string;
  readonly method: "get" | "post" | "patch";
  /** Parameters in braces. */
  readonly path: string;
  readonly summary: string;
  readonly description: string;
  readonly access: Access;
  readonly parameters?: readonly ParameterDescription[];
  readonly body?: Content & { readonly required: boolean };
  /** By status; what fails is in `problems`. */
  readonly answers: Readonly<Record<number, Answer>>;
  /** Beside those that follow from the access, the parameters and the body. */
  readonly problems: readonly ErrorCode[];
};

/** What belongs together in the reference. */
export type Resource = {
  readonly name: string;
  readonly description: string;
  readonly schemas: readonly SchemaDescription[];
  readonly operations: readonly Operation[];
};

/** A JSON body or answer. */
export function json(
  schema: z.ZodType,
  examples: Examples,
): { readonly "application/json": Content } {
  return { "application/json": { schema, examples } };
}
