import { z } from "zod";

/** Any UUID that PostgreSQL takes: an id made in SQL need not follow a version of RFC 9562. */
export const jobIdSchema = z.guid();
