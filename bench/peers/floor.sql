-- What no lock in a table can beat, and what PostgreSQL itself has for locks that
-- end with the session or the transaction.

--- setup
CREATE TABLE counter (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO counter SELECT i, 0 FROM generate_series(0, 63) i;

--- select
SELECT 1;

--- update
UPDATE counter SET n = n + 1 WHERE id = $1;

--- two_updates
UPDATE counter SET n = n + 1 WHERE id = $1;
UPDATE counter SET n = n + 1 WHERE id = $1;

--- advisory
SELECT pg_advisory_lock($1);
SELECT pg_advisory_unlock($1);

--- for_update
BEGIN;
SELECT n FROM counter WHERE id = $1 FOR UPDATE;
COMMIT;

--- loop_update
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;

--- loop_two_updates
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;

--- loop_advisory
PERFORM pg_advisory_lock(1); PERFORM pg_advisory_unlock(1); COMMIT;
