-- The trigger function require_lock, used wrongly.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_books (n int);
SELECT distlock.acquire_with_token('books', 'tok', '1 h', scope => 'session') IS NOT NULL AS acquired;
SELECT distlock.require_lock();
CREATE TRIGGER lock AFTER INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('books');
INSERT INTO regress_books VALUES (1);
CREATE OR REPLACE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock();
INSERT INTO regress_books VALUES (1);
CREATE OR REPLACE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('books', 'more');
SELECT pg_temp.sqlstate('INSERT INTO regress_books VALUES (1)') AS two_arguments;
-- keys that cannot be; the argument is text, whatever it looks like
CREATE OR REPLACE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('');
SELECT pg_temp.sqlstate('INSERT INTO regress_books VALUES (1)') AS empty;
DO $$ BEGIN
	EXECUTE format('CREATE OR REPLACE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock(%L)', repeat('k', 513));
END $$;
SELECT pg_temp.sqlstate('INSERT INTO regress_books VALUES (1)') AS too_long;
CREATE OR REPLACE TRIGGER lock BEFORE INSERT ON regress_books FOR EACH ROW EXECUTE FUNCTION distlock.require_lock(12);
SELECT distlock.acquire_with_token('12', 'tok', '1 h', scope => 'session') IS NOT NULL AS acquired;
INSERT INTO regress_books VALUES (1);
-- a view has no rows of its own
CREATE VIEW regress_view AS SELECT * FROM regress_books;
CREATE TRIGGER lock INSTEAD OF INSERT ON regress_view FOR EACH ROW EXECUTE FUNCTION distlock.require_lock('books');
SELECT pg_temp.sqlstate('INSERT INTO regress_view VALUES (1)') AS instead;
-- nor is it there for events
SELECT pg_temp.sqlstate('CREATE EVENT TRIGGER regress_event ON ddl_command_end EXECUTE FUNCTION distlock.require_lock()') AS event;
SELECT distlock.release_all('tok');
DROP TABLE regress_books CASCADE;
