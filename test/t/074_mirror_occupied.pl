# Two servers that are given the same Redis, with databases of the same name: the
# second is told so, and does not touch what the first has there.  If the first has
# gone for good, advance_fence() lets the second have it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $first = new_node('first', conf => redis_conf($redis, "distlock.redis_timeout = '20s'"));
my $second = new_node('second', conf => redis_conf($redis));
my $session = session($first);
my $other = session($second);

# The mirror of a server cannot connect, for a reason.
sub is_refused
{
	my ($where, $reason, $name) = @_;

	await($name, sub {
		return $where->query("SELECT state = 'disconnected' AND last_error ~ '$reason' FROM distlock.mirror_status") eq 't';
	});
	return pass($name);
}

$session->query('CREATE EXTENSION IF NOT EXISTS distlock');
await_connected($session);
$session->query("SELECT distlock.acquire('of the first', '1 h')");
is_mirrored($redis, $session, 'the first server has it');

$other->query('CREATE EXTENSION IF NOT EXISTS distlock');
is_refused($other, 'another server writes this mirror', 'the second does not get it');
$other->query("SELECT distlock.acquire('of the second', '1 h')");

# For several of its tries
my $errors = $other->query('SELECT errors FROM distlock.mirror_status');
await('more tries', sub { $other->query("SELECT errors > $errors + 3 FROM distlock.mirror_status") eq 't' });
is_mirrored($redis, $session, '... whatever it tries');
is(mirror_status($session, 'errors, connections'), '0|1', '... which the first does not notice');

# The first is gone, and will not come back.
$session->quit;
$first->stop;
$other->query('SELECT distlock.advance_fence()');
await_connected($other);
is_mirrored($redis, $other, 'with a new epoch the second has it');
$first->start;
$session = session($first);
is_refused($session, 'newer epoch', '... and the first is refused');

done_testing();
