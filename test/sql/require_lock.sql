-- A table that only transactions under a lock may change.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_books (n int, v text);
INSERT INTO regress_books VALUES (1, 'one'), (2, 'two');
CREATE TRIGGER lock BEFORE INSERT OR UPDATE OR DELETE ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('books');
CREATE FUNCTION pg_temp.changes() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(pg_temp.sqlstate(statement), ' ' ORDER BY number)
	FROM (VALUES (1, 'INSERT INTO regress_books VALUES (3, ''three'')'), (2, 'UPDATE regress_books SET v = ''new'' WHERE n = 1'),
		(3, 'DELETE FROM regress_books WHERE n = 3')) change(number, statement) $$;
-- nobody holds it; somebody does, but not this transaction
INSERT INTO regress_books VALUES (3, 'three');
SELECT pg_temp.changes();
SELECT distlock.acquire_with_token('books', 'tok', '1 h') IS NOT NULL AS acquired;
SELECT pg_temp.changes();
SELECT * FROM regress_books ORDER BY n;
-- a statement that finds no row is not asked
DELETE FROM regress_books WHERE n = 99;
-- guarded
BEGIN;
SELECT distlock.guard('books', 'tok') > 0 AS guarded;
INSERT INTO regress_books VALUES (4, 'four');
UPDATE regress_books SET v = 'new' WHERE n = 1;
DELETE FROM regress_books WHERE n = 2;
COMMIT;
SELECT * FROM regress_books ORDER BY n;
-- the guard is not for the next transaction, nor for another key
SELECT pg_temp.changes();
SELECT distlock.acquire_with_token('other', 'tok', '1 h') IS NOT NULL AS acquired;
BEGIN;
SELECT distlock.guard('other', 'tok') > 0 AS guarded, pg_temp.changes();
COMMIT;
-- nor is it there after a rollback to a savepoint
BEGIN;
SAVEPOINT s;
SELECT distlock.guard('books', 'tok') > 0 AS guarded, pg_temp.changes();
ROLLBACK TO s;
SELECT pg_temp.changes();
ROLLBACK;
-- extended or acquired again by this transaction
BEGIN;
SELECT distlock.extend('books', 'tok') IS NOT NULL AS extended;
SELECT pg_temp.changes();
ROLLBACK;
BEGIN;
SELECT distlock.acquire_with_token('books', 'tok', '1 h') IS NOT NULL AS again;
SELECT pg_temp.changes();
-- and released: this transaction has said that its work is done
SELECT distlock.release('books', 'tok');
SELECT pg_temp.changes();
ROLLBACK;
BEGIN;
SELECT distlock.guard('books', 'tok') > 0 AS guarded, distlock.release('books', 'tok');
SELECT pg_temp.changes() AS after_guard_and_release;
ROLLBACK;
BEGIN;
SELECT distlock.guard('books', 'tok') > 0 AS guarded, distlock.force_release('books');
SELECT pg_temp.changes() AS after_guard_and_force;
ROLLBACK;
SELECT distlock.release('books', 'tok'), distlock.release('other', 'tok');
-- acquired by this transaction, in each scope
BEGIN;
SELECT distlock.acquire_with_token('books', 'tok', '1 h') IS NOT NULL AS lease;
SELECT pg_temp.changes();
SELECT distlock.release('books', 'tok');
SELECT pg_temp.changes();
SELECT distlock.acquire_with_token('books', 'tok', '1 h', scope => 'transaction') IS NOT NULL AS transaction;
SELECT pg_temp.changes();
SELECT distlock.release('books', 'tok');
SELECT pg_temp.changes();
SELECT distlock.acquire_with_token('books', 'tok', '1 h', scope => 'session') IS NOT NULL AS session;
SELECT pg_temp.changes();
SELECT distlock.release('books', 'tok');
SELECT pg_temp.changes();
ROLLBACK;
-- under a lock of the session: in any transaction of it, as long as it holds
SELECT distlock.acquire_with_token('books', 'tok', '1 h', scope => 'session') IS NOT NULL AS session;
INSERT INTO regress_books VALUES (5, 'five');
UPDATE regress_books SET v = 'FIVE' WHERE n = 5;
DELETE FROM regress_books WHERE n = 5;
BEGIN;
SELECT distlock.release('books', 'tok');
SELECT pg_temp.changes();
ROLLBACK;
SELECT pg_temp.changes();
SELECT pg_advisory_unlock_all();
SELECT pg_temp.changes();
-- under do_exclusively and run_exclusively
SELECT distlock.do_exclusively('books', '1 min', 'INSERT INTO regress_books VALUES (5, ''five''); UPDATE regress_books SET v = ''FIVE'' WHERE n = 5; DELETE FROM regress_books WHERE n = 5');
SELECT pg_temp.sqlstate($$SELECT distlock.do_exclusively('other', '1 min', 'INSERT INTO regress_books VALUES (5, ''five'')')$$);
CALL distlock.run_exclusively('books', '1 min',
	'INSERT INTO regress_books VALUES (6, ''six''); DO $do$ BEGIN UPDATE regress_books SET v = ''SIX'' WHERE n = 6; COMMIT; DELETE FROM regress_books WHERE n = 6; END $do$');
CALL distlock.run_exclusively('other', '1 min', 'INSERT INTO regress_books VALUES (6, ''six'')');
SELECT * FROM regress_books ORDER BY n;
DROP TRIGGER lock ON regress_books;
-- once per statement, whatever it changes
CREATE TRIGGER lock BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON regress_books FOR EACH STATEMENT EXECUTE FUNCTION distlock.require_lock('books');
SELECT pg_temp.changes(), pg_temp.sqlstate('DELETE FROM regress_books WHERE n = 99') AS no_row, pg_temp.sqlstate('TRUNCATE regress_books') AS truncate;
BEGIN;
SELECT distlock.do_exclusively('books', '1 min', 'INSERT INTO regress_books VALUES (7, ''seven''); UPDATE regress_books SET v = ''x''; DELETE FROM regress_books WHERE n = 7; TRUNCATE regress_books');
SELECT count(*) FROM regress_books;
ROLLBACK;
DROP TRIGGER lock ON regress_books;
-- a plain user's work
CREATE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('books');
CREATE ROLE regress_distlock_user;
GRANT SELECT, INSERT ON regress_books TO regress_distlock_user;
SET ROLE regress_distlock_user;
SELECT pg_temp.sqlstate('INSERT INTO regress_books VALUES (8)');
SELECT distlock.do_exclusively('books', '1 min', 'INSERT INTO regress_books VALUES (8)');
RESET ROLE;
DROP TABLE regress_books;
DROP ROLE regress_distlock_user;
