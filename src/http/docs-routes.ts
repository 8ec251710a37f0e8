import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { apiReference } from "@scalar/express-api-reference";
import express, { type Request, type Response, type Router } from "express";
import { createDescription } from "./openapi/document.ts";

/**
 * What draws the page. Scalar's middleware would have browsers fetch it from a CDN, which an
 * installation without internet cannot reach and which could send anything; and its package brings
 * 300 others along. So it is kept here, in the version that the middleware was made with.
 */
const SCRIPT = "scalar-api-reference-1.46.4.js";
const SCRIPT_FILE = new URL(`../../assets/${SCRIPT}.gz`, import.meta.url);

export type DocsRouterParts = {
  /** Where callers reach this server, without a slash at the end. Unset: where they found it. */
  readonly publicUrl?: string | undefined;
};

/** `GET /openapi.json`, the API for programs, and `GET /docs`, the same for people. */
export function createDocsRouter({ publicUrl }: DocsRouterParts): Router {
  // Made when it is first asked for: most processes are never asked.
  let description: ReturnType<typeof createDescription> | undefined;
  const page = renderPage();
  const policy = contentSecurityPolicy(page);

  const router = express.Router();
  router.get("/openapi.json", (req, res) => {
    description ??= createDescription();
    const servers = [{ url: publicUrl ?? (req.baseUrl || "/") }];
    res.set("Cache-Control", "no-cache").json({ ...description, servers });
  });

  router.get("/docs", (req, res) => {
    // With a slash the page would look for its parts one folder too deep.
    if (req.path.endsWith("/")) return res.redirect(308, "../docs");
    return res
      .set({ "Cache-Control": "no-cache", "Content-Security-Policy": policy })
      .type("html")
      .send(page);
  });

  router.get(`/docs/${SCRIPT}`, sendScript);
  return router;
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

async function sendScript(req: Request, res: Response): Promise<void> {
  res.type("js").vary("Accept-Encoding");
  res.set("Cache-Control", "public, max-age=31536000, immutable");
  const script = await readFile(SCRIPT_FILE);
  if (!req.acceptsEncodings("gzip")) res.send(await promisify(gunzip)(script));
  else res.set("Content-Encoding", "gzip").send(script);
}
