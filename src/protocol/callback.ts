import { z } from "zod";
import { countsSchema } from "./event.ts";
import { updateJobSchema } from "./job.ts";
import { jsonSchema } from "./json.ts";
import { type Status, statusSchema } from "./status.ts";

/*
 * What providers send to tell of a job. There is no standard for it, so the common words are
 * understood and the rest is passed over: a provider cannot change what it sends to everybody.
 */

const STATUS_WORDS: Readonly<Record<Exclude<Status, "pending">, string>> = {
  queued: "pending queued starting in_queue submitted created accepted waiting",
  processing: "processing in_progress running started",
  completed: "completed complete success succeeded succeed done ok finished",
  failed: "failed failure fail error errored",
  cancelled: "cancelled canceled aborted",
  timeout: "timeout timed_out expired",
};

const STATUS_OF: ReadonlyMap<string, Status> = new Map(
  Object.entries(STATUS_WORDS).flatMap(([status, words]) =>
    words.split(" ").map((word): [string, Status] => [fold(word), status as Status]),
  ),
);

/** Names of one thing; of several that are there, the first in this order counts. */
const NAMES = {
  status: ["status", "state"],
  progress: ["progress", "percentage", "percent"],
  stage: ["stage"],
  message: ["message"],
  counts: ["counts"],
  result: ["result", "output", "outputs", "images", "results", "payload", "data"],
  error: ["error"],
  errorCode: ["error_code"],
} as const;

/** The same inside an error. */
const ERROR_NAMES = {
  code: ["code", "error_code", "type", "name"],
  text: ["message", "detail", "description", "reason", "error"],
} as const;

/** All that is ever looked for: a body of a megabyte may have a hundred thousand other names. */
const KNOWN_NAMES: ReadonlySet<string> = new Set(
  [NAMES, ERROR_NAMES].flatMap((names) => Object.values(names).flat()).map(fold),
);

/** No word, name or number that we know is longer. */
const MAX_WORD = 64;

const patchSchema = updateJobSchema.omit({ attempt: true });

/** What a delivery says of its job: an update that empties nothing. */
export type CallbackPatch = z.infer<typeof patchSchema>;

/** The same, and where in the body its result was found: its text has the exact numbers. */
export type CallbackUpdate = {
  readonly patch: CallbackPatch;
  readonly resultPath: readonly string[] | undefined;
};

/**
 * The body of `POST /v1/callbacks/{jobId}`: an update of the job in our words or in a provider's.
 * Null says nothing, and so does what is not understood. A body of nothing else is refused.
 */
export const callbackSchema = z
  .custom<object>(isObject, "must be an object")
  .transform((body, context): CallbackUpdate => {
    const { patch, resultPath } = readUpdate(fieldsOf(body));
    const checked = patchSchema.safeParse(patch);
    for (const { path, message } of checked.error?.issues ?? []) {
      context.addIssue({ code: "custom", path, message });
    }
    if (Object.keys(patch).length === 0) {
      const isWordUnknown = find(fieldsOf(body), NAMES.status) !== undefined;
      context.addIssue({
        code: "custom",
        path: isWordUnknown ? ["status"] : [],
        message: isWordUnknown
          ? "is not a status that is known"
          : "says nothing of a job: expected status, progress, stage, message, counts, result or error",
      });
    }
    return { patch: checked.data ?? {}, resultPath };
  })
  .meta({
    type: "object",
    additionalProperties: true,
    description:
      "An update of the job, in our words (see `UpdateJob`) or in a provider's: `state`, `percent`, `output`, `images` and other common names are understood, `succeeded`, `done`, `error`, `canceled` and other common words for a status too, and also a body as Standard Webhooks recommends it, `{ type, timestamp, data }`. What is not understood is passed over; null says nothing.",
  });

/** Why a delivery changed nothing; none of it is the provider's to mend. */
export const callbackReasonSchema = z.enum([
  /** A delivery of this `webhook-id` was taken before. */
  "duplicate",
  /** The token is of an attempt that is over. */
  "other_attempt",
  /** The job has ended, and not so. */
  "job_ended",
  /** The job is past this status. */
  "overtaken",
  /** The job stands so already, or a report that says more came first. */
  "unchanged",
]);

export type CallbackReason = z.infer<typeof callbackReasonSchema>;

/** The answer to a delivery: the job as it stands, and whether the delivery changed it. */
export const callbackResultSchema = z
  .object({
    jobId: z.guid().meta({ description: "The job." }),
    status: statusSchema.meta({ description: "Where the job stands." }),
    version: z.int().min(1).meta({ description: "The job's newest version." }),
    applied: z.boolean().meta({ description: "Whether this delivery changed the job." }),
    reason: callbackReasonSchema.optional().meta({
      description:
        "Why it did not: `duplicate` (this `webhook-id` was taken before), `other_attempt` (the token is of an attempt that is over), `job_ended`, `overtaken` (the job is past this status), `unchanged`.",
    }),
  })
  .meta({ description: "What became of a delivery." });

export type CallbackResult = z.infer<typeof callbackResultSchema>;

/** What a body says under a folded name, and where: the names as they were written. */
type Field = { readonly path: readonly string[]; readonly value: unknown };
type Fields = ReadonlyMap<string, Field>;

/** `errorCode`, `error_code` and `ERROR-CODE` are one word. */
function fold(word: string): string {
  return word.toLowerCase().replaceAll(/[\s_-]/g, "");
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function fieldsOf(body: object, within: readonly string[] = []): Fields {
  const fields = new Map<string, Field>();
  for (const name of Object.keys(body)) {
    if (name.length > MAX_WORD) continue;
    const folded = fold(name);
    if (!KNOWN_NAMES.has(folded)) continue;
    const value = (body as Readonly<Record<string, unknown>>)[name];
    if (value !== null) fields.set(folded, { path: [...within, name], value });
  }
  return fields;
}

function findField(fields: Fields, names: readonly string[]): Field | undefined {
  return names.map((name) => fields.get(fold(name))).find((field) => field !== undefined);
}

function find(fields: Fields, names: readonly string[]): unknown {
  return findField(fields, names)?.value;
}

/** Standard Webhooks recommends `{ type, timestamp, data }`, where `data` is what it is about. */
function unwrap(fields: Fields): Fields {
  const data = fields.get("data");
  if (readStatus(fields) || typeof data?.value !== "object" || data.value === null) return fields;
  const inner = fieldsOf(data.value, data.path);
  return readStatus(inner) ? inner : fields;
}

function readUpdate(body: Fields): CallbackUpdate {
  const fields = unwrap(body);
  const status = readStatus(fields);
  const message = readText(find(fields, NAMES.message));
  const result = findField(fields, NAMES.result);
  const patch = {
    status,
    progress: readProgress(find(fields, NAMES.progress)),
    stage: readText(find(fields, NAMES.stage)),
    message,
    counts: countsSchema.safeParse(find(fields, NAMES.counts)).data,
    result: result?.value as CallbackPatch["result"],
    error: readError(fields, status, message),
  };
  return {
    patch: Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined)),
    resultPath: result?.path,
  };
}

function readStatus(fields: Fields): Status | undefined {
  const word = find(fields, NAMES.status);
  return typeof word === "string" ? STATUS_OF.get(fold(word.slice(0, MAX_WORD))) : undefined;
}

const NUMBER = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** A number or its text, with or without a percent sign; what rounding left outside counts as the edge. */
function readProgress(value: unknown): number | undefined {
  const progress = typeof value === "string" ? readNumber(value) : value;
  if (typeof progress !== "number" || !Number.isFinite(progress)) return undefined;
  return Math.min(Math.max(progress, 0), 100);
}

function readNumber(text: string): number | undefined {
  if (text.length > MAX_WORD) return undefined;
  const digits = text.trim().replace(/%$/, "").trim();
  return NUMBER.test(digits) ? Number(digits) : undefined;
}

function readText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The error as text, as an object or as a mere code; a failure always has one. */
function readError(
  fields: Fields,
  status: Status | undefined,
  message: string | undefined,
): CallbackPatch["error"] {
  const given = find(fields, NAMES.error);
  const members: Fields = isObject(given) ? fieldsOf(given) : new Map();
  const code = [
    find(fields, NAMES.errorCode),
    ...ERROR_NAMES.code.map((name) => find(members, [name])),
  ].find((each) => (typeof each === "string" || typeof each === "number") && each);
  const hasFailed = status === "failed" || status === "timeout";
  const said = readErrorText(given, members);
  if (said === undefined && code === undefined && !hasFailed) return undefined;
  return {
    code: String(code ?? (status === "timeout" ? "timeout" : "failed"))
      .slice(0, 255)
      .toWellFormed(),
    message: said ?? message ?? (status === "timeout" ? "The job timed out." : "The job failed."),
  };
}

function readErrorText(given: unknown, members: Fields): string | undefined {
  if (typeof given === "string") return given === "" ? undefined : given;
  if (typeof given !== "object" || given === null || Object.keys(given).length === 0)
    return undefined;
  const text = ERROR_NAMES.text
    .map((name) => readText(find(members, [name])))
    .find((each) => each !== undefined);
  // What is nested too deeply to be kept would overflow JSON.stringify too.
  return text ?? (jsonSchema.safeParse(given).success ? JSON.stringify(given) : undefined);
}
