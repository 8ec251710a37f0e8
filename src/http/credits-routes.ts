import express, { type Router } from "express";
import type { CreditStore } from "../db/credits.ts";
import {
  type CreditEntryList,
  creditEntriesQuerySchema,
  creditsQuerySchema,
  grantSchema,
} from "../protocol/credits.ts";
import { type Caller, callerOf, requireScope } from "./auth/caller.ts";
import { idempotencyKeyOf } from "./idempotency-key.ts";
import { parseBody, parseQuery } from "./validate.ts";

export type CreditsRouterParts = { readonly credits: CreditStore };

/** Balance, ledger and top-up. Charges and refunds come with the jobs. */
export function createCreditsRouter({ credits }: CreditsRouterParts): Router {
  const router = express.Router();

  router.get("/v1/credits", async (req, res) => {
    const { owner } = parseQuery(creditsQuerySchema, req);
    res.json(await credits.account(accountOwner(callerOf(res), owner)));
  });

  router.get("/v1/credits/transactions", async (req, res) => {
    const { owner, limit, cursor } = parseQuery(creditEntriesQuerySchema, req);
    const ownerId = accountOwner(callerOf(res), owner);
    const { entries, next } = await credits.entries(ownerId, { limit, before: cursor });
    const list: CreditEntryList = {
      items: [...entries],
      nextCursor: next === undefined ? null : String(next),
    };
    res.json(list);
  });

  router.post("/v1/credits/grants", async (req, res) => {
    requireScope(callerOf(res), "credits:grant");
    const grant = parseBody(grantSchema, req);
    res.status(201).json(await credits.grant({ ...grant, idempotencyKey: idempotencyKeyOf(req) }));
  });

  return router;
}

/** Somebody else's account is for those who fill it and for those who may see everything. */
function accountOwner(caller: Caller, owner = caller.ownerId): string {
  const mayRead = owner === caller.ownerId || caller.scopes.has("credits:grant");
  if (!mayRead) requireScope(caller, "jobs:read");
  return owner;
}
