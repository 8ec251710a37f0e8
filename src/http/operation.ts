import type { Request, Response } from "express";
import type { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import type { Access } from "./access.ts";
import type { Caller } from "./auth/caller.ts";
import type { HttpParts } from "./parts.ts";

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

/** A body of JSON: `maxBytes` above which it is refused. Default: 1 MiB */
export type Body<Schema extends z.ZodType = z.ZodType> = {
  readonly required: boolean;
  readonly schema: Schema;
  readonly examples: Examples;
  readonly maxBytes?: number;
};

/** One request for an operation. What was named of it is parsed; what was not is not there. */
export type Call<Query = unknown, Value = unknown> = {
  readonly req: Request;
  readonly res: Response;
  /** Whoever calls. Of operations that anybody may call there is none. */
  readonly caller: Caller;
  /** The id in the path, in lower case, as PostgreSQL writes it. @throws {JobcastError} not_found */
  readonly id: string;
  readonly query: Query;
  /**
   * What links begin with: where callers reach this server, or the path that it is mounted under.
   * Without a slash at the end.
   */
  readonly baseUrl: string;
  /**
   * Reads the body, and what it says beside the text that said it; nobody's is read before he may
   * do what it asks for.
   */
  body(): Promise<{ readonly value: Value; readonly text: string }>;
};

/** JSON as text, with a status. Default: 200. Without JSON: 204 */
export type Reply = {
  readonly json?: string;
  readonly status?: number;
  readonly location?: string;
};

type Definition<Query extends z.ZodObject, Value extends z.ZodType> = {
  /** Unique; what a generator of clients calls its function. */
  readonly id: string;
  readonly method: "get" | "post" | "patch" | "delete";
  /** Parameters in braces. */
  readonly path: string;
  readonly summary: string;
  readonly description: string;
  /** Whether it is part of a page, and nothing to call. */
  readonly isHidden?: boolean;
  readonly access: Access;
  /** What is in the braces of the path. What parameters are for is the `meta` of their schemas. */
  readonly params?: z.ZodObject;
  /** Parsed before anything else is done. */
  readonly query?: Query;
  /** What the handler reads of the query by itself. */
  readonly reads?: z.ZodObject;
  readonly headers?: z.ZodObject;
  readonly body?: Body<Value>;
  /** By status; what fails is in `problems`. */
  readonly answers: Readonly<Record<number, Answer>>;
  /** Beside those that follow from the access, the parameters and the body. */
  readonly problems: readonly ErrorCode[];
  /** Does it, and gives back the answer, or has given it. */
  handler(
    parts: HttpParts,
    call: Call<z.output<Query>, z.output<Value>>,
  ): Promise<Reply | undefined> | Reply | undefined;
};

/** One method of one path: what it is, who may call it, and what it does. */
export type Operation = Definition<z.ZodObject, z.ZodType>;

export function defineOperation<
  Query extends z.ZodObject = z.ZodObject,
  Value extends z.ZodType = z.ZodType,
>(definition: Definition<Query, Value>): Operation {
  return definition;
}

/** What belongs together in the reference. */
export type Resource = {
  readonly name: string;
  readonly description: string;
  readonly operations: readonly Operation[];
};

/** A JSON body or answer, described. */
export function json(
  schema: z.ZodType,
  examples: Examples,
): { readonly "application/json": Content } {
  return { "application/json": { schema, examples } };
}

/** The answer to a request, as JSON. */
export function reply(value: unknown, status = 200): Reply {
  return { json: JSON.stringify(value), status };
}
