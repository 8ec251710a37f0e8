import { z } from "zod";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 100;

/** A whole number in a query: digits and nothing else. */
export function integerSchema(min: number, max: number) {
  return z
    .string()
    .regex(/^\d+$/, "must be a whole number")
    .transform(Number)
    .pipe(z.int().min(min).max(max));
}

/** Several values in a query: `status=queued&status=failed` and `status=queued,failed` are the same. */
export function severalSchema<Item extends z.ZodType<unknown, string>>(item: Item) {
  return z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat().flatMap((part) => part.split(",")))
    .pipe(z.array(item));
}

export const limitSchema = integerSchema(1, MAX_LIMIT)
  .default(DEFAULT_LIMIT)
  .meta({ description: "How many at most.", example: 20 });

export const cursorSchema = z
  .string()
  .optional()
  .meta({ description: "The `nextCursor` of the page before." });

export const nextCursorSchema = z
  .string()
  .nullable()
  .meta({ description: "The `cursor` of the next page; null at the end." });
