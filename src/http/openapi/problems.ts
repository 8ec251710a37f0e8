import { type ErrorCode, JobcastError } from "../../errors.ts";
import { problemSchema } from "../../protocol/problem.ts";
import type { Operation } from "../operation.ts";
import { PROBLEM_STATUS, RETRY_AFTER, toProblem } from "../problem.ts";
import { toJsonSchema } from "./json-schemas.ts";
import { PROBLEM_TEXTS } from "./problem-texts.ts";

/** Every code that an operation may answer with, those included that nobody has to list. */
export function codesOf(operation: Operation): ErrorCode[] {
  const { access, body, query, reads, headers, problems, method } = operation;
  const codes: ErrorCode[] = [...problems];
  if (access !== "open") codes.push("unauthenticated", "database_unavailable", "internal");
  if (access !== "open" && access !== "provider") codes.push("keys_unavailable");
  const isStream = typeof access !== "string" && access.isStream;
  if (isStream || (access !== "provider" && method !== "get")) codes.push("origin_not_allowed");
  if (typeof access !== "string" && !isStream) codes.push("insufficient_scope");
  if (body) codes.push("invalid_json", "payload_too_large");
  if (body && access !== "provider") codes.push("unsupported_media_type");
  if (body || query || reads || headers) codes.push("invalid_request");
  return [...new Set(codes)];
}

/** The codes by their status, ascending: OpenAPI knows one answer for each. */
export function byStatus(codes: readonly ErrorCode[]): ReadonlyMap<number, readonly ErrorCode[]> {
  const known = Object.keys(PROBLEM_TEXTS) as ErrorCode[];
  const statuses = [...new Set(codes.map((code) => PROBLEM_STATUS[code]))].sort((a, b) => a - b);
  const codesAt = (status: number) =>
    known.filter((code) => codes.includes(code) && PROBLEM_STATUS[code] === status);
  return new Map(statuses.map((status) => [status, codesAt(status)]));
}

/** The name under which operations share the answer for these codes. */
export function answerName(codes: readonly ErrorCode[]): string {
  return codes.join("-or-");
}

/** What an operation answers when one of these codes, which have one status, is the reason. */
export function problemAnswer(codes: readonly ErrorCode[]) {
  const lines = codes.map((code) => `\`${code}\`: ${PROBLEM_TEXTS[code].when}.`);
  return {
    description: lines.length === 1 ? lines.join("") : lines.map((line) => `- ${line}`).join("\n"),
    ...(codes.some((code) => RETRY_AFTER[code]) && { headers: RETRY_AFTER_HEADER }),
    content: {
      "application/problem+json": {
        schema: toJsonSchema(problemSchema),
        examples: Object.fromEntries(
          codes.map((code) => [code, { $ref: `#/components/examples/${code}` }]),
        ),
      },
    },
  };
}

export function problemExample(code: ErrorCode) {
  const { detail, members, when } = PROBLEM_TEXTS[code];
  return { summary: when, value: { ...toProblem(new JobcastError(code, detail)), ...members } };
}

const RETRY_AFTER_HEADER = {
  "Retry-After": {
    description: "Seconds after which to come back; jittered, so that not all do so at once.",
    schema: { type: "integer" as const, minimum: 1 },
    example: 4,
  },
};
