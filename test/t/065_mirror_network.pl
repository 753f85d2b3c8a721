# Whatever is on the way to Redis: sessions do not notice, the worker stays, can
# be ended at once, says what is wrong, and two seconds after the fault has ended
# Redis has what it should.
#
#	DISTLOCK_LONG=1		what has no natural length lasts 30 s instead of 3

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockFaults;
use DistlockProxy;
use DistlockRedis;
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $LENGTH = $ENV{DISTLOCK_LONG} ? 30 : 3;

my $redis = DistlockRedis->new('main');
my $proxy = DistlockProxy->new(port => $redis->port);
my $node = new_node('main', conf => redis_conf('redis://127.0.0.1:' . $proxy->port));
my $faults = DistlockFaults->new($node, $redis);

sub fault { return $faults->proxy_fault($proxy, @_); }

fault('nothing is passed on', ['black hole'], length => $LENGTH, error => qr/no answer/);
fault('... nor ever will be on those connections', [ 'black hole', dead => 1 ], error => qr/no answer/);
fault('connections hang', ['hang'], length => $LENGTH, error => qr/no answer/);
# By a reset, if something was sent that nobody has read
fault('connections are closed', ['refuse'], error => qr/clos|reset|pipe/i);
fault('connections are refused', ['no port'], error => qr/refused|reset/i);
fault('one byte a second', ['slow'], length => $LENGTH, error => qr/no answer/);
# In the first reply of a connection, and in one that comes later: then it may
# look well for a moment.
fault('reset in the middle of a reply', [ 'reset', after => 10 ], error => qr/reset|clos/i);
fault('reset in the middle of a later reply', [ 'reset', after => 400 ],
	state => 'disconnected|connecting|reconciling', lines => undef, error => qr/reset|clos/i);
fault('the other side stops speaking', [ 'half close', after => 10 ], error => qr/reset|clos/i);

$faults->finish;
$proxy->stop;
$node->stop;
done_testing();
