import { z } from "zod";

export type ParameterDescription = {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description: string;
  readonly schema: Readonly<Record<string, unknown>>;
  readonly example?: unknown;
  readonly style?: "form";
  readonly explode?: boolean;
};

/** What a parameter is for, and a value to try it with. */
export type ParameterText = readonly [description: string, example?: string | number];

/** The id in a path. */
export function pathId(name: string, description: string, example: string): ParameterDescription {
  return { name, in: "path", required: true, description, schema: toSchema(z.guid()), example };
}

/** What a query is parsed with, and what its parameters are for. */
export type QueryDescription<Schema extends z.ZodType = z.ZodType> = {
  readonly schema: Schema;
  readonly parameters: readonly ParameterDescription[];
};

/** A query, by the schema that it is parsed with; no parameter of it may lack its text. */
export function queryOf<Shape extends z.core.$ZodShape, Config extends z.core.$ZodObjectConfig>(
  schema: z.ZodObject<Shape, Config>,
  texts: Readonly<Record<keyof Shape & string, ParameterText>>,
): QueryDescription<z.ZodObject<Shape, Config>> {
  return { schema, parameters: parametersOf(schema, texts) };
}

/** The parameters of a query that its handler reads by itself. */
export function parametersOf<Shape extends z.core.$ZodShape>(
  { shape }: z.ZodObject<Shape>,
  texts: Readonly<Record<keyof Shape & string, ParameterText>>,
): ParameterDescription[] {
  return Object.entries<ParameterText>(texts).map(([name, text]) => {
    const schema = shape[name];
    if (!schema) throw new TypeError(`the query has no parameter ${name}`);
    return toParameter("query", name, schema, text);
  });
}

/** An Idempotency-Key, for the operations that take one. */
export const idempotencyKey = header("Idempotency-Key", z.string().min(1).max(255).optional(), [
  "1 to 255 visible ASCII characters, best a UUID. The same request with the same key is answered as the first one was, and does nothing again; keys belong to the owner.",
  "8e03978e-40d5-43e8-bc93-6894a57f9324",
]);

export function header(name: string, schema: z.ZodType, text: ParameterText): ParameterDescription {
  return toParameter("header", name, schema, text);
}

function toParameter(
  place: "query" | "header",
  name: string,
  zod: z.core.$ZodType,
  [description, example]: ParameterText,
): ParameterDescription {
  const schema = toSchema(zod);
  return {
    name,
    in: place,
    required: !z.safeParse(zod, undefined).success,
    description,
    schema,
    ...(example !== undefined && { example }),
    // One parameter with commas, which every query of ours takes, instead of one for each item.
    ...(schema["type"] === "array" && { style: "form", explode: false }),
  };
}

/**
 * What a parameter means and not the text that carries it: an integer from 1 to 100, and not a
 * string of digits. Where that is no JSON, such as a moment, it is the text after all.
 */
function toSchema(zod: z.core.$ZodType): Record<string, unknown> {
  const { $schema: _, ...schema } = convert(zod);
  return withoutFormatPatterns(schema);
}

function convert(zod: z.core.$ZodType): Record<string, unknown> {
  try {
    return z.toJSONSchema(zod, { io: "output" });
  } catch {
    return z.toJSONSchema(zod, { io: "input" }); // a transformation, which JSON Schema cannot say
  }
}

/** The pattern of a date or a UUID is a screen of regular expression that `format` says better. */
function withoutFormatPatterns(schema: Record<string, unknown>): Record<string, unknown> {
  const { pattern, ...rest } = schema;
  const kept = "format" in schema || pattern === undefined ? rest : schema;
  return Object.fromEntries(
    Object.entries(kept).map(([key, value]) => [key, mapNested(value, withoutFormatPatterns)]),
  );
}

function mapNested(
  value: unknown,
  map: (schema: Record<string, unknown>) => Record<string, unknown>,
): unknown {
  if (Array.isArray(value)) return value.map((each) => mapNested(each, map));
  return typeof value === "object" && value !== null
    ? map(value as Record<string, unknown>)
    : value;
}
