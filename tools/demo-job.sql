-- demo-job.sql: what one session does in one night; tools/demo starts eight at
-- the same time.  Variables: night, session, me, with_lock, queues, and on, off
-- to make a word stand out.

\set ON_ERROR_STOP on
\o /dev/null

-- The starting gun: all are let go at the same moment.
SELECT pg_advisory_lock_shared(1);

\if :with_lock
	\if :queues
		SELECT clock_timestamp() AS asked_at,
			distlock.acquire('nightly-interest', ttl => '5 s', wait => '60 s', owner => :'me') AS token,
			clock_timestamp() AS answered_at \gset
	\else
		SELECT clock_timestamp() AS asked_at,
			distlock.try_acquire('nightly-interest', ttl => '5 s', owner => :'me') AS token,
			clock_timestamp() AS answered_at \gset
	\endif
	SELECT to_char(:'answered_at'::timestamptz, 'HH24:MI:SS.MS') AS at,
		round(1000 * EXTRACT(epoch FROM :'answered_at'::timestamptz - :'asked_at')) AS waited \gset

	\if :{?token}
		INSERT INTO runs
			SELECT :'night', :session, 'working', :'asked_at', :'answered_at', fence, acquired_at, expires_at
			FROM distlock.locks WHERE key = 'nightly-interest'
			RETURNING fence \gset
		\echo '  ':at' ':me' ':on'has the lock':off' after' :waited 'ms, fence' :fence
	\else
		INSERT INTO runs VALUES (:'night', :session, 'turned away', :'asked_at', :'answered_at');
		\echo '  ':at' ':me' is turned away'
		\quit
	\endif
\else
	INSERT INTO runs VALUES (:'night', :session, 'working');
\endif

-- The job checks, then acts: twice at the same time, it would post twice.
SELECT NOT EXISTS (SELECT FROM ledger WHERE night = :'night') AS is_due \gset
\if :is_due
	BEGIN;
	\if :with_lock
		-- The lock is ours until COMMIT.  If we die, this is undone with the rest:
		-- the lock expires when the 5 seconds of acquire are over.
		SELECT distlock.extend('nightly-interest', :'token', '60 s');
	\else
		\set fence NULL
	\endif
	UPDATE pgbench_branches b SET bbalance = bbalance -
		(SELECT sum(abalance / 100) FROM pgbench_accounts a WHERE a.bid = b.bid);
	INSERT INTO ledger (night, session, fence, accounts, interest)
		SELECT :'night', :session, :fence, count(*), sum(abalance / 100) FROM pgbench_accounts;
	-- The worst moment to die: the branches have paid, no account has got anything.
	SELECT pg_advisory_xact_lock_shared(2);
	UPDATE pgbench_accounts SET abalance = abalance + abalance / 100;
	\set outcome posted
\else
	\set outcome 'nothing to do'
\endif

-- The release takes effect with the work, when the transaction commits.
\if :with_lock
	SELECT clock_timestamp() AS released_at,
		distlock.release('nightly-interest', :'token') AS released \gset
\else
	SELECT clock_timestamp() AS released_at \gset
\endif
\if :is_due
	COMMIT;
\endif

UPDATE runs SET outcome = :'outcome', released_at = :'released_at'
	WHERE night = :'night' AND session = :session
	RETURNING to_char(released_at, 'HH24:MI:SS.MS') AS at \gset
\if :is_due
	\echo '  ':at' ':me' ':on'has posted the interest':off
\else
	\echo '  ':at' ':me' finds it posted: nothing to do'
\endif
