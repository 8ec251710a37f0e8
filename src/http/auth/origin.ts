import type { Request } from "express";

export type OriginOptions = {
  readonly publicUrl?: string | undefined;
  readonly corsOrigins: readonly string[];
};

/**
 * Whether a request may come with a cookie: from our own pages, from an origin that the operator
 * named, or from no page at all.
 *
 * A browser sends cookies with what any page of any site asks for. Such a page cannot read the
 * answer, but it could cancel a job, or open streams until their owner has none left.
 */
export function isTrustedOrigin(req: Request, { publicUrl, corsOrigins }: OriginOptions): boolean {
  const site = req.headers["sec-fetch-site"];
  // Pages cannot set this header. "none" is a person who typed the address.
  if (site === "same-origin" || site === "none") return true;
  const { origin } = req.headers;
  // Without either it is no browser, or one from before 2023 (Safari 16.3) that reads a URL of
  // its own origin: for another origin's it would have said Origin, unless it was an <img>.
  if (origin === undefined) return site === undefined;
  if (corsOrigins.includes(origin)) return true;
  if (publicUrl !== undefined) return origin === new URL(publicUrl).origin;
  return origin === `http://${req.headers.host}` || origin === `https://${req.headers.host}`;
}
