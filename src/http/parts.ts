import type { Request, Response } from "express";
import type { BatchStore } from "../db/batches.ts";
import type { CallbackStore } from "../db/callbacks.ts";
import type { CreditStore } from "../db/credits.ts";
import type { FindOwners } from "../db/job-owners.ts";
import type { JobStore } from "../db/jobs.ts";
import type { Presence } from "../db/presence.ts";
import type { MintStreamToken } from "./auth/stream-token.ts";
import type { ReadBody } from "./body.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";
import type { WebhookKey } from "./callbacks/webhook-signature.ts";
import type { EventsDeps } from "./events/stream-edge.ts";
import type { StatisticsSource } from "./statistics.ts";

/** Whether this process should be sent requests, and what an operator should know beside it. */
export type Readiness = { readonly ready: boolean; readonly [detail: string]: unknown };

/** The API for programs, and the same for people. */
export type Docs = {
  /** @param url where callers reach this server */
  describe(url: string): object;
  sendPage(req: Request, res: Response): Promise<void>;
  sendScript(req: Request, res: Response): Promise<void>;
};

/** What one owner may have of what has not ended, when he asks for more over HTTP. */
export type Quota = {
  readonly unfinishedJobsPerOwner?: number | undefined;
  /** As they are stored. */
  readonly unfinishedBytesPerOwner?: number | undefined;
};

/** What the operations work with. */
export type HttpParts = {
  /** Where callers reach this server, without a slash at the end. Unset: links are paths, from the root of its host. */
  readonly publicUrl?: string | undefined;
  readonly readBody: ReadBody;
  readonly jobs: JobStore;
  /** What one owner may have. Default: all that he likes */
  readonly quota?: Quota | undefined;
  readonly batches: BatchStore;
  readonly credits: CreditStore;
  /** The owners of those jobs that exist. */
  readonly findOwners: FindOwners;
  /** Names the database in the cursors of streams over many jobs. */
  readonly epoch: () => string;
  /** Who watches; undefined where nobody counts. */
  readonly presence?: Presence | undefined;
  readonly events: EventsDeps;
  readonly mintStreamToken: MintStreamToken;
  readonly callbackLink: CallbackLinks;
  readonly callbacks: {
    readonly store: CallbackStore;
    /** What the tokens in the callback URLs are signed with. */
    readonly key: () => Promise<Buffer>;
    /** Of providers that sign after Standard Webhooks. */
    readonly secrets: readonly WebhookKey[];
  };
  readonly readiness: () => Readiness;
  readonly statistics: StatisticsSource;
  /** The metrics of this process, for Prometheus. */
  readonly metrics: () => Promise<{ readonly text: string; readonly contentType: string }>;
  readonly docs: Docs;
};
