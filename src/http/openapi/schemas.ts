import { zodToOpenAPIRegistry } from "@asteasolutions/zod-to-openapi";
import type { z } from "zod";
import { callbackSchema } from "../../protocol/callback.ts";
import { createJobSchema, jobSchema } from "../../protocol/job.ts";
import { jsonObjectSchema, jsonSchema } from "../../protocol/json.ts";

/** A schema under a name of its own in the description. */
export type SchemaDescription = {
  readonly name: string;
  readonly schema: z.ZodType;
  readonly description: string;
  /** By the path of the field, such as `credits.charged`. */
  readonly fields: Readonly<Record<string, string>>;
};

/** The text of each field, and of whatever is nested in one. */
export type FieldTexts<Shape> = Readonly<Record<keyof Shape & string, string>> &
  Readonly<Record<`${string}.${string}`, string>>;

/** What is looked at of a generated schema. */
type Schema = { description?: string; properties?: Record<string, Schema>; items?: Schema };

/** Describes an object, each of its fields; whoever adds a field to it has to say what it is. */
export function describe<Shape extends z.core.$ZodShape>(
  name: string,
  schema: z.ZodObject<Shape>,
  description: string,
  fields: FieldTexts<Shape>,
): SchemaDescription {
  return describeAny(name, schema, description, fields);
}

/** The same for what is no plain object. */
export function describeAny(
  name: string,
  schema: z.ZodType,
  description: string,
  fields: Readonly<Record<string, string>> = {},
): SchemaDescription {
  return { name, schema, description, fields };
}

/**
 * Gives the schemas their names. The registry is the generator's own memory of schemas; its other
 * door, `.openapi()`, names a copy, and what holds the original would not refer to it.
 */
export function nameSchemas(schemas: readonly SchemaDescription[]): void {
  // Custom checks, of which the generator cannot know what they let pass.
  zodToOpenAPIRegistry.add(jsonSchema, {
    type: ["string", "number", "boolean", "object", "array", "null"],
  });
  zodToOpenAPIRegistry.add(jsonObjectSchema, { type: "object" });
  zodToOpenAPIRegistry.add(callbackSchema.in, { type: "object" });
  // What is said here is the whole truth to the generator, which else forgets that it may be null.
  for (const { metadata } of [jobSchema.shape, createJobSchema.shape]) {
    zodToOpenAPIRegistry.add(metadata, { type: ["object", "null"] });
  }
  for (const { name, schema, description } of schemas) {
    zodToOpenAPIRegistry.add(schema, { _internal: { refId: name }, description });
  }
}

/** Writes the texts of the fields into the generated schemas. */
export function describeFields(
  generated: Record<string, unknown>,
  schemas: readonly SchemaDescription[],
): void {
  for (const { name, fields } of schemas) {
    for (const [path, text] of Object.entries(fields)) {
      const field = findField(generated[name] as Schema, path.split("."));
      if (!field) throw new TypeError(`${name} has no field ${path}`);
      field.description = text;
    }
  }
}

function findField(schema: Schema | undefined, path: readonly string[]): Schema | undefined {
  const [name, ...rest] = path;
  if (name === undefined || !schema) return schema;
  return findField((schema.properties ?? schema.items?.properties)?.[name], rest);
}
