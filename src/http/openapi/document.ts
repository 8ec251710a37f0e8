import { ERROR_CODES } from "../../errors.ts";
import type { Answer, Content, Operation, Resource } from "../operation.ts";
import { INTRODUCTION } from "./introduction.ts";
import { type JsonSchema, namedSchemas, toJsonSchema } from "./json-schemas.ts";
import { type Parameter, parametersOf } from "./parameters.ts";
import { answerName, byStatus, codesOf, problemAnswer, problemExample } from "./problems.ts";
import { type Requirement, SECURITY_SCHEMES, scopeText, securityOf } from "./security.ts";

type Media = { readonly schema: JsonSchema; readonly examples: object };
type Response = {
  readonly description: string;
  readonly headers?: object;
  readonly content?: Readonly<Record<string, Media>>;
};

type OperationObject = {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly security: readonly Requirement[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean; readonly content: object };
  readonly responses: Readonly<Record<string, Response | { readonly $ref: string }>>;
};

/** An OpenAPI document, as far as we write one. */
export type ApiDescription = {
  readonly openapi: "3.1.0";
  readonly info: object;
  readonly tags: readonly object[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: object;
};

/**
 * The whole API as OpenAPI 3.1, made from the operations that are served, with the schemas that
 * requests are parsed with.
 *
 * Not 3.2, whose `itemSchema` would say what the events of a stream are: openapi-python-client 0.29
 * takes no such document ("Only OpenAPI versions 3.1.* are supported"). Redocly, Spectral,
 * openapi-typescript and hey-api take it, and the two generators make no types of `itemSchema`.
 * @see https://spec.openapis.org/oas/v3.1.0
 */
export function createDescription(resources: readonly Resource[]): ApiDescription {
  const shown = resources.map(({ name, operations }) => ({
    tag: name,
    operations: operations.filter(({ isHidden }) => !isHidden),
  }));
  const paths: Record<string, Record<string, OperationObject>> = {};
  for (const { tag, operations } of shown) {
    for (const operation of operations) {
      paths[operation.path] = {
        ...paths[operation.path],
        [operation.method]: toObject(tag, operation),
      };
    }
  }
  const all = shown.flatMap(({ operations }) => operations);
  return {
    openapi: "3.1.0",
    info: {
      title: "jobcast",
      version: "1",
      description: INTRODUCTION,
      license: { name: "MIT", identifier: "MIT" },
    },
    tags: resources.map(({ name, description }) => ({ name, description })),
    paths,
    components: {
      schemas: namedSchemas(),
      responses: Object.fromEntries(
        all
          .flatMap((operation) => [...byStatus(codesOf(operation)).values()])
          .map((codes) => [answerName(codes), problemAnswer(codes)]),
      ),
      examples: Object.fromEntries(ERROR_CODES.map((code) => [code, problemExample(code)])),
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}

function toObject(tag: string, operation: Operation): OperationObject {
  const { id, summary, description, access, body, answers } = operation;
  const parameters = parametersOf(operation);
  return {
    operationId: id,
    tags: [tag],
    summary,
    description: description + scopeText(access),
    security: securityOf(access),
    ...(parameters.length > 0 && { parameters }),
    ...(body && {
      requestBody: { required: body.required, content: { "application/json": toMedia(body) } },
    }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, answer]) => [status, toResponse(answer)]),
      ),
      ...Object.fromEntries(
        [...byStatus(codesOf(operation))].map(([status, codes]) => [
          status,
          { $ref: `#/components/responses/${answerName(codes)}` },
        ]),
      ),
    },
  };
}

function toResponse({ description, content, headers }: Answer): Response {
  return {
    description,
    ...(headers && {
      headers: mapValues(headers, (header) => ({ ...header, schema: { type: "string" } })),
    }),
    ...(content && { content: mapValues(content, toMedia) }),
  };
}

function toMedia({ schema, examples }: Content): Media {
  return { schema: toJsonSchema(schema), examples: mapValues(examples, (value) => ({ value })) };
}

function mapValues<Value, Mapped>(
  members: Readonly<Record<string, Value>>,
  map: (value: Value) => Mapped,
): Record<string, Mapped> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, map(value)]));
}
