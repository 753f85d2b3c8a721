# A lease that is pinned when it expires, by a guard or by a change that is rolled back
# later, is neither freed nor announced as long as that transaction goes on; as soon as
# it has ended the worker does both, though nobody tells it.

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

my $node = new_node('main', conf => preloaded('distlock.purge_after = 1h'));
my $session = session($node);
my $guard = session($node);
my $worker = await_worker($session, 'postgres');
my $listener = listener($node);

# How the lease is pinned, and how that ends.
my @ways = (
	[ 'by a guard', "SELECT distlock.guard('KEY', 'mine')", 'COMMIT' ],
	[ 'by an extension', "SELECT distlock.extend('KEY', 'mine', '1 h')", 'ROLLBACK' ],
	[ 'by a release', "SELECT distlock.release('KEY', 'mine')", 'ROLLBACK' ]);

for my $way (@ways)
{
	my ($how, $pin, $end) = @$way;
	my $key = "pinned $how";

	$session->query("SELECT distlock.acquire_with_token('$key', 'mine', '3 s')");
	$guard->query('BEGIN; ' . $pin =~ s/KEY/$key/r);

	# The worker has been there when it has ended another lease, later: the next time
	# after the first of the two had lapsed.
	$session->query("SELECT distlock.acquire_with_token('other', 'mine', '4 s')");
	await('the end of the other lease', sub {
		$session->query("SELECT token IS NULL FROM distlock.lock WHERE key = 'other'") eq 't' });
	is(told($listener), 'expired other', "pinned $how past its end: not announced");
	is($session->query("SELECT token IS NOT NULL FROM distlock.lock WHERE key = '$key'"),
		't', '... nor freed');

	$guard->query($end);
	await('the end of the pinned lease', sub {
		$session->query("SELECT token IS NULL FROM distlock.lock WHERE key = '$key'") eq 't' });
	is(told($listener), "expired $key", '... but once, when the transaction has ended');
}

$node->stop;
done_testing();
