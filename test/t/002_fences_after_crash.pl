# A fence that was shown is never shown again after a crash, be it that it was
# committed, rolled back, or never committed at all; and the fences of a key
# increase from one crash to the next (promise 2).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use IPC::Run ();
use List::Util qw(max uniqnum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $crashes = 10;
my $node = new_node('main', conf => 'synchronous_commit = off');
my @shown;
my @of_key;

sub shown
{
	push @shown, @_;
	return @_;
}

# The very first one, seen in a transaction that the crash undoes
{
	my $first = session($node);

	stop_walwriter($node);
	$first->query("CHECKPOINT; BEGIN");
	shown($first->query("SELECT distlock.acquire_with_token('first', 'one', '1 h')"));
	crash($node);
	start_again($node);
	$first->kill_client;
	shown($node->safe_psql('postgres', "SELECT distlock.acquire_with_token('first', 'two', '1 h')"));
	cmp_ok($shown[1], '>', $shown[0], 'the first fence is not shown again');
}

for my $round (1 .. $crashes)
{
	my $before = max(0, @shown);
	my ($one, $other) = (session($node), session($node));

	# Without this, some other process might flush what should be lost.
	stop_walwriter($node) if $round % 2;
	$_->query('SET distlock.durable = off') foreach $one, $other;

	# Sometimes fewer than a sequence logs ahead, sometimes more.
	my $grants = $round % 3 == 0 ? 40 : 3;
	for my $i (1 .. $grants)
	{
		# A token of its own for each, since a crash may undo a release, and
		# with the holder's token one gets the holder's fence.
		push @of_key,
		  shown($one->query("SELECT distlock.acquire_with_token('key', '$round-$i', '1 h')
			FROM (SELECT distlock.force_release('key') OFFSET 0) f"));
		$one->query("SELECT distlock.release('key', '$round-$i')");
	}
	cmp_ok($shown[-1], '>', $before, "crash $round: fences go on above $before");

	# Shown, and undone
	shown(split /\n/, $one->query(<<'EOQ'));
BEGIN;
SAVEPOINT s;
SELECT distlock.acquire_with_token('undone', 'mine', '1 h');
ROLLBACK TO s;
SELECT distlock.acquire_with_token('undone', 'mine', '1 h');
ROLLBACK;
EOQ

	# Shown in a transaction that the crash finds open, in either way
	$other->query('BEGIN');
	my $fence = $other->query("SELECT distlock.acquire_with_token('open', 'mine', '1 h')");
	is($other->query("SELECT distlock.fence('open', 'mine')"),
		$fence, "crash $round: fence() shows the fence of an open transaction");
	shown($fence);

	$round % 2 ? crash($node) : $node->stop('immediate');
	start_again($node);
	$_->kill_client foreach $one, $other;
}

# A start that was no crash, and the next: fences go on, not far above.
my $last = $shown[-1];
for my $mode ('fast', 'immediate', 'fast')
{
	$node->stop($mode);
	start_again($node);
	my ($fence) = shown(draw($node, 1));
	cmp_ok($fence, '>', $last, "stopped ($mode) and started: the fence goes on");
	cmp_ok($fence, '<', $last + 2 * 65536 + 100, '... in the same epoch');
	push @of_key, $fence;
	$last = $fence;
}

# Within a start they have no gaps but by use, in whatever session.
my @next = map { draw($node, 2) } 1 .. 3;
shown(@next);
cmp_ok($next[-1], '<', $last + 100, 'another session goes on where the last one was');

# In single-user mode, where there is no WAL writer
$node->stop;
my $single = '';
IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ],
	'<', \"SELECT distlock.force_acquire('key', '1 h') IS NULL, distlock.fence('key', 'none') IS NULL, distlock.acquire_with_token('single', 'mine', '1 h') AS fence\n",
	'>', \$single, '2>', \my $single_log);
my ($in_single) = $single =~ /fence = "(\d+)"/;
ok($in_single, 'single-user mode: a lock is granted') or diag("$single$single_log");
shown($in_single // 0);
cmp_ok($shown[-1], '>', $next[-1], '... with a fence above all before');
start_again($node);

push @of_key, shown($node->safe_psql('postgres',
	"SELECT distlock.acquire_with_token('key', 'other', '1 h')
	 FROM (SELECT distlock.force_release('key')) f"));
is(scalar(uniqnum(@shown)), scalar(@shown), 'no fence was shown twice');
is_deeply(\@of_key, [ sort { $a <=> $b } @of_key ], 'the fences of a key increase');

$node->stop;
done_testing();
