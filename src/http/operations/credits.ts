import {
  adjustmentSchema,
  type CreditEntryList,
  creditAccountSchema,
  creditEntriesQuerySchema,
  creditEntryListSchema,
  creditEntrySchema,
  creditsQuerySchema,
  grantSchema,
  overdraftSchema,
} from "../../protocol/credits.ts";
import { ACCESS, accountOwner } from "../access.ts";
import { audit } from "../audit.ts";
import { SMALL_BODY } from "../body.ts";
import { onceOf } from "../idempotency-key.ts";
import { JOB_ID, OWNER } from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { idempotentHead } from "./parameters.ts";

const grant = {
  id: "01984f2d-c0de-7a11-9e40-7b52f6d3a8c1",
  ownerId: OWNER,
  jobId: null,
  attempt: null,
  kind: "grant",
  amount: 100,
  balanceAfter: 100,
  createdAt: "2026-07-28T09:29:00.000Z",
  reason: "Monthly plan",
};

const COLLEAGUE = "bob";
const account = { ownerId: OWNER, balance: 95, overdraft: 0 };
const allowed = { ownerId: COLLEAGUE, balance: 0, overdraft: 20 };

const adjustment = {
  ...grant,
  id: "01984f30-1d42-7c6e-a5b7-3e8f9d2c4b60",
  ownerId: COLLEAGUE,
  kind: "adjustment",
  amount: 2,
  balanceAfter: 2,
  createdAt: "2026-07-28T10:00:00.000Z",
  reason: "Counted twice",
};

const charge = {
  ...grant,
  id: "01984f2e-6a10-7b3d-84e6-1d9c0f5b2a73",
  jobId: JOB_ID,
  attempt: 1,
  kind: "charge",
  amount: -5,
  balanceAfter: 95,
  createdAt: "2026-07-28T09:30:00.000Z",
  reason: null,
};

export const credits: Resource = {
  name: "Credits",
  description:
    "What owners have to spend. A job is charged when it is created and for each retry, and refunded once for each attempt that failed, timed out or was cancelled. Whoever ends an attempt may say what it has cost: then what was charged beyond it is refunded, and what is missing is charged. The ledger is append-only and its sum is the balance.",
  operations: [
    defineOperation({
      id: "getCredits",
      method: "get",
      path: "/v1/credits",
      summary: "Read a balance",
      description: "Without `ownerId` the caller's own.",
      access: ACCESS.getCredits,
      query: creditsQuerySchema,
      answers: {
        200: {
          description: "The account.",
          content: json(creditAccountSchema, { account }),
        },
      },
      problems: [],
      async handler({ credits: store }, { caller, query }) {
        return reply(await store.account(accountOwner(caller, query.ownerId), caller.ownerId));
      },
    }),
    defineOperation({
      id: "listCreditTransactions",
      method: "get",
      path: "/v1/credits/transactions",
      summary: "Read a ledger",
      description: "The newest entry first. Without `ownerId` the caller's own.",
      access: ACCESS.listCreditTransactions,
      query: creditEntriesQuerySchema,
      answers: {
        200: {
          description: "A page of the ledger.",
          content: json(creditEntryListSchema, {
            page: { items: [charge, grant], nextCursor: null },
          }),
        },
      },
      problems: [],
      async handler({ credits: store }, { caller, query }) {
        const ownerId = accountOwner(caller, query.ownerId);
        const page = { limit: query.limit, before: query.cursor, jobId: query.jobId };
        const { entries, next } = await store.entries(ownerId, page, caller.ownerId);
        return reply({
          items: [...entries],
          nextCursor: next === undefined ? null : String(next),
        } satisfies CreditEntryList);
      },
    }),
    defineOperation({
      id: "grantCredits",
      method: "post",
      path: "/v1/credits/grants",
      summary: "Grant credits",
      description: "Adds to an owner's account.",
      access: ACCESS.grantCredits,
      headers: idempotentHead,
      body: {
        required: true,
        maxBytes: SMALL_BODY,
        schema: grantSchema,
        examples: { plan: { ownerId: OWNER, amount: 100, reason: "Monthly plan" } },
      },
      answers: {
        201: {
          description: "The entry in the ledger.",
          content: json(creditEntrySchema, { plan: grant }),
        },
      },
      problems: ["idempotency_key_reused"],
      async handler({ credits: store }, { req, res, caller, body }) {
        const { value: given, text } = await body();
        const once = onceOf(req, given, text);
        const entry = await store.grant({ ...given, once }, caller.ownerId);
        audit({ req, res }, "credits.granted", { ...given, entry: entry.id });
        return reply(entry, 201);
      },
    }),
    defineOperation({
      id: "adjustCredits",
      method: "post",
      path: "/v1/credits/adjustments",
      summary: "Adjust an account",
      description:
        "Adds to an account or takes from it, with a reason: a partial refund, a correction.",
      access: ACCESS.adjustCredits,
      headers: idempotentHead,
      body: {
        required: true,
        maxBytes: SMALL_BODY,
        schema: adjustmentSchema,
        examples: { correction: { ownerId: COLLEAGUE, amount: 2, reason: "Counted twice" } },
      },
      answers: {
        201: {
          description: "The entry in the ledger.",
          content: json(creditEntrySchema, { correction: adjustment }),
        },
      },
      problems: ["not_found", "insufficient_credits", "idempotency_key_reused"],
      async handler({ credits: store }, { req, res, caller, body }) {
        const { value: given, text } = await body();
        const once = onceOf(req, given, text);
        const entry = await store.adjust({ ...given, once }, caller.ownerId);
        audit({ req, res }, "credits.adjusted", { ...given, entry: entry.id });
        return reply(entry, 201);
      },
    }),
    defineOperation({
      id: "setOverdraft",
      method: "patch",
      path: "/v1/credits",
      summary: "Say what an account may owe",
      description:
        "Of what jobs cost beyond their credits. What begins is paid for, whatever is allowed.",
      access: ACCESS.setOverdraft,
      body: {
        required: true,
        maxBytes: SMALL_BODY,
        schema: overdraftSchema,
        examples: { some: { ownerId: COLLEAGUE, overdraft: 20 } },
      },
      answers: {
        200: { description: "The account.", content: json(creditAccountSchema, { some: allowed }) },
      },
      problems: [],
      async handler({ credits: store }, { req, res, caller, body }) {
        const { ownerId, overdraft } = (await body()).value;
        const account = await store.setOverdraft(ownerId, overdraft, caller.ownerId);
        audit({ req, res }, "credits.overdraft", account);
        return reply(account);
      },
    }),
  ],
};
