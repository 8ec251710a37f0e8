import type { Query } from "./query.ts";

/** Something of the schema that belongs to somebody else. */
export type Stranger = { readonly thing: string; readonly owner: string };

/**
 * Who owns a table may hang a trigger on it, and who owns a function may change it: whatever we then
 * write there runs his code as us. A superuser is a member of every role, which says nothing: he
 * trusts who owns the database.
 */
const STRANGERS = `
  with things as (
    select 'schema jobcast' as thing, nspowner as owner from pg_namespace where nspname = 'jobcast'
    union all
    select 'jobcast.' || relname, relowner from pg_class
    where relnamespace = to_regnamespace('jobcast') and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select p.oid::regprocedure::text, proowner from pg_proc p where pronamespace = to_regnamespace('jobcast')
    union all
    select 'type jobcast.' || typname, typowner from pg_type
    where typnamespace = to_regnamespace('jobcast') and typtype in ('d', 'e', 'r')
  )
  select t.thing, o.rolname as owner
  from things t
  join pg_roles o on o.oid = t.owner
  join pg_roles me on me.rolname = current_user
  join pg_database d on d.datname = current_database()
  where not o.rolsuper
    and not case when me.rolsuper then o.oid = d.datdba else pg_has_role(o.oid, 'USAGE') end
  limit 1`;

/** Undefined when all of the schema is ours, or there is none. */
export async function findStranger(query: Query): Promise<Stranger | undefined> {
  const [stranger] = await query<Stranger>(STRANGERS);
  return stranger;
}
