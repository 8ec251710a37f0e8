import { z } from "zod";
import { limitSchema } from "./job-list.ts";
import { textSchema } from "./json.ts";

/** What one grant may be, so that no sum of them leaves the numbers that JSON can hold. */
const MAX_GRANT = 2 ** 31 - 1;

const ownerSchema = textSchema(255).min(1);

/** What an owner has to spend; 0 for one that never had any. */
export const creditAccountSchema = z.object({ ownerId: z.string(), balance: z.int().min(0) });

export type CreditAccount = z.infer<typeof creditAccountSchema>;

/** One line of an owner's ledger, which is append-only: `amount` is negative for a charge. */
export const creditEntrySchema = z.object({
  id: z.uuid(),
  ownerId: z.string(),
  /** Null for a grant. The job may be gone: the ledger outlives it. */
  jobId: z.guid().nullable(),
  /** Null for a grant. Each attempt of a job is charged once, and refunded once at most. */
  attempt: z.int().min(1).nullable(),
  kind: z.enum(["charge", "refund", "grant"]),
  amount: z.int(),
  balanceAfter: z.int().min(0),
  createdAt: z.iso.datetime(),
  /** What whoever granted it said of it. */
  reason: z.string().nullable(),
});

export type CreditEntry = z.infer<typeof creditEntrySchema>;

/** The query of `GET /v1/credits`. `owner` defaults to the caller. */
export const creditsQuerySchema = z.strictObject({ owner: ownerSchema.optional() });

/** The query of `GET /v1/credits/transactions`. The newest entry comes first. */
export const creditEntriesQuerySchema = creditsQuerySchema.extend({
  limit: limitSchema,
  cursor: z
    .string()
    .regex(/^\d{1,15}$/, "is not a cursor of this list")
    .transform(Number)
    .optional(),
});

/** `nextCursor` is the `cursor` of the next page, or null at the end. */
export const creditEntryListSchema = z.object({
  items: z.array(creditEntrySchema),
  nextCursor: z.string().nullable(),
});

export type CreditEntryList = z.infer<typeof creditEntryListSchema>;

/** The body of `POST /v1/credits/grants`. */
export const grantSchema = z.strictObject({
  ownerId: ownerSchema,
  amount: z.int().min(1).max(MAX_GRANT),
  reason: textSchema(1_000).nullish(),
});

export type Grant = z.infer<typeof grantSchema>;
