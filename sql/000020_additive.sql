-- additive: the list of migrations says which of them a version before runs on

alter table jobcast.migrations add column is_additive boolean not null default false;
