-- The keys that jobcast signs its own tokens with: all processes on one database share them.

create table jobcast.signing_keys (
  name text not null primary key,
  secret bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  -- RFC 7518, 3.2: HS256 takes a key of 256 bits or more.
  constraint secret_length check (length(secret) >= 32)
);

-- Whoever reads a key can make tokens for any owner; no default privilege may hand it out.
revoke all on jobcast.signing_keys from public;

comment on table jobcast.signing_keys is
  'Secret. Delete a row and restart every process: its tokens are void and a new key is made.';
