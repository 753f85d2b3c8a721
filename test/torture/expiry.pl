# No lease ends early: neither by others who want the lock nor by the worker.
#
# Keys by the thousand are taken for a moment, under the eyes of those who want them
# next and of the worker, and nobody gives them back.  Each end is judged by the
# decoding slot; holders look at their own lease as long as it is to last.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockJudge;
use DistlockTest;
use DistlockTorture;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $CLIENTS = 4;
my $ROUND = 15;           # seconds, at most
my $KEYS = 20_000;        # of a client

my $run = DistlockTorture->new('expiry', seconds => 10, goals => { expiries => 1_000_000 });
my $EXPIRIES = 500 / $run->slowness;    # a second, at least

my $node = new_node('main', allows_streaming => 'logical', conf => <<'EOC');
shared_preload_libraries = 'distlock'
max_locks_per_transaction = 512
distlock.durable = off
synchronous_commit = off
distlock.purge_after = 1s
log_statement = none
EOC

# Now and then a holder asks how much is left of its lease, and then whether it can
# still be extended, or is still there: it has to be, unless the clock has come to the
# end that it was told.
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE early (key text, told timestamptz, remaining interval);
CREATE PROCEDURE take(client int, keys int, ttl_ms int, seed float8, seconds float8,
	INOUT grants bigint = 0, INOUT refusals bigint = 0)
LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	key text;
	token text;
	told timestamptz;
	remaining interval;
	gone boolean;
BEGIN
	PERFORM setseed(seed);
	WHILE clock_timestamp() < until LOOP
		FOR i IN 1 .. 50 LOOP
			-- Half of them are wanted by others too.
			key := CASE WHEN random() < 0.5 THEN 'all ' || floor(random() * keys / 100)
				ELSE client || ' ' || floor(random() * keys) END;
			token := distlock.try_acquire(key, (1 + random() * ttl_ms) * interval '1 ms');
			IF token IS NULL THEN
				refusals := refusals + 1;
				CONTINUE;
			END IF;
			grants := grants + 1;
			CONTINUE WHEN random() > 0.1;
			told := clock_timestamp();
			remaining := distlock.ttl(key, token);
			CONTINUE WHEN remaining IS NULL;
			IF random() < 0.3 THEN
				gone := distlock.try_extend(key, token, '2 ms') IS NULL;
			ELSE
				gone := distlock.ttl(key, token) IS NULL;
			END IF;
			IF gone AND clock_timestamp() < told + remaining THEN
				INSERT INTO early VALUES (key, told, remaining);
			END IF;
		END LOOP;
		COMMIT;
	END LOOP;
END $$;
EOQ

my $judge = DistlockJudge->new(table => 'distlock.lock');
$judge->start($node, 'judge');

# How many leases have ended by themselves: freed or taken over by others, or freed
# and taken again by the same.
sub expiries
{
	return $judge->count('lapses') + $judge->count('lapsed_takeovers');
}

my $load = 0;
for (my $round = 1; $run->go_on; $round++)
{
	my $left = $run->seconds - $run->elapsed;
	my $time = $left < 1 || $left > $ROUND ? $ROUND : $left;
	my @clients;

	for my $client (1 .. $CLIENTS)
	{
		my $ttl = 1 + int exp rand log 60;
		my $seed = sprintf '%.6f', rand;
		my %client = (out => '', err => '');

		$client{run} = IPC::Run::start(
			[
				'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
				'-c', "CALL take($client, $KEYS, $ttl, $seed, $time)"
			],
			'>', \$client{out}, '2>', \$client{err});
		push @clients, \%client;
	}
	$load += $time;
	my ($grants, $refusals) = (0, 0);
	foreach my $client (@clients)
	{
		ok($client->{run}->finish, "round $round: no error") || diag $client->{err};
		next unless $client->{out} =~ /(\d+)\|(\d+)/;
		$grants += $1;
		$refusals += $2;
	}
	$run->worked($time, grants => $grants, refusals => $refusals);

	# All that are left, too
	$node->poll_query_until('postgres',
		'SELECT NOT EXISTS (SELECT FROM distlock.locks)') or die 'locks are left';
	my $before = expiries();
	$judge->read_changes;
	$run->add(expiries => expiries() - $before);
	is_deeply([ $judge->violations ], [], "round $round: none early, no lock was held twice")
	  or diag $judge->evidence;
}

note $judge->summary;
is($node->safe_psql('postgres', 'SELECT count(*) FROM early'), 0, 'no holder lost a lease early');
cmp_ok($judge->count('lapses'), '>', 0, 'the worker freed leases');
cmp_ok($judge->count('lapsed_takeovers'), '>', 0, 'leases were taken over');
$run->did_enough;
cmp_ok($run->figure('expiries') / $load, '>=', $EXPIRIES, "at least $EXPIRIES expiries a second");
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/,
	'no crash and no internal error');
$run->add(early => $judge->count('early_lapses') + $judge->count('overlaps'));
$node->stop;
$run->finish;
