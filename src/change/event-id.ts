/**
 * The id of an event of one job or one batch: its version, and a tag of the very row that it was
 * read from. After a restore, or in a copy of the database, another row has the same version.
 */

/** 15 digits are below 2^53 and above every version. A version alone is what people type. */
const EVENT_ID = /^(\d{1,15})(?:-([\da-f]{6}))?$/;

export type EventId = {
  readonly version: number;
  /** Undefined: whichever row has the version. */
  readonly tag: string | undefined;
};

export function formatEventId(version: number, tag: string): string {
  return `${version}-${tag}`;
}

/** Undefined when it is malformed. */
export function parseEventId(id: string): EventId | undefined {
  const [, version, tag] = EVENT_ID.exec(id) ?? [];
  return version === undefined ? undefined : { version: Number(version), tag };
}
