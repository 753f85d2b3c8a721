# Who waits is served in the order of arrival; and a waiter that is cancelled or
# terminated, or whose client has gone, gets no lock, stalls nobody and leaves
# no trace (promise 7).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main');
my $token = "'of ' || pg_backend_pid()";
my $acquire = "SELECT distlock.try_acquire_with_token('key', $token, '1 h', wait => '150 s')";
my $release = "SELECT distlock.release('key', $token)";

# Twenty in a row.  Each lets go at once.
hold_key($node);
my @all = queue_up($node, 20, "$acquire;\n$release");
my @pids = map { $_->pid } @all;
is($node->safe_psql('postgres',
		"SELECT string_agg(pid::text, ' ' ORDER BY position), min(position), max(position)
		 FROM distlock.waiters WHERE key = 'key'"),
	"@pids|1|20", 'the view waiters shows them in order');
is($node->safe_psql('postgres', "SELECT waiters FROM distlock.locks WHERE key = 'key'"),
	'20', 'the view locks counts them');
is($node->safe_psql('postgres',
		"SELECT count(*), bool_and(application_name = current_setting('application_name')
			AND role = current_user
			AND waiting_since < clock_timestamp()
			AND wait_until - waiting_since = '150 s') FROM distlock.waiters"),
	'20|t', 'and tells who they are and since and until when they wait');
let_go_of_key($node);
my @fences = map { ($_->result =~ /^(\d+)$/m)[0] } @all;
is(scalar(grep { $_->sqlstate ne '' || !defined } @all), 0, 'twenty waiters: all are served');
is_deeply([ sort { $a <=> $b } @fences ], \@fences, 'in the order of their arrival');
is(traces($node), '', 'and leave no trace');
$_->quit foreach @all;

# What becomes of one that has to go, and of those behind it.  The first, the
# middle one of five; how; and the SQLSTATE it ends with.
for my $case (
	[ 'cancelled', 'SELECT pg_cancel_backend(%d)', '57014' ],
	[ 'terminated', 'SELECT pg_terminate_backend(%d)', '57P01' ],
	[ 'client gone', undef, undef ])
{
	my ($what, $sql, $sqlstate) = @$case;

	for my $place (0, 2)
	{
		my $who = $place == 0 ? "$what: the head" : "$what: one in the middle";

		hold_key($node);
		my @waiters = queue_up($node, 5, $acquire);
		my ($victim) = splice @waiters, $place, 1;
		my $began = time();

		if ($sql)
		{
			$node->safe_psql('postgres', sprintf($sql, $victim->pid));
			$victim->result;
			is($victim->sqlstate, $sqlstate, "$who ends with $sqlstate");
			cmp_ok(time() - $began, '<', 60, '... at once');
			await_waiters($node, 'key', 4);
		}
		else
		{
			$victim->kill_client;
		}
		let_go_of_key($node);

		# The others are served, in their order.
		my @order;
		for my $next (@waiters)
		{
			push @order, $next->result;
			$next->query($release);
		}
		is(scalar(@order), 4, "$who: the others are served");
		is_deeply([ sort { $a <=> $b } @order ], \@order, '... in order');
		cmp_ok(time() - $began, '<', 100, '... and soon');
		if (!$sql)
		{
			await('the session to end', sub { connected($node, $victim->pid) == 0 });
			is($node->safe_psql('postgres', "SELECT distlock.is_held('key')"),
				'f', '... and it has got no lock');
		}
		is(traces($node), '', '... and nothing is left');
		$_->quit foreach $victim, @waiters;
	}
}

# A head whose client goes is noticed without anybody letting go.
hold_key($node);
my ($head) = queue_up($node, 1, $acquire);
$head->kill_client;
await_waiters($node, 'key', 0);
becomes(sub { connected($node, $head->pid) }, 0, 'client gone: the head ends by itself');

$node->stop;
done_testing();
