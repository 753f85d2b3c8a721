# A fence that was shown is never shown again after a crash, be it that it was
# committed, rolled back, or never committed at all; and the fences of a key
# increase from one crash to the next (promise 2).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
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

push @of_key, shown($node->safe_psql('postgres',
	"SELECT distlock.acquire_with_token('key', 'other', '1 h')
	 FROM (SELECT distlock.force_release('key')) f"));
is(scalar(uniqnum(@shown)), scalar(@shown), 'no fence was shown twice');
is_deeply(\@of_key, [ sort { $a <=> $b } @of_key ], 'the fences of a key increase');

$node->stop;
done_testing();
