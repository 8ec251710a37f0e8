import { z } from "zod";
import { NAMES } from "./names.ts";

/** A JSON Schema (2020-12), which is what OpenAPI 3.1 takes. */
export type JsonSchema = { [keyword: string]: unknown };

const PLACE = "#/components/schemas/";

/** Every shape that has a name, by it. */
export function namedSchemas(): Record<string, JsonSchema> {
  const { schemas } = convert(NAMES);
  const named = Object.entries(schemas).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(named.map(([name, schema]) => [name, tidy(schema)]));
}

/** A reference to what has a name, and all else where it stands. */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  const { id } = NAMES.get(schema) ?? {};
  if (id !== undefined) return { $ref: PLACE + id };
  if (schema instanceof z.ZodUnion) {
    return { anyOf: schema.options.map((option) => toJsonSchema(option as z.ZodType)) };
  }
  return tidy(z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }));
}

/**
 * As it is sent, and not what becomes of it when it is parsed: what is left out may be, and what is
 * added one day is no mistake.
 */
function convert(registry: typeof NAMES): { schemas: Record<string, JsonSchema> } {
  return z.toJSONSchema(registry, {
    io: "input",
    unrepresentable: "any",
    uri: (id) => PLACE + id,
  }) as { schemas: Record<string, JsonSchema> };
}

/** Says the same in fewer words, in those that generators of clients understand. */
export function tidy({ $schema: _, $id: __, ...schema }: JsonSchema): JsonSchema {
  const { pattern, ...rest } = schema;
  // The pattern of a date or a UUID is a screen of regular expression that `format` says better.
  const kept = "format" in schema || pattern === undefined ? rest : schema;
  const members = Object.entries(kept).map(([key, value]) => [key, tidyMember(key, value)]);
  return orNull(Object.fromEntries(members) as JsonSchema);
}

/** Members that are no schemas, whatever they look like. */
const DATA: ReadonlySet<string> = new Set(["const", "default", "enum", "example", "examples"]);

function tidyMember(key: string, value: unknown): unknown {
  if (DATA.has(key) || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => tidyMember("", each));
  if (key !== "properties") return tidy(value as JsonSchema);
  // By names, and one may be that of a keyword.
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [name, tidyMember("", each)]),
  );
}

/** `anyOf: [a string, null]` as `type: [string, null]`. */
function orNull({ anyOf, ...rest }: JsonSchema): JsonSchema {
  if (!Array.isArray(anyOf)) return rest;
  const [first, second] = anyOf as JsonSchema[];
  const isOrNull = anyOf.length === 2 && second?.["type"] === "null";
  if (!first || !isOrNull || first["type"] === undefined || "enum" in first || "const" in first) {
    return { anyOf, ...rest };
  }
  return { ...first, type: [...new Set([first["type"], "null"].flat())], ...rest };
}
