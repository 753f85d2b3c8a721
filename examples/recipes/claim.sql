-- claim.sql - do any one item that nobody else is doing
--
-- When: an item takes longer than a transaction should, or is worked on outside of
-- the database.  For short work, SELECT ... FOR UPDATE SKIP LOCKED is simpler.
--
-- Promises: an item is claimed by one worker at a time, in one statement, and
-- the workers do not queue up behind the same item.  The item of a worker that dies
-- comes back when its lease ends.  What a worker marks as done was its own to do
-- until that very commit.  Nothing is printed when there is nothing to claim.
--
--	CREATE TABLE item (id bigint PRIMARY KEY, done_by text);
--	psql -d bank -v worker=NAME -v work=FILE -f claim.sql
--
-- FILE, a script for psql, does the item :id, in as many transactions as it
-- likes.  If it may last longer than the ttl, it calls distlock.extend in between.

\set ON_ERROR_STOP on

-- The oldest 100, in random order: more than there are workers.  MATERIALIZED and
-- OFFSET 0 see to it that locks are tried one after the other, until one is granted.
WITH candidate AS MATERIALIZED (
	SELECT id FROM item WHERE done_by IS NULL ORDER BY id LIMIT 100
), attempt AS (
	SELECT id, distlock.try_acquire('item ' || id, ttl => '5 min', owner => :'worker') AS token
		FROM (SELECT id FROM candidate ORDER BY random() OFFSET 0) AS shuffled
		OFFSET 0
)
SELECT id, token, id IS NOT NULL AS claimed
	FROM (SELECT) AS one
	LEFT JOIN (SELECT * FROM attempt WHERE token IS NOT NULL LIMIT 1) AS a ON true \gset

\if :claimed
	-- Others may have done it after the statement above had begun to look.
	SELECT done_by IS NULL AS is_left FROM item WHERE id = :id \gset
	\if :is_left
		\i :work
		BEGIN;
		SELECT distlock.guard('item ' || :id, :'token');
		UPDATE item SET done_by = :'worker' WHERE id = :id;
		SELECT distlock.release('item ' || :id, :'token');
		COMMIT;
	\else
		SELECT distlock.release('item ' || :id, :'token');
	\endif
\endif
