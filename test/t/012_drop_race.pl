# Whoever uses locks while the extension is being dropped and created gets
# clean errors, never an internal one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = 40;
my $node = new_node('main', conf => 'deadlock_timeout = 50ms');
my @sessions = map { session($node) } 1 .. 4;
my $admin = session($node);
my %seen;
my $internal = '';
my $errors = 0;

# What may happen: the schema or a function is not there (3F000, 42883), the
# extension goes between the call and its work (55000), the locks of both
# sides are taken in opposite order (40P01).  Up to PostgreSQL 18, one thing
# more is beyond our reach: a function that goes between parsing and execution.
my $clean = qr/^(3F000|42883|42P01|55000|40P01)?$/;
my $not_ours = qr/cache lookup failed for (function|type) |could not find tuple for/;

my @calls = (
	"SELECT distlock.try_acquire_with_token('key', 'mine', '1 h', wait => '1 ms') IS NULL",
	"SELECT distlock.try_release('key', 'mine')",
	"SELECT distlock.is_held('key'), distlock.fence('key', 'mine')",
	'SELECT count(*) FROM distlock.locks, distlock.waiters',
	'CALL distlock.purge()',
	"BEGIN; SELECT distlock.try_acquire('other', '1 s') IS NULL; SELECT distlock.advance_fence() > 0; COMMIT");

sub check
{
	my ($session) = @_;

	my $messages = $session->stderr;

	while ($messages =~ /(?:ERROR|FATAL):\s+(\w{5}):\s+(.*)/g)
	{
		my ($sqlstate, $message) = ($1, $2);

		$seen{$sqlstate}++;
		next if $sqlstate eq '25P02' || $sqlstate =~ $clean || $message =~ $not_ours;
		$internal .= "$sqlstate: $message\n";
		diag($messages);
	}
	$errors++ if $session->sqlstate ne '';
	return;
}

# One at a time: a call that has to wait for a DROP, which then commits.
for my $call (
	"SELECT distlock.try_acquire('key', '1 s')",
	"SELECT distlock.try_extend('key', 'mine')",
	"SELECT distlock.try_release('key', 'mine')",
	"SELECT distlock.release_all('mine')",
	"SELECT distlock.ttl('key', 'mine')",
	"SELECT distlock.is_held('key')",
	"SELECT distlock.force_release('key')",
	"SELECT distlock.advance_fence()",
	"CALL distlock.purge()")
{
	my $session = $sessions[0];

	$session->query($call);
	$admin->query('BEGIN; DROP EXTENSION distlock');
	$session->send($call);
	$node->poll_query_until('postgres',
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = " . $session->pid)
	  or die 'it does not wait';
	$admin->query('COMMIT');
	$session->result;
	is($session->sqlstate, '55000', "dropped meanwhile: $call");
	$admin->query('CREATE EXTENSION distlock');
}

for my $round (1 .. $rounds)
{
	my $call = 0;

	# Each has a few calls under way, in an order of its own.
	for my $i (0 .. $#sessions)
	{
		$sessions[$i]->send(
			join ";\n", 'ROLLBACK',
			map { $calls[ ($round + $i + $_) % @calls ] } (1 .. 12));
	}
	$admin->send('DROP EXTENSION distlock');
	$admin->result;
	check($admin);
	$admin->send('CREATE EXTENSION IF NOT EXISTS distlock');
	$admin->result;
	check($admin);
	foreach (@sessions)
	{
		$_->result;
		check($_);
	}
}

is($internal, '', 'no internal errors');
cmp_ok($errors, '>', 5, 'they did meet');
note(join ', ', map { "$_: $seen{$_}" } sort keys %seen);
$admin->query('CREATE EXTENSION IF NOT EXISTS distlock');
for my $session (@sessions)
{
	is($session->query("ROLLBACK; SELECT distlock.force_acquire('key', '1 h') IS NOT NULL"),
		't', 'the session is fine afterwards');
}

$_->quit foreach @sessions, $admin;
$node->stop;
done_testing();
