import type { ScopeWalk } from "./scope.ts";
import { isBound, type Snapshot } from "./snapshot.ts";

/** Longer, or with other bytes, a Last-Event-ID costs browsers a CORS preflight (Fetch, 2.2.2). */
const EVENT_LENGTH = 64;

/**
 * Of a long poll's cursor, which goes into a URL: no proxy minds this much, and a thousand
 * transactions in flight fit.
 */
export const POLL_LENGTH = 2_048;

/**
 * The id of an event on a stream over many jobs: the feed's snapshot, as
 * `<epoch>-<xmin>.<xmax - xmin>.<xip - xmin>.<xip - the xip before>...` in base 36. The epoch names
 * the database, since a snapshot means nothing to another one.
 *
 * Of too many transactions in flight those that fit are kept, and what began with the next one or
 * later counts as unseen: that can repeat a few changes, and cannot miss one.
 */
export function formatCursor(
  epoch: string,
  snapshot: Snapshot,
  maxLength: number = EVENT_LENGTH,
): string {
  const whole = write(epoch, snapshot);
  if (whole.length <= maxLength) return whole;
  const { xmin, xmax, xip } = snapshot;
  let length = write(epoch, { xmin, xmax, xip: [] }).length;
  const end = xip.findIndex((xid, index) => {
    length += 1 + (xid - (xip[index - 1] ?? xmin)).toString(36).length;
    return length > maxLength;
  });
  return write(epoch, { xmin, xmax: xip[end] ?? xmax, xip: xip.slice(0, end) });
}

function write(epoch: string, { xmin, xmax, xip }: Snapshot): string {
  const steps = xip.map((xid, index) => xid - (xip[index - 1] ?? xmin));
  const parts = [xmin, xmax - xmin, ...steps];
  return `${epoch}-${parts.map((part) => part.toString(36)).join(".")}`;
}

/** The snapshot that a cursor stands for; undefined when it is malformed or of another epoch. */
export function parseCursor(epoch: string, cursor: string): Snapshot | undefined {
  if (cursor.length > POLL_LENGTH || !/^[0-9a-z]+-[0-9a-z]+(\.[0-9a-z]+)+$/.test(cursor)) return;
  const [itsEpoch, snapshot = ""] = cursor.split("-");
  if (itsEpoch !== epoch) return;
  const [xmin = 0, width = 0, ...steps] = snapshot
    .split(".")
    .map((part) => Number.parseInt(part, 36));
  let last = xmin;
  const xip = steps.map((step) => {
    last += step;
    return last;
  });
  const parsed = { xmin, xmax: xmin + width, xip };
  return isSnapshot(parsed) ? parsed : undefined;
}

/** Whether PostgreSQL would read it: anybody can make up a cursor. */
function isSnapshot({ xmin, xmax, xip }: Snapshot): boolean {
  const isAscending = xip.every((xid, index) => index === 0 || xid > (xip[index - 1] ?? 0));
  return isBound(xmin) && isBound(xmax) && isAscending && (xip.at(-1) ?? 0) < xmax;
}

/** A job's id, and its version; and a job's creation as PostgreSQL writes it, and its id. */
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;
const VERSION = /^\d{1,15}$/;
const MOMENT =
  /^(\d{4,6})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3])(:[0-5]\d){2}(\.\d{1,6})?\+00( BC)?$/;

/** The last whole years of timestamptz; in those before Christ it begins with November 4714. */
const LAST_YEAR = 294_275;
const LAST_YEAR_BC = 4_713;

/** No walk of ours is longer: two snapshots and a position. */
const MAX_WALK_LENGTH = 2 * POLL_LENGTH + 300;

/** Stands for the snapshot of who had seen nothing before. */
const NOTHING = "0";

/**
 * The cursor of a long poll whose answer was cut because it got too large: where its walk goes on, as
 * `<snapshot>-<snapshot of before>-<position>`, the position in hexadecimal.
 */
export function formatWalk(epoch: string, { snapshot, since, after }: ScopeWalk): string {
  const before = since ? formatCursor(epoch, since, POLL_LENGTH).slice(epoch.length + 1) : NOTHING;
  return `${formatCursor(epoch, snapshot, POLL_LENGTH)}-${before}-${toHex(after.join("|"))}`;
}

/** Undefined when it is malformed, of another epoch, or no cut answer's cursor. */
export function parseWalk(epoch: string, cursor: string): ScopeWalk | undefined {
  if (cursor.length > MAX_WALK_LENGTH) return;
  const [itsEpoch = "", end = "", before = "", position = "", ...rest] = cursor.split("-");
  if (position === "" || rest.length > 0) return;
  const snapshot = parseCursor(epoch, `${itsEpoch}-${end}`);
  const since = before === NOTHING ? undefined : parseCursor(epoch, `${itsEpoch}-${before}`);
  if (!snapshot || (before !== NOTHING && !since)) return;
  const [first = "", second = "", ...others] = fromHex(position).split("|");
  const isPosition = since
    ? UUID.test(first) && VERSION.test(second)
    : isMoment(first) && UUID.test(second);
  return isPosition && others.length === 0
    ? { snapshot, since, after: [first, second] }
    : undefined;
}

/** Whether PostgreSQL would read it as a timestamptz. */
function isMoment(text: string): boolean {
  if (text === "infinity" || text === "-infinity") return true;
  const [, year = "", month, day, , , , bc] = MOMENT.exec(text) ?? [];
  if (year === "") return false;
  if (Number(year) < 1 || Number(year) > (bc ? LAST_YEAR_BC : LAST_YEAR)) return false;
  // Astronomers have a year 0, historians do not; and leap years come again every 400 years.
  const leap = bc ? 4_800 - Number(year) + 1 : Number(year);
  const days = new Date(Date.UTC(2_000 + (leap % 400), Number(month), 0)).getUTCDate();
  return Number(day) <= days;
}

/** Of ASCII. */
function toHex(text: string): string {
  return Array.from(text, (char) => char.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

function fromHex(hex: string): string {
  return hex.replace(/[\da-f]{2}/g, (code) => String.fromCharCode(Number.parseInt(code, 16)));
}
