# A lock that is reserved since a crash, for the token of a session that has
# gone, says so: its time left runs down, as everybody can see.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $holder = session($node);
$holder->query(
	"SELECT distlock.acquire_with_token('key', 'mine', '1 h', scope => 'session')");
$node->restart;
$holder->quit;
of_walwriter($node, 'pid');

my $session = session($node);
my $end = "((SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'walwriter') + interval '1 h')";
is($session->query("SELECT clock_timestamp() + distlock.ttl('key', 'mine') - $end BETWEEN '-1 s' AND '1 s'"),
	't', 'ttl() is the time left');
is($session->query(<<"EOQ"), 't|t|', 'the view locks shows when it ends, and no client');
SELECT expires_at = $end, remaining_ms BETWEEN 3000000 AND 3600000, application_name
FROM distlock.locks WHERE key = 'key'
EOQ
$session->fails("SELECT distlock.acquire('key', '1 s')");
unlike($session->stderr, qr/as long as that session lives/, 'a refusal does not speak of a session that lives');
like($session->stderr, qr/DETAIL:.* ms/, '... but of the time left');
is($session->query(
		"SELECT distlock.extend('key', 'mine', '2 h') - clock_timestamp() BETWEEN '1 h 50 min' AND '2 h',
			distlock.ttl('key', 'mine') BETWEEN '1 h 50 min' AND '2 h'"),
	't|t', 'it can be extended');

$session->quit;
$node->stop;
done_testing();
