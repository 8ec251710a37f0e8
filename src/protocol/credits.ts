import { z } from "zod";
import { textSchema } from "./json.ts";
import { limitSchema, nextCursorSchema } from "./page.ts";

/** What one grant may be, so that no sum of them leaves the numbers that JSON can hold. */
const MAX_GRANT = 2 ** 31 - 1;

const ownerSchema = textSchema(255).min(1);

export const creditAccountSchema = z
  .object({
    ownerId: z.string().meta({ description: "Whose account it is." }),
    balance: z.int().meta({
      description:
        "0 for an owner that never had any; below 0 only as far as `overdraft`, or by hand.",
    }),
    overdraft: z.int().min(0).meta({
      description:
        "How far below 0 the balance may be taken by what jobs cost beyond their credits.",
    }),
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
      .meta({ description: "The job that it is about, if it is about one." }),
    // Each attempt of a job is charged once, and refunded once at most.
    attempt: z
      .int()
      .min(1)
      .nullable()
      .meta({ description: "The attempt that was charged, refunded or settled; else null." }),
    kind: z.enum(["charge", "refund", "settlement", "grant", "adjustment"]).meta({
      description:
        "`charge`: an attempt began. `refund`: it ended otherwise than completed, or cost less. `settlement`: it cost more. `grant`, `adjustment`: by hand.",
    }),
    amount: z.int().meta({ description: "What was added; negative for what was taken." }),
    balanceAfter: z.int().meta({ description: "The balance from then on." }),
    createdAt: z.iso.datetime().meta({ description: "When it happened." }),
    reason: z
      .string()
      .nullable()
      .meta({ description: "What whoever granted or adjusted it said of it." }),
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
  jobId: z.guid().optional().meta({ description: "Only those about this job." }),
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

/** The body of `POST /v1/credits/adjustments`. */
export const adjustmentSchema = z
  .strictObject({
    ownerId: ownerSchema.meta({ description: "Whose account." }),
    amount: z
      .int()
      .min(-MAX_GRANT)
      .max(MAX_GRANT)
      .refine((amount) => amount !== 0, "must not be 0")
      .meta({ description: "What to add; negative to take." }),
    reason: textSchema(1_000).min(1).meta({ description: "What for; the ledger keeps it." }),
    jobId: z
      .guid()
      .optional()
      .meta({ description: "A job of this owner that it is about, such as of a partial refund." }),
    mayOverdraw: z
      .boolean()
      .optional()
      .meta({ description: "Whether the balance may fall below 0. Default: no." }),
  })
  .meta({ description: "A correction of an account." });

export type Adjustment = z.infer<typeof adjustmentSchema>;

/** The body of `PATCH /v1/credits`. */
export const overdraftSchema = z
  .strictObject({
    ownerId: ownerSchema.meta({ description: "Whose account." }),
    overdraft: z.int().min(0).max(MAX_GRANT).meta({
      description: "How far below 0 what jobs cost beyond their credits may take it.",
    }),
  })
  .meta({ description: "What an account may owe." });
