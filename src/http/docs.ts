import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { apiReference } from "@scalar/express-api-reference";
import type { Request, Response } from "express";
import { type ApiDescription, createDescription } from "./openapi/document.ts";
import type { Resource } from "./operation.ts";
import type { Docs } from "./parts.ts";

/**
 * What draws the page. Scalar's middleware would have browsers fetch it from a CDN, which an
 * installation without internet cannot reach and which could send anything. The middleware for
 * Fastify of the same makers brings it along as a file.
 */
export const SCRIPT = "scalar-api-reference.js";
const SCRIPT_FILE = join(
  dirname(createRequire(import.meta.url).resolve("@scalar/fastify-api-reference")),
  "js/standalone.js",
);

/** The API for programs, and the same for people. */
export function createDocs(resources: readonly Resource[]): Docs {
  // Made when it is first asked for: most processes are never asked.
  let description: ApiDescription | undefined;
  const page = renderPage();
  const policy = contentSecurityPolicy(page);
  return {
    describe(url) {
      description ??= createDescription(resources);
      return { ...description, servers: [{ url }] };
    },
    sendPage(req, res) {
      // With a slash the page would look for its parts one folder too deep.
      if (req.path.endsWith("/")) return res.redirect(308, "../docs");
      res
        .set({ "Cache-Control": "no-cache", "Content-Security-Policy": policy })
        .type("html")
        .send(page);
    },
    sendScript: createScriptSender(),
  };
}

/** The page, with nothing in it that leads elsewhere. */
function renderPage(): string {
  let page = "";
  const res = {
    type: () => res,
    send: (html: string) => {
      page = html;
    },
  };
  const render = apiReference({
    url: "openapi.json",
    cdn: `docs/${SCRIPT}`,
    pageTitle: "jobcast API",
    withDefaultFonts: false,
    telemetry: false,
    agent: { disabled: true }, // a chat, which asks its makers' servers
    authentication: { preferredSecurityScheme: "bearer" },
    hideClientButton: true,
    showDeveloperTools: "never",
    defaultOpenAllTags: true,
    defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  });
  render({} as Request<never>, res as unknown as Response, () => undefined);
  return page;
}

/** Lets the page run its two scripts and talk to us. Its styles are written by the script. */
function contentSecurityPolicy(page: string): string {
  const inline = [...page.matchAll(/<script type="text\/javascript">(.*?)<\/script>/gs)];
  const hashes = inline.map(([, script = ""]) => {
    return `'sha256-${createHash("sha256").update(script).digest("base64")}'`;
  });
  return [
    "default-src 'none'",
    `script-src 'self' ${hashes.join(" ")}`,
    "style-src 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

/** Sends it packed, once it was packed: a megabyte instead of four. */
function createScriptSender(): Docs["sendScript"] {
  let reading: Promise<Buffer> | undefined;
  let packing: Promise<Buffer> | undefined;
  return async (req, res) => {
    res.type("js").vary("Accept-Encoding").set("Cache-Control", "public, max-age=86400");
    // From memory: a file stays open for as long as its reader takes.
    reading ??= readFile(SCRIPT_FILE);
    if (!req.acceptsEncodings("gzip")) {
      res.send(await reading);
      return;
    }
    packing ??= reading.then((script) => promisify(gzip)(script));
    res.set("Content-Encoding", "gzip").send(await packing);
  };
}
