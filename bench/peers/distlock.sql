-- distlock itself.
--
-- The files here have sections, each begun by a line "--- NAME".  "setup" is
-- run once; the others are scripts for pgbench, one key for each client, or
-- bodies of loops in PL/pgSQL with the variables i, k (a key) and t (a token).
-- They have the same names in all files.

--- setup
CREATE EXTENSION IF NOT EXISTS distlock;

--- pair
SELECT distlock.acquire(:client_id::text, '1 min') AS token \gset
SELECT distlock.release(:client_id::text, :token);

--- loop
t := distlock.acquire('nightly-interest', '1 min'); COMMIT;
PERFORM distlock.release('nightly-interest', t); COMMIT;

--- hot
SELECT t AS token, t IS NOT NULL AS granted FROM distlock.try_acquire('hot', '1 min') AS t \gset
\if :granted
SELECT distlock.release('hot', :token);
\endif
