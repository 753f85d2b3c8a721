-- distlock itself.
--
-- The files here have sections, each begun by a line "--- NAME".  "setup" is
-- run once.  "pair", "hot" and "refused" are statements for clients/pg_turns, with
-- $1 the client's number, $2 the result of the statement before, and $3 a new
-- token; what begins with a question mark is executed by who has been granted the
-- lock.  "loop" is the body of a loop in PL/pgSQL with the variables i, k (a key)
-- and t (a token).  They have the same names in all files.

--- setup
CREATE EXTENSION IF NOT EXISTS distlock;

--- pair
SELECT distlock.acquire($1, '1 min');
SELECT distlock.release($1, $2);

--- loop
t := distlock.acquire('nightly-interest', '1 min'); COMMIT;
PERFORM distlock.release('nightly-interest', t); COMMIT;

--- hot
SELECT distlock.try_acquire('hot', '1 min');
?SELECT distlock.release('hot', $2);

--- refused
SELECT distlock.try_acquire('refused', '1 min');
