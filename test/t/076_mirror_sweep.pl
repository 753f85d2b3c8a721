# A key that Redis does not let us look at when it is to be swept stays in the book:
# so it is found when the rights are there again, and does not outlive its lock
# until its time is over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();
my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf('redis://127.0.0.1:' . $redis->port));
my $session = session($node);
my $book = 'distlock-mirror:postgres:distlock:postgres:{key}';

sub value { return $redis->command('GET', 'distlock:postgres:gone'); }
sub noted { return $redis->command('HEXISTS', $book, 'distlock:postgres:gone'); }

plan skip_all => 'this Redis has no ACL' unless eval { $redis->command('ACL', 'WHOAMI') };
await_connected($session);
$session->query("SELECT distlock.acquire_with_token('gone', 'mine', '1 h')");
await('the key', sub { defined value() });
is(noted(), 1, 'the key is there, and in the book');

# Nobody is there to see the release; then there is no row any more.
$session->query('SELECT distlock.stop_worker()');
$session->query("SELECT distlock.release('gone', 'mine'); CALL distlock.purge()");
$redis->command('ACL', 'SETUSER', 'default', 'resetkeys', '~distlock-mirror:*');
my $began = $session->query('SELECT clock_timestamp()');
$session->query('SELECT distlock.start_worker()');
await('a reconciliation', sub { mirror_status($session, "reconciled_at > '$began'") eq 't' });
$redis->command('ACL', 'SETUSER', 'default', 'allkeys');
ok(defined value(), 'rights are missing: the key is not deleted');
is(noted(), 1, '... and stays in the book');

is($session->query("SELECT problem FROM distlock.mirror_check() WHERE redis_key = 'distlock:postgres:gone'"),
	'surplus', 'mirror_check() finds it');
await('the repair', sub { $session->query('SELECT count(*) FROM distlock.mirror_check()'); !defined value() });
pass('... and has it deleted');

$session->quit;
$node->stop;
done_testing();
