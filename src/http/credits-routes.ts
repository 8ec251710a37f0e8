import express, { type Router } from "express";
import type { CreditStore } from "../db/credits.ts";
import {
  type CreditEntryList,
  creditEntriesQuerySchema,
  creditsQuerySchema,
  grantSchema,
} from "../protocol/credits.ts";
import { type Caller, callerOf, requireScope } from "./auth/caller.ts";
import { parseBodyJson, type ReadBody, SMALL_BODY } from "./body.ts";
import { onceOf } from "./idempotency-key.ts";
import { parseBody, parseQuery } from "./validate.ts";

export type CreditsRouterParts = { readonly credits: CreditStore; readonly readBody: ReadBody };

/** Balance, ledger and top-up. Charges and refunds come with the jobs. */
export function createCreditsRouter({ credits, readBody }: CreditsRouterParts): Router {
  const router = express.Router();

  router.get("/v1/credits", async (req, res) => {
    const caller = callerOf(res);
    const { owner } = parseQuery(creditsQuerySchema, req);
    res.json(await credits.account(accountOwner(caller, owner), caller.ownerId));
  });

  router.get("/v1/credits/transactions", async (req, res) => {
    const caller = callerOf(res);
    const { owner, limit, cursor } = parseQuery(creditEntriesQuerySchema, req);
    const ownerId = accountOwner(caller, owner);
    const page = { limit, before: cursor };
    const { entries, next } = await credits.entries(ownerId, page, caller.ownerId);
    const list: CreditEntryList = {
      items: [...entries],
      nextCursor: next === undefined ? null : String(next),
    };
    res.json(list);
  });

  router.post("/v1/credits/grants", async (req, res) => {
    const caller = callerOf(res);
    requireScope(caller, "credits:grant");
    const bytes = await readBody(req, res, caller.ownerId, { maxBytes: SMALL_BODY });
    const body = parseBodyJson(bytes, req.get("content-type"));
    const grant = parseBody(grantSchema, body);
    const counted = { ...grant, once: onceOf(req, grant, body.text) };
    const entry = await credits.grant(counted, caller.ownerId);
    res.status(201).json(entry);
  });

  return router;
}

/** Somebody else's account is for those who fill it and for those who may see everything. */
function accountOwner(caller: Caller, owner = caller.ownerId): string {
  const mayRead = owner === caller.ownerId || caller.scopes.has("credits:grant");
  if (!mayRead) requireScope(caller, "jobs:read");
  return owner;
}
