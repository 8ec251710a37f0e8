import type { Request } from "express";
import { formatEventId, parseEventId } from "../../change/event-id.ts";
import { lastIdOf } from "./events-request.ts";

/**
 * The version that the client saw last, and the tag of its row unless somebody typed it; `after` is
 * null on a first connect.
 */
export type LastVersion = {
  readonly after: number | null;
  readonly tag: string | undefined;
  readonly isMalformed: boolean;
};

export function lastVersionOf(req: Request): LastVersion {
  const text = lastIdOf(req);
  const id = text === undefined ? undefined : parseEventId(text);
  return {
    after: id?.version ?? null,
    tag: id?.tag,
    isMalformed: text !== undefined && id === undefined,
  };
}

/**
 * Whether the client's last id means nothing here: malformed, above the present version, or of a
 * row that is not the one that has this version now.
 * @param tag of the row that has it; null when there is none
 */
export function isUnknown(last: LastVersion, present: number, tag: string | null): boolean {
  if (last.isMalformed) return true;
  if (last.after === null) return false;
  return last.after > present || (last.tag !== undefined && last.tag !== tag);
}

/** The id that a client has which came with this one. */
export function idOfLast({ after, tag }: LastVersion, known: string | null): string | undefined {
  if (after === null) return undefined;
  const its = tag ?? known;
  return its === null ? String(after) : formatEventId(after, its);
}
