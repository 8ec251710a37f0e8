import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Request, Response } from "express";
import { JobcastError } from "../errors.ts";
import { type ApiDescription, createDescription } from "./openapi/document.ts";
import type { Resource } from "./operation.ts";
import type { Docs } from "./parts.ts";

/**
 * What draws the page. Scalar's middleware would have browsers fetch it from a CDN, which an
 * installation without internet cannot reach and which could send anything. The middleware for
 * Fastify of the same makers brings it along as a file.
 */
export const SCRIPT = "scalar-api-reference.js";

/** The page, with nothing in it that leads elsewhere, and what it may do. */
type Page = { readonly html: string; readonly policy: string };

/** The API for programs, and the same for people. */
export function createDocs(resources: readonly Resource[]): Docs {
  // Made when it is first asked for: most processes are never asked.
  let description: ApiDescription | undefined;
  const page = createPageLoader();
  return {
    describe(url) {
      description ??= createDescription(resources);
      return { ...description, servers: [{ url }] };
    },
    async sendPage(req, res) {
      // With a slash the page would look for its parts one folder too deep.
      if (req.path.endsWith("/")) return res.redirect(308, "../docs");
      const { html, policy } = await page();
      res
        .set({ "Cache-Control": "no-cache", "Content-Security-Policy": policy })
        .type("html")
        .send(html);
    },
    sendScript: createScriptSender(),
  };
}

function createPageLoader(): () => Promise<Page> {
  let page: Promise<Page> | undefined;
  return () => {
    page ??= renderPage().catch((error: unknown) => {
      page = undefined;
      throw error;
    });
    return page;
  };
}

async function renderPage(): Promise<Page> {
  const { apiReference } = await import("@scalar/express-api-reference").catch(refuse);
  let html = "";
  const res = {
    type: () => res,
    send: (text: string) => {
      html = text;
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
  return { html, policy: contentSecurityPolicy(html) };
}

/** Fourteen megabytes that most who install the package never look at: they are asked for. */
function refuse(cause: unknown): never {
  throw new JobcastError(
    "not_found",
    'The page needs two more packages: "npm install @scalar/express-api-reference @scalar/fastify-api-reference". /openapi.json says the same for programs.',
    { cause },
  );
}

function scriptFile(): string {
  try {
    const middleware = createRequire(import.meta.url).resolve("@scalar/fastify-api-reference");
    return join(dirname(middleware), "js/standalone.js");
  } catch (error) {
    return refuse(error);
  }
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
    reading ??= readFile(scriptFile());
    if (!req.acceptsEncodings("gzip")) {
      res.send(await reading);
      return;
    }
    packing ??= reading.then((script) => promisify(gzip)(script));
    res.set("Content-Encoding", "gzip").send(await packing);
  };
}
