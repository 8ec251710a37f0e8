-- The tables that 000010 left out. Defaults by type are anybody's to write who was let; keys and the
-- list of migrations are nobody's but the owner's, whoever was granted what.

create trigger _050_refuse_strangers before insert or update or delete on jobcast.signing_keys
  for each statement execute function jobcast.tg__refuse_strangers();
create trigger _050_refuse_strangers before insert or update or delete on jobcast.migrations
  for each statement execute function jobcast.tg__refuse_strangers();

create trigger _060_refuse_truncate before truncate on jobcast.job_types
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.signing_keys
  for each statement execute function jobcast.tg__refuse_truncate();
create trigger _060_refuse_truncate before truncate on jobcast.migrations
  for each statement execute function jobcast.tg__refuse_truncate();
