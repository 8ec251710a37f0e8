/*
 * Text that PostgreSQL cannot hold: NUL, and half of a surrogate pair.
 * https://www.postgresql.org/docs/current/datatype-json.html (\u0000 and surrogates)
 */

/** [Unicode] What stands where something could not be represented. */
const REPLACEMENT = "\\ufffd";

/** An escape of JSON; of a surrogate pair both halves, so that what is left over is a single one. */
const ESCAPES = /\\(?:u(d[89ab][\da-f]{2})\\u(d[c-f][\da-f]{2})|u([\da-f]{4})|.)/gi;

export function isStorable(text: string): boolean {
  return !text.includes("\u0000") && text.isWellFormed();
}

/**
 * JSON text with a replacement character for each character that PostgreSQL cannot hold. What ends a
 * job must not be lost for one of them.
 *
 * @param json valid JSON, decoded from UTF-8: such characters are in it as escapes only
 */
export function toStorable(json: string): string {
  return json.replace(ESCAPES, (written, high?: string, _low?: string, single?: string) => {
    const isBad = high === undefined && single !== undefined && /^(0000|d[89a-f]..)$/i.test(single);
    return isBad ? REPLACEMENT : written;
  });
}
