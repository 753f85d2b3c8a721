-- What no lock in a table can beat, and what PostgreSQL itself has for locks that
-- end with the session or the transaction.

--- setup
CREATE TABLE counter (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO counter SELECT i, 0 FROM generate_series(0, 63) i;

--- select
SELECT 1;

--- update
UPDATE counter SET n = n + 1 WHERE id = :client_id;

--- two_updates
UPDATE counter SET n = n + 1 WHERE id = :client_id;
UPDATE counter SET n = n + 1 WHERE id = :client_id;

--- advisory
SELECT pg_advisory_lock(:client_id);
SELECT pg_advisory_unlock(:client_id);

--- for_update
BEGIN;
SELECT n FROM counter WHERE id = :client_id FOR UPDATE;
COMMIT;

--- loop_update
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;

--- loop_two_updates
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;
UPDATE counter SET n = n + 1 WHERE id = 0; COMMIT;

--- loop_advisory
PERFORM pg_advisory_lock(1); PERFORM pg_advisory_unlock(1); COMMIT;
