import { z } from "zod";
import type { Operation } from "../operation.ts";
import { type JsonSchema, tidy } from "./json-schemas.ts";

/** A parameter of a request, as OpenAPI writes it. */
export type Parameter = {
  readonly name: string;
  readonly in: Place;
  readonly required: boolean;
  readonly description: string;
  readonly schema: JsonSchema;
  readonly example?: unknown;
  readonly style?: "form";
  readonly explode?: boolean;
};

type Place = "path" | "query" | "header";

/** The parameters of an operation: what its schemas are given as `meta` is what they are told by. */
export function parametersOf({ params, query, headers, reads }: Operation): Parameter[] {
  return [
    ...parametersIn("path", params),
    ...parametersIn("query", reads),
    ...parametersIn("query", query),
    ...parametersIn("header", headers),
  ];
}

function parametersIn(place: Place, schema: z.ZodObject | undefined): Parameter[] {
  return Object.entries(schema?.shape ?? {}).map(([name, each]) =>
    toParameter(place, name, each as z.ZodType),
  );
}

function toParameter(place: Place, name: string, zod: z.ZodType): Parameter {
  const { description = "", example, ...schema } = toSchema(zod);
  return {
    name,
    in: place,
    required: place === "path" || !zod.safeParse(undefined).success,
    description: String(description),
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
function toSchema(zod: z.ZodType): JsonSchema {
  return tidy(convert(zod));
}

function convert(zod: z.ZodType): JsonSchema {
  try {
    return z.toJSONSchema(zod, { io: "output" }) as JsonSchema;
  } catch {
    // A transformation, which JSON Schema cannot say.
    return z.toJSONSchema(zod, { io: "input" }) as JsonSchema;
  }
}
