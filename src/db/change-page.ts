import { INLINE_BYTES } from "./changes.ts";

/** What a row weighs beside its values, about. */
const ROW_BYTES = 512;

/** Rows that are looked at for one page. */
const MAX_ROWS = 2_000;

/** How many rows there were to choose the page from, with each of them. */
export type Paged = { readonly available: number };

/**
 * SQL for as many of the first rows as weigh `bytes` together, and one at least.
 * @param rows a select of `changeColumns` (and others), without an order
 * @param order of columns of it that tell one row from any other
 */
export function firstRows(rows: string, order: string, bytes: number): string {
  const weight = `(least(coalesce(c.bytes, 0), ${INLINE_BYTES}) + ${ROW_BYTES})`;
  return `
    select p.* from (
      select c.*, count(*) over () as available,
        sum(${weight}) over (order by ${order}) - ${weight} as before
      from (${rows} order by ${order} limit ${MAX_ROWS}) c
    ) p
    where p.before < ${bytes}
    order by ${order}`;
}

/** Whether there are rows behind those that the page has. */
export function hasMore(page: readonly Paged[]): boolean {
  const available = page[0]?.available ?? 0;
  return available > page.length || available === MAX_ROWS;
}
