import { z } from "zod";
import { textSchema } from "./json.ts";
import { limitSchema, nextCursorSchema } from "./page.ts";

/** What one grant may be, so that no sum of them leaves the numbers that JSON can hold. */
const MAX_GRANT = 2 ** 31 - 1;

const ownerSchema = textSchema(255).min(1);

export const creditAccountSchema = z
  .object({
    ownerId: z.string().meta({ description: "Whose account it is." }),
    balance: z
      .int()
      .min(0)
      .meta({ description: "Never below 0; 0 for an owner that never had any." }),
  })
  .meta({ description: "What an owner has to spend." });

export type CreditAccount = z.infer<typeof creditAccountSchema>;

export const creditEntrySchema = z
  .object({
    id: z.uuid().meta({ description: "The entry." }),
    ownerId: z.string().meta({ description: "Whose ledger it is in." }),
    // The job may be gone: the ledger outlives it.
    jobId: z
      .guid()
      .nullable()
      .meta({ description: "The job that was charged or refunded; null for a grant." }),
    // Each attempt of a job is charged once, and refunded once at most.
    attempt: z
      .int()
      .min(1)
      .nullable()
      .meta({ description: "The attempt that was charged or refunded; null for a grant." }),
    kind: z.enum(["charge", "refund", "grant"]).meta({ description: "What happened." }),
    amount: z.int().meta({ description: "What was added; negative for a charge." }),
    balanceAfter: z.int().min(0).meta({ description: "The balance from then on." }),
    createdAt: z.iso.datetime().meta({ description: "When it happened." }),
    reason: z.string().nullable().meta({ description: "What whoever granted it said of it." }),
  })
  .meta({ description: "A line of an owner's ledger, which is append-only." });

export type CreditEntry = z.infer<typeof creditEntrySchema>;

/** The query of `GET /v1/credits`. */
export const creditsQuerySchema = z.strictObject({
  ownerId: ownerSchema.optional().meta({
    description: "Whose account. Default: the caller's.",
    example: "alice",
  }),
});

/** The query of `GET /v1/credits/transactions`. */
export const creditEntriesQuerySchema = creditsQuerySchema.extend({
  limit: limitSchema,
  cursor: z
    .string()
    .regex(/^\d{1,15}$/, "is not a cursor of this list")
    .transform(Number)
    .optional()
    .meta({ description: "The `nextCursor` of the page before." }),
});

export const creditEntryListSchema = z
  .object({
    items: z.array(creditEntrySchema).meta({ description: "The entries." }),
    nextCursor: nextCursorSchema,
  })
  .meta({ description: "A page of a ledger, the newest first." });

export type CreditEntryList = z.infer<typeof creditEntryListSchema>;

/** The body of `POST /v1/credits/grants`. */
export const grantSchema = z
  .strictObject({
    ownerId: ownerSchema.meta({ description: "To whom." }),
    amount: z.int().min(1).max(MAX_GRANT).meta({ description: "How many." }),
    reason: textSchema(1_000).nullish().meta({ description: "What for; the ledger keeps it." }),
  })
  .meta({ description: "Credits to give." });

export type Grant = z.infer<typeof grantSchema>;
