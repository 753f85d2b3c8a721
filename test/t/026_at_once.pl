# Whatever frees a lock wakes who waits for it: the next one has it at once, and not
# when it looks for itself, which it does every second.  It is the median of several
# that counts, since others use the machine, too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $TIMES = 9;
my $AT_ONCE = 0.4;    # seconds; for nothing it would be one, less what it takes to get there

my $node = new_node('main');
my $holder = session($node);
my $waiter = session($node);

# What ends the lock of "key", and when: the last line that is printed is the time
my %ends = (
	'a release' => "SELECT clock_timestamp(), distlock.release('key', 'mine')",
	'a release in a transaction' => <<'EOQ',
BEGIN;
SELECT distlock.release('key', 'mine');
SELECT clock_timestamp();
COMMIT
EOQ
	'a release before and in savepoints' => <<'EOQ',
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT distlock.release('key', 'mine');
RELEASE b;
SAVEPOINT c;
ROLLBACK TO c;
RELEASE a;
SELECT clock_timestamp();
COMMIT
EOQ
	'a release of several' => <<'EOQ',
BEGIN;
SELECT distlock.acquire_with_token('before', 'mine', '1 h'), distlock.acquire_with_token('zulu', 'mine', '1 h');
SELECT distlock.release(k, 'mine') FROM unnest(ARRAY['before', 'key', 'zulu']) k;
SELECT clock_timestamp();
COMMIT
EOQ
	'release_all()' => "SELECT clock_timestamp(), distlock.release_all('mine')",
	'an extend that shortens' => "SELECT distlock.extend('key', 'mine', '50 ms')",
	'an acquisition of its own for a shorter time' => <<'EOQ',
BEGIN;
SELECT distlock.acquire_with_token('key', 'mine', '50 ms');
SELECT expires_at FROM distlock.lock WHERE key = 'key';
COMMIT
EOQ
	'force_release()' => "SELECT clock_timestamp(), distlock.force_release('key')",
	'force_acquire() for a short time' => <<'EOQ',
BEGIN;
SELECT distlock.force_acquire('key', '50 ms');
SELECT expires_at FROM distlock.lock WHERE key = 'key';
COMMIT
EOQ
	'a rollback' => 'SELECT clock_timestamp(); ROLLBACK',
	'scope session: a release' => "SELECT clock_timestamp(), distlock.release('key', 'mine')",
	'scope session: pg_advisory_unlock_all()' => 'SELECT clock_timestamp(), pg_advisory_unlock_all() IS NULL',
	'scope transaction: the commit' => 'SELECT clock_timestamp(); COMMIT');

foreach my $end (sort keys %ends)
{
	my @took;

	for (1 .. $TIMES)
	{
		my ($scope) = $end =~ /^scope (\w+)/;

		$holder->query('BEGIN') if $ends{$end} !~ /BEGIN/ && $ends{$end} =~ /ROLLBACK|COMMIT/;
		$holder->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h', scope => '${\ ($scope // 'lease')}')");
		$waiter->send("SELECT distlock.acquire_with_token('key', 'next', '1 h', wait => '10 min')");
		await_waiters($node, 'key', 1);
		my ($at) = reverse split /\n/, $holder->query($ends{$end});
		$at =~ s/\|.*//;
		$waiter->result;
		push @took, $waiter->query(
			"SELECT extract(epoch FROM acquired_at - '$at') FROM distlock.locks WHERE key = 'key'");
		$waiter->query("SELECT distlock.release('key', 'next')");
	}
	@took = sort { $a <=> $b } @took;
	cmp_ok($took[0], '>=', 0, "$end: the next one has the lock then, not before");
	cmp_ok($took[ @took / 2 ], '<', $AT_ONCE, '... and at once') or diag("@took");
	note sprintf '%s: %.4f to %.4f s, median %.4f', $end, @took[ 0, -1, @took / 2 ];
}

$_->quit foreach $holder, $waiter;
$node->stop;
done_testing();
