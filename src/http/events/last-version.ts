import type { Request } from "express";
import { lastIdOf } from "./events-request.ts";

/** The version that the client saw last; `after` is null on a first connect. */
export type LastVersion = { readonly after: number | null; readonly isMalformed: boolean };

export function lastVersionOf(req: Request): LastVersion {
  const id = lastIdOf(req);
  if (id === undefined) return { after: null, isMalformed: false };
  // 15 digits are below 2^53 and above every version.
  if (!/^\d{1,15}$/.test(id)) return { after: null, isMalformed: true };
  return { after: Number(id), isMalformed: false };
}

/** Whether the client's last id means nothing here: malformed, or above the present version. */
export function isReset({ after, isMalformed }: LastVersion, present: number): boolean {
  return isMalformed || (after !== null && after > present);
}
