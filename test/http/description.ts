import { z } from "zod";
import type { StreamEvent } from "../support/event-stream.ts";

type JsonSchema = Parameters<typeof z.fromJSONSchema>[0];

/** What tests look at of an OpenAPI document, with its references followed. */
export type Description = {
  readonly operations: readonly Operation[];
  readonly schemas: Readonly<Record<string, Schema>>;
  /** What is wrong with a value that a schema describes; nothing when all is as described. */
  mistakesOf(schema: Schema, value: unknown): string[];
};

export type Schema = { readonly [keyword: string]: unknown };

export type Media = {
  readonly schema: Schema;
  readonly examples: Readonly<Record<string, { readonly value: unknown }>>;
};

export type Parameter = {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description: string;
  readonly schema: Schema;
  readonly example?: string | number;
};

export type Answer = {
  readonly description: string;
  readonly content?: Readonly<Record<string, Media>>;
  readonly headers?: Readonly<Record<string, { readonly description: string }>>;
};

export type Operation = {
  /** In upper case. */
  readonly method: string;
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters: readonly Parameter[];
  readonly requestBody?: {
    readonly required: boolean;
    readonly content: Readonly<Record<string, Media>>;
  };
  readonly responses: Readonly<Record<string, Answer>>;
};

// biome-ignore lint/suspicious/noExplicitAny: a document that came over the wire
type Document = any;

export function readDescription(document: Document): Description {
  const schemas: Record<string, Schema> = document.components.schemas;
  // Whatever the schemas do not name is a mistake here, though a client should not mind it.
  const strict = onlyNamed(JSON.parse(withoutPaths(JSON.stringify(schemas)))) as Schema;
  const follow = (value: Document): Document => {
    if (typeof value?.$ref !== "string") return value;
    const [, ...path] = value.$ref.split("/");
    const found = path.reduce((part: Document, key: string) => part?.[key], document);
    if (found === undefined) throw new Error(`${value.$ref} leads nowhere`);
    return follow(found);
  };
  const followEach = (values: Document): Document =>
    Object.fromEntries(Object.entries(values ?? {}).map(([key, each]) => [key, follow(each)]));
  const followContent = (content: Document): Document =>
    Object.fromEntries(
      Object.entries<Document>(content).map(([type, { schema, examples }]) => [
        type,
        { schema, examples: followEach(examples) },
      ]),
    );
  const followAnswers = (answers: Document): Document =>
    Object.fromEntries(
      Object.entries<Document>(followEach(answers)).map(([status, { content, ...answer }]) => [
        status,
        { ...answer, ...(content && { content: followContent(content) }) },
      ]),
    );

  const operations = Object.entries<Document>(document.paths).flatMap(([path, methods]) =>
    Object.entries<Document>(methods).map(([method, operation]) => ({
      ...operation,
      method: method.toUpperCase(),
      path,
      parameters: operation.parameters ?? [],
      responses: followAnswers(operation.responses),
    })),
  );
  return {
    operations,
    schemas,
    mistakesOf(schema, value) {
      const own = onlyNamed(JSON.parse(withoutPaths(JSON.stringify(schema)))) as Schema;
      const { error } = z.fromJSONSchema({ ...own, $defs: strict } as JsonSchema).safeParse(value);
      return (error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);
    },
  };
}

function withoutPaths(text: string): string {
  return text.replaceAll("#/components/schemas/", "#/$defs/");
}

/** Closes every object that does not say that it is open. */
function onlyNamed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(onlyNamed);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, onlyNamed(member)]),
  );
  if (!("properties" in members) || "additionalProperties" in members) return members;
  return { ...members, additionalProperties: false };
}

const EVENT_SCHEMAS: Readonly<Record<string, readonly string[]>> = {
  status: ["StatusEvent"],
  batch: ["BatchEvent"],
  reset: ["StatusEvent", "BatchEvent", "Reset"],
  ready: ["Ready"],
  ping: ["Ping"],
  close: ["Close"],
};

/** What is wrong with an event of a stream, by the schemas of its data. */
export function mistakesOfEvent(
  { mistakesOf }: Description,
  { type, data }: StreamEvent,
): string[] {
  const anyOf = (EVENT_SCHEMAS[type] ?? []).map((name) => ({
    $ref: `#/components/schemas/${name}`,
  }));
  return anyOf.length === 0 ? [`unknown event ${type}`] : mistakesOf({ anyOf }, JSON.parse(data));
}
