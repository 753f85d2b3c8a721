-- What a transaction-scope lock leaves behind: a touched row, if work was written under it.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP TABLE work (n int);
CREATE TEMP VIEW rows AS SELECT key, scope, token, owner, fence > 0 AS fence, expires_at <= clock_timestamp() AS over FROM distlock.lock WHERE key LIKE 'touch %' ORDER BY key;
-- nothing written: nothing left
BEGIN;
SELECT distlock.acquire('touch 1', '1 h', scope => 'transaction') IS NOT NULL AS granted;
SELECT count(*) FROM work;
COMMIT;
TABLE rows;
-- written before or after the grant: a free row
BEGIN;
INSERT INTO work VALUES (1);
SELECT distlock.acquire('touch 2', '1 h', scope => 'transaction', owner => 'me', data => 'x') IS NOT NULL AS granted;
COMMIT;
BEGIN;
SELECT distlock.acquire_with_token('touch 3', 'tok', '1 h', scope => 'transaction') AS fence \gset
INSERT INTO work VALUES (3);
COMMIT;
TABLE rows;
SELECT fence = :fence AS fence FROM distlock.lock WHERE key = 'touch 3';
SELECT distlock.is_held('touch 2') AS held2, distlock.is_held('touch 3') AS held3, (SELECT count(*) FROM distlock.locks) AS shown;
-- now the view can name the key
BEGIN;
SELECT distlock.acquire('touch 3', '1 h', scope => 'transaction') IS NOT NULL AS granted;
SELECT key, scope, pid = pg_backend_pid() AS own FROM distlock.locks;
COMMIT;
-- a row that is there is touched: a new version, no new row
SELECT ctid AS before FROM distlock.lock WHERE key = 'touch 3' \gset
BEGIN;
SELECT distlock.acquire('touch 3', '1 h', scope => 'transaction') IS NOT NULL AS granted;
COMMIT;
SELECT ctid = :'before' AS not_touched FROM distlock.lock WHERE key = 'touch 3';
BEGIN;
SELECT distlock.acquire('touch 3', '1 h', scope => 'transaction') IS NOT NULL AS granted;
INSERT INTO work VALUES (4);
COMMIT;
SELECT ctid <> :'before' AS touched FROM distlock.lock WHERE key = 'touch 3';
-- released inside: the work is there all the same
BEGIN;
SELECT distlock.acquire_with_token('touch 4', 'tok', '1 h', scope => 'transaction') IS NOT NULL AS granted;
INSERT INTO work VALUES (5);
SELECT distlock.release('touch 4', 'tok');
COMMIT;
TABLE rows;
-- rolled back: nothing
BEGIN;
SELECT distlock.acquire('touch 5', '1 h', scope => 'transaction') IS NOT NULL AS granted;
INSERT INTO work VALUES (6);
ROLLBACK;
BEGIN;
INSERT INTO work VALUES (7);
SAVEPOINT s;
SELECT distlock.acquire('touch 6', '1 h', scope => 'transaction') IS NOT NULL AS granted;
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM distlock.lock WHERE key IN ('touch 5', 'touch 6');
-- a lease next to it, in one transaction
BEGIN;
SELECT distlock.acquire_with_token('touch 7', 'tok', '1 h', scope => 'transaction') IS NOT NULL AS granted;
SELECT distlock.release('touch 7', 'tok');
SELECT distlock.acquire_with_token('touch 7', 'lease', '1 h') AS fence \gset
COMMIT;
SELECT scope, token, fence = :fence AS fence FROM distlock.lock WHERE key = 'touch 7';
SELECT distlock.release('touch 7', 'lease');
-- the free rows are purged, as soon as no snapshot can need them
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		CALL distlock.purge();
		EXIT WHEN NOT EXISTS (SELECT FROM distlock.lock WHERE key LIKE 'touch %');
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT count(*) FROM distlock.lock WHERE key LIKE 'touch %';
