# pg_cron runs the jobs of examples/recipes/pg_cron.sql in two databases, with its
# background workers and without: in each of them one at a time has the lock, be it
# started by pg_cron, twice, or by somebody else, and the work is done once.
#
# Jobs "@reboot" are what all versions of pg_cron start without a wait for the next
# minute; schedules in seconds came with 1.5.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ACCOUNTS = 300;
my $recipe = "$FindBin::RealBin/../../examples/recipes/pg_cron.sql";
my @databases = ('postgres', 'branch');

chomp(my $libraries = qx(pg_config --pkglibdir));
plan skip_all => 'pg_cron is not installed for this version of PostgreSQL' unless -e "$libraries/pg_cron.so";

# A job has the lock and gets no further, until the gate is opened: a table that a
# prepared transaction has locked, which a restart does not change.
my $work = <<"EOQ";
CREATE EXTENSION distlock;
CREATE TABLE gate ();
CREATE TABLE account (id int PRIMARY KEY, balance numeric NOT NULL, paid boolean NOT NULL DEFAULT false);
INSERT INTO account SELECT i, 100 FROM generate_series(1, $ACCOUNTS) AS i;
CREATE TABLE run (fence bigint, charged int);
CREATE TABLE report ();
CREATE PROCEDURE charge_fees() LANGUAGE plpgsql AS \$\$
DECLARE
	charged int := 0;
BEGIN
	PERFORM FROM gate;
	WHILE EXISTS (SELECT FROM account WHERE NOT paid) LOOP
		COMMIT;
		UPDATE account SET balance = balance - 5, paid = true
			WHERE id IN (SELECT id FROM account WHERE NOT paid LIMIT 100);
		charged := charged + 100;
	END LOOP;
	INSERT INTO run VALUES (distlock.current_fence(), charged);
END \$\$;
CREATE FUNCTION make_report() RETURNS void LANGUAGE sql AS 'INSERT INTO report DEFAULT VALUES';
EOQ

for my $background ('on', 'off')
{
	my $mode = "background workers $background";
	my $node = new_node("workers_$background", extension => 0, conf => <<"EOC");
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = $background
max_worker_processes = 20
EOC
	$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
	$node->restart;
	$node->safe_psql('postgres', 'CREATE DATABASE branch');
	$node->safe_psql($_, $work) foreach @databases;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
	# The recipe, and the same job once more, by mistake, in each database
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', 'other=branch', '-v', 'schedule=@reboot',
		'-f', $recipe, '-d', $node->connstr('postgres') ], "$mode: the recipe");
	$node->safe_psql('postgres', <<'EOQ');
SELECT cron.schedule_in_database('once more in ' || database, schedule, command, database)
FROM cron.job WHERE jobname LIKE 'fees%'
EOQ
	$node->safe_psql($_, "BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate of $_'") foreach @databases;
	$node->restart;

	foreach my $database (@databases)
	{
		# There are two jobs.  (A waiter's position is counted from the head of the queue.)
		$node->poll_query_until($database, "SELECT count(*) = 1 AND min(waiters) = 1 FROM distlock.locks WHERE key = 'fees'")
		  or die "no job waits in $database";
		is($node->safe_psql($database, "SELECT owner, scope FROM distlock.locks WHERE key = 'fees'"), 'pg_cron|session',
			"$mode: one job in $database has the lock, another one waits");
		is(sqlstate($node, $database, "CALL distlock.run_exclusively('fees', '5 min', 'CALL charge_fees()')"), '55P03',
			'... and nobody else has it');
	}
	$node->safe_psql($_, "COMMIT PREPARED 'gate of $_'") foreach @databases;
	$node->poll_query_until('postgres', <<'EOQ', '5|0') or die 'the jobs do not end';
SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed') FROM cron.job_run_details
EOQ
	pass('... in the end, all jobs of both databases have succeeded');
	foreach my $database (@databases)
	{
		is($node->safe_psql($database, 'SELECT DISTINCT balance FROM account'), '95', "... each account in $database was charged once");
		is($node->safe_psql($database, 'SELECT count(DISTINCT fence), string_agg(charged::text, \' \' ORDER BY fence) FROM run'),
			"2|$ACCOUNTS 0", '... by the first job, the second one found nothing left to do');
		is($node->safe_psql($database, "SELECT distlock.is_held('fees')"), 'f', '... and the lock is free');
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM report'), '1', '... the report was made');

	# Again and again
	if ($node->safe_psql('postgres', "SELECT (regexp_match(extversion, '^1\\.(\\d+)'))[1]::int >= 5 FROM pg_extension WHERE extname = 'pg_cron'") eq 't')
	{
		$node->safe_psql('postgres', "UPDATE cron.job SET schedule = '1 second' WHERE jobname LIKE '%fees%' OR jobname LIKE 'once%'");
		foreach my $database (@databases)
		{
			$node->poll_query_until($database, 'SELECT count(*) > 8 FROM run') or die "no jobs in $database";
			is($node->safe_psql($database, "SELECT count(DISTINCT fence) = count(*), sum(charged) FROM run"), "t|$ACCOUNTS",
				"$mode: every second in $database, each with a lock of its own, and nothing is done twice");
		}
	}
	$node->stop;
	unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
}
done_testing();
