# A session that uses up what the limit on disk allows raises it before it gives
# out more: fences on both sides of a limit are not shown again after a crash that
# loses all that nobody has waited for (promise 2).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use List::Util qw(uniqnum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => 'synchronous_commit = off');
my $session = session($node);
my @shown = draw($session, 1);

stop_walwriter($node);
my $limit = $session->query('CHECKPOINT; SELECT last_value FROM distlock.limit_seq');
cmp_ok($limit, '>', $shown[-1] + 1000, 'the limit is far above the fence');

# As if the session had drawn all of them, but for three
$session->query("SELECT setval('distlock.fence_seq', $limit - 3); CHECKPOINT");
$session->query('SET distlock.durable = off; BEGIN');
push @shown, split /\n/, $session->query(<<'EOQ');
SELECT distlock.acquire_with_token('key ' || i, 'mine', '1 h') FROM generate_series(1, 9) i
EOQ
cmp_ok($shown[-1], '>', $limit, 'fences above the limit are given out');
cmp_ok($shown[1], '<', $limit, '... and such as are below');

crash($node);
start_again($node);
$session->kill_client;
push @shown, draw($node, 20);
is(scalar(uniqnum(@shown)), scalar(@shown), 'no fence was shown twice');
is_deeply(\@shown, [ sort { $a <=> $b } @shown ], 'they increase');

$node->stop;
done_testing();
