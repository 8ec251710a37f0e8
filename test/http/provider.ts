import { createHmac } from "node:crypto";
import type { CallbackResult } from "../../src/protocol/callback.ts";
import type { TestServer } from "../support/server.ts";

export type Delivered = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: CallbackResult & { code?: string; fields?: { path: string }[] };
};

/** Sends a webhook as a provider does: text and bytes as they are, anything else as JSON. */
export async function deliver(
  server: TestServer,
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Delivered> {
  const response = await fetch(new URL(url, server.url), {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" || body instanceof Buffer ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: JSON.parse(text),
  };
}

export type Signing = {
  readonly id: string;
  readonly body: string;
  /** Base64 without its prefix; several sign one after the other. */
  readonly secrets: readonly string[];
  /** Milliseconds since the epoch. Default: now. */
  readonly at?: number;
};

/** The headers of Standard Webhooks, as the text of the standard says and by none of our code. */
export function signatureHeaders({ id, body, secrets, at = Date.now() }: Signing) {
  const timestamp = String(Math.floor(at / 1000));
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret, "base64");
    return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
  });
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures.join(" "),
  };
}
