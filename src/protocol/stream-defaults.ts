/** What streams do unless the settings say otherwise; units as in the names. */
export const STREAM_DEFAULTS = {
  heartbeatSeconds: 15,
  /** The middle of the jittered delay before a client reconnects. */
  retryMs: 2_000,
  /** Unsent bytes above which a client is cut. */
  streamBufferBytes: 1_048_576,
  maxStreams: 50_000,
  maxStreamsPerOwner: 100,
  maxStreamSeconds: 3_600,
} as const;
