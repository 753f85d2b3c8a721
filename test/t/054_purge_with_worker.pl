# The worker deletes rows of locks that nobody has used for a while, so that the
# table stays small though each key is used but once (promise 10); but none that
# a snapshot may still need, and nobody is granted a lock with a snapshot that is
# older than its last holder's work, though the worker has freed the row since
# (promise 9).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockEvents;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $SECONDS = 4;

my $node = new_node('main',
	conf => preloaded("distlock.purge_after = '500 ms'", 'synchronous_commit = off', 'distlock.durable = off',
		'autovacuum = on', 'autovacuum_naptime = 1s'));
my $session = session($node);

await_worker($session, 'postgres');

sub rows
{
	return $session->query('SELECT count(*) FROM distlock.lock');
}

# Keys that are used once, half of them left to lapse.
my $script = "$PostgreSQL::Test::Utils::tmp_check/once.sql";
$session->query('CREATE SEQUENCE number CACHE 100');
append_to_file($script, <<'EOS');
SELECT nextval('number') AS n \gset
SELECT distlock.acquire_with_token('once :n', 'mine', '100 ms');
\if :n % 2 = 0
	SELECT distlock.try_release('once :n', 'mine');
\endif
EOS
my $load = IPC::Run::start(
	[ 'pgbench', '-n', '-c', 4, '-j', 2, '-T', $SECONDS, '-f', $script, $node->connstr('postgres') ],
	'>', \my $output, '2>', \my $errors);
my ($most, $size, $size_half_way) = (0, 0, 0);
await('the end of the load', sub {
	my ($count, $bytes, $number) = split /\|/,
	  $session->query("SELECT count(*), pg_total_relation_size('distlock.lock'), (SELECT last_value FROM number) FROM distlock.lock");
	$most = $count if $count > $most;
	$size = $bytes if $bytes > $size;
	return !$load->pump_nb || !$load->pumpable });
ok($load->finish, 'a load') or diag($errors);
my ($number) = $output =~ /transactions actually processed: (\d+)/;
my $each_second = $number / $SECONDS;
# A row lives 0.5 s and up to 1 s to share the time with others, and is then
# deleted at the next pass.
note sprintf 'keys used once: %d, at most %d rows, %d kB', $number, $most, $size / 1024;
cmp_ok($most, '<', 3.5 * $each_second + 1000, 'rows: not many more than of the last seconds');
await('the table to be empty', sub { rows() == 0 });
pass('... and none in the end');
my ($purged, $passes) = split /\|/, $session->query("SELECT purged, passes FROM distlock.worker_status WHERE database = 'postgres'");
cmp_ok($purged, '>', 0, "... some deleted by the worker ($purged of $number), others by those who came later");

# An old snapshot: what it may need stays.
my $old = session($node);
$session->query('CREATE TABLE work (who text)');
$session->query("SELECT distlock.acquire_with_token('seen', 'mine', '1 h')");
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM work');
$session->query(<<'EOQ');
INSERT INTO work VALUES ('seen');
SELECT distlock.release('seen', 'mine');
SELECT distlock.acquire_with_token('lapsed', 'mine', '20 ms');
INSERT INTO work VALUES ('lapsed');
EOQ
await_unheld($session, 'lapsed');
my $before = $session->query("SELECT passes FROM distlock.worker_status WHERE database = 'postgres'");
$session->query("SELECT distlock.acquire_with_token('more', 'mine', '1500 ms')");
await_unheld($session, 'more');
cmp_ok($session->query("SELECT passes FROM distlock.worker_status WHERE database = 'postgres'"),
	'>', $before, 'the worker has been at work since');
is($session->query("SELECT string_agg(key, ' ' ORDER BY key) FROM distlock.lock"),
	'lapsed more seen', 'with an old snapshot no row is deleted');
for my $key ('seen', 'lapsed')
{
	$old->query('SAVEPOINT one');
	is($old->fails("SELECT distlock.acquire('$key', '1 h')"), '40001',
		"... so that it is not granted $key without seeing the work of its last holder");
	$old->query('ROLLBACK TO one');
}
$old->query('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->query("SELECT distlock.acquire('lapsed', '1 h') IS NOT NULL, (SELECT count(*) FROM work)"),
	't|2', '... and a newer snapshot does');
$old->query('ROLLBACK');
await('the table to be empty', sub { rows() == 0 });
pass('the rows go when the snapshot has gone');

# The same at random: each transaction in REPEATABLE READ that is granted the lock
# adds a row with the number of rows that it sees.  Had one not seen its
# predecessor's, there would be a number twice.  Leases are left to lapse, and the
# rows are deleted between.
$session->query(<<'EOQ');
ALTER SYSTEM SET distlock.purge_after = 0;
SELECT pg_reload_conf();
CREATE TABLE turn (n bigint);
CREATE TABLE result (what text, keyno int);
CREATE PROCEDURE take_turns(seconds float) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	seen bigint;
BEGIN
	WHILE clock_timestamp() < until LOOP
		COMMIT;
		SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
		SELECT count(*) INTO seen FROM turn;
		PERFORM pg_sleep(0.02 * random() * random());
		BEGIN
			IF distlock.try_acquire('turn', make_interval(secs => 0.001 + 0.004 * random()),
					wait => CASE WHEN random() < 0.5 THEN interval '10 ms' ELSE '0' END) IS NOT NULL THEN
				INSERT INTO turn SELECT count(*) + 1 FROM turn;
				INSERT INTO result VALUES ('granted');
			END IF;
		EXCEPTION WHEN serialization_failure THEN
			INSERT INTO result VALUES ('40001');
		END;
		-- so that rows are free, deleted and missing in turn
		IF random() < 0.02 THEN
			COMMIT;
			PERFORM pg_sleep(0.2);
		END IF;
	END LOOP;
END $$;
EOQ
my @players = map { session($node) } 1 .. 5;
$_->send("CALL take_turns($SECONDS)") foreach @players;
$_->result foreach @players;
is(join(' ', map { $_->sqlstate } @players), '    ', 'transactions in REPEATABLE READ take turns');
my ($turns, $different, $granted, $refused) = split /\|/, $session->query(<<'EOQ');
SELECT (SELECT count(*) FROM turn), (SELECT count(DISTINCT n) FROM turn),
	(SELECT count(*) FROM result WHERE what = 'granted'), (SELECT count(*) FROM result WHERE what = '40001')
EOQ
note "granted $granted, 40001 $refused";
cmp_ok($refused, '>', 0, 'some snapshots were too old');
cmp_ok($granted, '>', 50, '... many were not');
is($different, $turns, 'who was granted the lock has seen all that was done under it before');

$_->quit foreach $session, $old, @players;
$node->stop;
done_testing();
