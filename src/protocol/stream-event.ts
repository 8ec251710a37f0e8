import type { z } from "zod";
import type { Batch, deletedBatchSchema } from "./batch.ts";
import type { closeSchema, pingSchema, readySchema, resetSchema } from "./control-event.ts";
import type { CustomEvent, deletedSchema, StatusEvent } from "./event.ts";

/** The last that is told of a job. */
export type DeletedEvent = z.infer<typeof deletedSchema>;

/** What a stream says about jobs, by the type of the event. Every other type is a `CustomEvent`. */
export type JobStreamEvent =
  | { readonly type: "status"; readonly data: StatusEvent }
  | { readonly type: "deleted"; readonly data: DeletedEvent }
  | { readonly type: "reset"; readonly data: StatusEvent | z.infer<typeof resetSchema> }
  | ControlEvent;

/** What a stream of a batch says. */
export type BatchStreamEvent =
  | { readonly type: "batch" | "reset"; readonly data: Batch }
  | { readonly type: "deleted"; readonly data: z.infer<typeof deletedBatchSchema> }
  | ControlEvent;

/** What every stream may say. */
export type ControlEvent =
  | { readonly type: "ready"; readonly data: z.infer<typeof readySchema> }
  | { readonly type: "ping"; readonly data: z.infer<typeof pingSchema> }
  | { readonly type: "close"; readonly data: z.infer<typeof closeSchema> };

/** What a long poll tells of jobs: `deleted` and `event` tell which it is. */
export type PolledEvent = StatusEvent | CustomEvent | DeletedEvent;
