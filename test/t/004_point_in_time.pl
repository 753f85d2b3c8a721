# After recovery to a point in time, fences are greater than every fence seen
# before, those after that point included; also after a second recovery to the
# same point (promise 2).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $highest = 0;
my $node = new_node('main', allows_streaming => 1, has_archiving => 1);

sub fences_increase
{
	my ($what, $server) = @_;
	my @fences = draw($server, 40);

	is_deeply([ sort { $a <=> $b } @fences ], \@fences, "$what: fences increase");
	cmp_ok($fences[0], '>', $highest, "$what: they are greater than any before");
	$highest = max($highest, @fences);
	return;
}

sub restore
{
	my ($name) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);

	$server->init_from_backup($node, 'backup', has_restoring => 1, standby => 0);
	$server->append_conf('postgresql.conf', <<'EOC');
recovery_target_name = 'the point'
recovery_target_action = 'promote'
archive_mode = off
EOC
	$server->start;
	$server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
	  or die 'recovery does not end';
	return $server;
}

fences_increase('at first', $node);
$node->backup('backup');
my $epoch = $node->safe_psql('postgres', 'SELECT distlock.advance_fence()');
cmp_ok($epoch, '>=', $highest, 'advance_fence() leaves them all behind');
fences_increase('after the backup', $node);
$node->safe_psql('postgres', "SELECT distlock.acquire_with_token('before', 'mine', '1 h')");
$node->safe_psql('postgres', "SELECT pg_create_restore_point('the point')");
fences_increase('after the point', $node);
$node->safe_psql('postgres', "SELECT distlock.acquire_with_token('after', 'mine', '1 h')");
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->stop;

for my $name ('first', 'second')
{
	my $server = restore($name);

	is($server->safe_psql('postgres',
			"SELECT distlock.is_held('before'), distlock.is_held('after')"),
		't|f', "$name: locks are as they were at the point");
	fences_increase($name, $server);
	$server->stop('immediate');
}

done_testing();
