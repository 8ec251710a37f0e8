import { z } from "zod";

/** A number as an environment has it; what is none is judged with what is out of range. */
export function numberIn<N extends number | undefined>(field: z.ZodType<N, number | undefined>) {
  return z
    .string()
    .optional()
    .transform((text) => (text === undefined ? undefined : toNumber(text)))
    .pipe(field);
}

function toNumber(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
}

/** Options that belong together, by the variable of each. */
export const RETENTION = {
  RETENTION_COMPLETED_DAYS: "completedDays",
  RETENTION_FAILED_DAYS: "failedDays",
  RETENTION_CANCELLED_DAYS: "cancelledDays",
  RETENTION_TIMEOUT_DAYS: "timeoutDays",
  RETENTION_STEPS_DAYS: "stepsDays",
  RETENTION_DELIVERIES_DAYS: "deliveriesDays",
  RETENTION_KEYS_DAYS: "keysDays",
} as const;

export const LIMITS = {
  RATE_WRITES_PER_MINUTE: "writesPerMinute",
  RATE_STREAMS_PER_MINUTE: "streamsPerMinute",
  RATE_CALLBACKS_PER_MINUTE: "callbacksPerMinute",
  RATE_REFUSALS_PER_MINUTE: "refusalsPerMinute",
  RATE_ADDRESS_PER_MINUTE: "addressPerMinute",
  TRUSTED_PROXIES: "trustedProxies",
  MAX_UNFINISHED_JOBS_PER_OWNER: "unfinishedJobsPerOwner",
  MAX_UNFINISHED_BYTES_PER_OWNER: "unfinishedBytesPerOwner",
} as const;

type Group = Readonly<Record<string, string>>;
type NumberFields<Names extends string> = Readonly<
  Record<Names, z.ZodType<number | undefined, number | undefined>>
>;

export function grouped<G extends Group>(group: G, fields: NumberFields<G[keyof G]>) {
  const entries = Object.entries(group).map(([key, name]) => [
    key,
    numberIn(fields[name as G[keyof G]]),
  ]);
  return Object.fromEntries(entries) as Record<
    keyof G,
    z.ZodType<number | undefined, string | undefined>
  >;
}

export function ofGroup<G extends Group>(
  group: G,
  from: Readonly<Record<keyof G, number | undefined>>,
): Record<G[keyof G], number | undefined> {
  const entries = Object.entries(group).map(([key, name]) => [name, from[key]]);
  return Object.fromEntries(entries) as Record<G[keyof G], number | undefined>;
}
