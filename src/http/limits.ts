/** Headers of a request; Node keeps no more, and nobody has so many. */
export const MAX_HEADERS = 100;

/** Bytes of a body, as it was sent and after decompression. */
export const MAX_BODY = 1_048_576;
