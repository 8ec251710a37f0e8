import leven from "leven";
import { z } from "zod";

/** Letters that one gets wrong, at most, for each so many that there are. */
const LETTERS_FOR_ONE_MISTAKE = 3;

/** The key that somebody may have meant by one that is not known there, with other letters or none. */
export function meantBy(unknown: string, known: readonly string[]): string | undefined {
  const wanted = plain(unknown);
  const [closest] = known
    .map((key) => ({ key, distance: leven(plain(key), wanted) }))
    .filter(({ key, distance }) => distance <= Math.round(key.length / LETTERS_FOR_ONE_MISTAKE))
    .sort((a, b) => a.distance - b.distance);
  return closest?.key;
}

/** The keys that a schema knows at a path of its input. */
export function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let found: readonly z.ZodType[] = choices(schema);
  for (const step of path) found = found.flatMap((each) => choices(memberOf(each, step)));
  return found.flatMap((each) => (each instanceof z.ZodObject ? Object.keys(each.shape) : []));
}

/** `owner_id` and `OWNER-ID` are `ownerId` in the letters of other languages. */
function plain(key: string): string {
  return key.replace(/[_\-\s]/g, "").toLowerCase();
}

function memberOf(schema: z.ZodType, step: PropertyKey): z.ZodType | undefined {
  if (schema instanceof z.ZodObject) return schema.shape[String(step)] as z.ZodType | undefined;
  if (schema instanceof z.ZodArray) return schema.element as z.ZodType;
  return undefined;
}

/** What a schema is behind its wrappers; of a union all that it may be. */
function choices(schema: z.ZodType | undefined): readonly z.ZodType[] {
  if (schema instanceof z.ZodPipe) return choices(schema.in as z.ZodType);
  if (schema instanceof z.ZodUnion) return (schema.options as z.ZodType[]).flatMap(choices);
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  ) {
    return choices(schema.unwrap() as z.ZodType);
  }
  return schema ? [schema] : [];
}
