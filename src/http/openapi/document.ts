import {
  OpenAPIRegistry,
  OpenApiGeneratorV31,
  type ResponseConfig,
  type RouteConfig,
} from "@asteasolutions/zod-to-openapi";
import { ERROR_CODES } from "../../errors.ts";
import type { Answer, Content, Examples, Operation, Resource } from "../operation.ts";
import { INTRODUCTION } from "./introduction.ts";
import {
  answerName,
  byStatus,
  codesOf,
  problem,
  problemAnswer,
  problemExample,
} from "./problems.ts";
import { describeFields, nameSchemas } from "./schemas.ts";
import { SECURITY_SCHEMES, scopeText, securityOf } from "./security.ts";

export type ApiDescription = ReturnType<OpenApiGeneratorV31["generateDocument"]>;

/**
 * The whole API as OpenAPI 3.1, made from the operations that are served, with the schemas that
 * requests are parsed with.
 */
export function createDescription(resources: readonly Resource[]): ApiDescription {
  const schemas = [problem, ...resources.flatMap((resource) => resource.schemas)];
  nameSchemas(schemas);
  const registry = new OpenAPIRegistry();
  for (const [name, scheme] of Object.entries(SECURITY_SCHEMES)) {
    registry.registerComponent("securitySchemes", name, scheme);
  }
  for (const code of ERROR_CODES)
    registry.registerComponent("examples", code, problemExample(code));
  for (const { name, operations } of resources) {
    for (const operation of operations) {
      if (!operation.isHidden) registry.registerPath(toRoute(registry, name, operation));
    }
  }
  const named = schemas.map(({ schema }) => ({ type: "schema" as const, schema }));
  const description = new OpenApiGeneratorV31([...named, ...registry.definitions], {
    sortComponents: "alphabetically",
  }).generateDocument({
    openapi: "3.1.0",
    info: { title: "jobcast", version: "1", description: INTRODUCTION },
    tags: resources.map(({ name, description: text }) => ({ name, description: text })),
  });
  describeFields(description.components?.schemas ?? {}, schemas);
  return description;
}

function toRoute(registry: OpenAPIRegistry, tag: string, operation: Operation): RouteConfig {
  const { id, method, path, summary, access, query, body, answers } = operation;
  const parameters = [...(operation.parameters ?? []), ...(query?.parameters ?? [])];
  return {
    method,
    path,
    operationId: id,
    tags: [tag],
    summary,
    description: operation.description + scopeText(access),
    security: securityOf(access),
    ...(parameters.length > 0 && { parameters }),
    ...(body && {
      request: {
        body: { required: body.required, content: { "application/json": toContent(body) } },
      },
    }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, answer]) => [status, toResponse(answer)]),
      ),
      ...toProblemResponses(registry, operation),
    },
  };
}

function toResponse({ description, content = {}, headers }: Answer): ResponseConfig {
  const contents = Object.entries(content).map(([type, each]) => [type, toContent(each)]);
  return {
    description,
    ...(contents.length > 0 && { content: Object.fromEntries(contents) }),
    ...(headers && {
      headers: Object.fromEntries(
        Object.entries(headers).map(([name, each]) => [
          name,
          { ...each, schema: { type: "string" } },
        ]),
      ),
    }),
  };
}

function toContent({ schema, examples }: Content) {
  return { schema, examples: toExamples(examples) };
}

function toExamples(examples: Examples) {
  return Object.fromEntries(Object.entries(examples).map(([name, value]) => [name, { value }]));
}

function toProblemResponses(registry: OpenAPIRegistry, operation: Operation) {
  const responses: Record<string, { $ref: string }> = {};
  for (const [status, codes] of byStatus(codesOf(operation))) {
    const name = answerName(codes);
    responses[status] = registry.registerComponent("responses", name, problemAnswer(codes)).ref;
  }
  return responses;
}
