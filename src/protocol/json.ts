import { z } from "zod";
import { isStorable } from "./storable.ts";

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** Deeper values would overflow a recursive reader, ours or PostgreSQL's. */
const MAX_DEPTH = 64;

function firstProblem(value: unknown, depth: number): string | undefined {
  if (typeof value === "string") {
    return isStorable(value) ? undefined : "contains NUL or half a surrogate pair";
  }
  if (typeof value === "number" && !Number.isFinite(value)) return "is beyond every double";
  if (typeof value !== "object" || value === null) return undefined;
  if (depth === 0) return `is nested more than ${MAX_DEPTH} levels deep`;
  for (const [key, member] of Object.entries(value)) {
    const problem = firstProblem(key, depth - 1) ?? firstProblem(member, depth - 1);
    if (problem) return problem;
  }
  return undefined;
}

function checkStorable(value: unknown, context: z.RefinementCtx): void {
  const problem = firstProblem(value, MAX_DEPTH);
  if (problem) context.addIssue({ code: "custom", message: problem });
}

/** An exponent that makes a number much longer when it is written out, and what hides one. */
const LONG_EXPONENT = /e[+-]?\d{3}/i;
const STRINGS_AND_EXPONENTS = /"(?:[^"\\]|\\.)*"|e([+-]?\d+)/gi;

/**
 * How many digits the exponents of JSON text stand for. PostgreSQL keeps `1e-16383` in a few bytes,
 * and writes all of it out: a megabyte of it becomes more than a server has.
 * @see https://www.postgresql.org/docs/current/datatype-numeric.html
 */
export function digitsOfExponents(json: string): number {
  if (!LONG_EXPONENT.test(json)) return 0;
  let digits = 0;
  for (const [, exponent] of json.matchAll(STRINGS_AND_EXPONENTS)) {
    if (exponent !== undefined) digits += Math.abs(Number(exponent));
  }
  return digits;
}

/** Any JSON value that PostgreSQL can hold: what each kind holds is said for generators of clients. */
export const jsonSchema = z
  .custom<Json>((value) => value !== undefined, "is required")
  .superRefine(checkStorable)
  .meta({
    type: ["string", "number", "boolean", "object", "array", "null"],
    items: {},
    additionalProperties: true,
  });

/** A JSON object that PostgreSQL can hold. */
export const jsonObjectSchema = z
  .custom<JsonObject>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "must be an object",
  )
  .superRefine(checkStorable)
  .meta({ type: "object", additionalProperties: true });

/** Text of 0 to `max` characters that PostgreSQL can hold. */
export function textSchema(max: number) {
  return z.string().max(max).refine(isStorable, "contains NUL or half a surrogate pair");
}
