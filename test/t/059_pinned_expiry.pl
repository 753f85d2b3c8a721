# A lease that is pinned when it expires, by a guard, is neither freed nor announced
# as long as the guarding transaction goes on; as soon as that has ended the worker
# does both, though nobody tells it.

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

$session->query("SELECT distlock.acquire_with_token('pinned', 'mine', '2 s')");
$guard->query("BEGIN; SELECT distlock.guard('pinned', 'mine')");

# The worker has been there when it has ended another lease, later: the next time
# after the first of the two had lapsed.
$session->query("SELECT distlock.acquire_with_token('other', 'mine', '4 s')");
await('the end of the other lease', sub {
	$session->query("SELECT token IS NULL FROM distlock.lock WHERE key = 'other'") eq 't' });
is(told($listener), 'expired other', 'a lease that is pinned past its end is not announced');
is($session->query("SELECT token IS NOT NULL FROM distlock.lock WHERE key = 'pinned'"),
	't', '... nor freed');

$guard->query('COMMIT');
await('the end of the pinned lease', sub {
	$session->query("SELECT token IS NULL FROM distlock.lock WHERE key = 'pinned'") eq 't' });
is(told($listener), 'expired pinned', 'when the guarding transaction has ended, it is, once');

$node->stop;
done_testing();
