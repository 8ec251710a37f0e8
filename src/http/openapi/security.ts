import type { Access } from "../access.ts";

/** A scheme, and the scopes that it needs. */
export type Requirement = Readonly<Record<string, readonly string[]>>;

export const SECURITY_SCHEMES = {
  bearer: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description:
      "`Authorization: Bearer <JWT>`. The token's `sub` is the owner; `scope` holds scopes, separated by spaces. Without any, a caller sees, cancels and retries its own jobs.",
  },
  cookie: {
    type: "apiKey",
    in: "cookie",
    name: "jobcast_token",
    description:
      "The same token in a cookie, for pages of our own origin and of those named in `CORS_ORIGINS`.",
  },
  query: {
    type: "apiKey",
    in: "query",
    name: "access_token",
    description:
      "For streams only: the same token, or better a stream token, in the URL, since `EventSource` cannot send headers. No log shows it.",
  },
  callbackToken: {
    type: "apiKey",
    in: "header",
    name: "X-Callback-Token",
    description: "The token of a job's callback URL, which the job's creation answered with.",
  },
  callbackUrl: {
    type: "apiKey",
    in: "query",
    name: "token",
    description: "The same token, where the callback URL has it.",
  },
  webhookSignature: {
    type: "apiKey",
    in: "header",
    name: "webhook-signature",
    description:
      "A delivery that is signed after Standard Webhooks, with `webhook-id` and `webhook-timestamp`, by a provider whose secret was configured.",
  },
} as const;

/** The requirements of an operation; any one of them is enough. */
export function securityOf(access: Access): Requirement[] {
  if (access === "open") return [];
  if (access === "provider")
    return alternatives(["callbackToken", "callbackUrl", "webhookSignature"]);
  if (access.isStream) return alternatives(["bearer", "cookie", "query"]);
  if (!access.scopes) return alternatives(["bearer", "cookie"]);
  // [OpenAPI 3.1, Security Requirement Object] For schemes other than OAuth 2 these are role names.
  return access.scopes.flatMap((scope) => [{ bearer: [scope] }, { cookie: [scope] }]);
}

/** What the description of an operation says of its scopes, in words. */
export function scopeText(access: Access): string {
  if (typeof access === "string") return "";
  const { scopes, others, ownersMay, isWatched } = access;
  const words = [
    ...(scopes ? [`Needs the scope ${or(scopes)}.`] : []),
    ...(ownersMay === undefined ? [] : [`Owners may ${ownersMay} without.`]),
    ...(isWatched ? ["A stream token is enough for what it may watch."] : []),
    ...(others && others !== scopes ? [`With what is somebody else's: ${or(others)}.`] : []),
  ];
  return words.length === 0 ? "" : `\n\n${words.join(" ")}`;
}

function or(scopes: readonly string[]): string {
  return scopes.map((scope) => `\`${scope}\``).join(" or ");
}

function alternatives(names: readonly (keyof typeof SECURITY_SCHEMES)[]): Requirement[] {
  return names.map((name) => ({ [name]: [] }));
}
