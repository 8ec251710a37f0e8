-- additive: a comment only. A key that is gone is missed within seconds by every process.

comment on table jobcast.signing_keys is
  'Secret. Delete a row, and within seconds the tokens that it signed are void and a new key is made.';
