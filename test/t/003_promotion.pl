# The fences of a promoted standby are greater than every fence that was seen
# before, also when the standby never got the WAL of the last ones, and when
# several such standbys are promoted one after the other (promise 2).  Before
# its promotion, a standby can be asked about locks, but not for them.

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
my $primary = new_node('primary', allows_streaming => 1,
	conf => 'wal_keep_size = 256MB');

# A standby of a node.
sub standby_of
{
	my ($node, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	# Not what cut_off() has set
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->backup("for_$name");
	$standby->init_from_backup($node, "for_$name", has_streaming => 1);
	$standby->start;
	return $standby;
}

# The standby gets nothing from the primary any more.
sub cut_off
{
	my ($standby) = @_;

	$standby->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = ''");
	$standby->reload;
	$standby->poll_query_until('postgres',
		'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
	  or die 'the WAL receiver goes on';
	return;
}

# More fences than a sequence logs ahead, from a server or in a session.
sub fences_increase
{
	my ($what, $where) = @_;
	my @fences = draw($where, 40);

	is_deeply([ sort { $a <=> $b } @fences ], \@fences, "$what: fences increase");
	cmp_ok($fences[0], '>', $highest, "$what: they are greater than any before");
	$highest = max($highest, @fences);
	return $fences[0];
}

fences_increase('primary', $primary);
my $sync = standby_of($primary, 'sync');
my $late = standby_of($primary, 'late');
my $later = standby_of($primary, 'later');

$primary->safe_psql('postgres',
	"SELECT distlock.acquire_with_token('held', 'mine', '1 h', owner => 'somebody')");
my $held = $primary->safe_psql('postgres', "SELECT distlock.fence('held', 'mine')");
$primary->wait_for_catchup($_, 'replay', $primary->lsn('flush')) foreach $sync, $late, $later;

# What a standby answers
my $on_sync = session($sync);
my $on_late = session($late);
is($on_late->query("SELECT distlock.fence('held', 'mine'), distlock.is_held('held'),
		distlock.ttl('held', 'mine') BETWEEN '50 min' AND '1 h', distlock.ttl('held', 'other')"),
	"$held|t|t|", 'a standby tells what is held');
is($on_late->query("SELECT key, scope, fence, owner, waiters FROM distlock.locks WHERE key = 'held'"),
	"held|lease|$held|somebody|0", 'the view locks works on a standby');
is($on_late->query('SELECT count(*) FROM distlock.waiters'),
	'0', 'the view waiters works on a standby');
for my $call (
	"SELECT distlock.acquire('k', '1 s')",
	"SELECT distlock.try_acquire('k', '1 s', wait => '1 s')",
	"SELECT distlock.acquire_with_token('held', 'mine', '1 s')",
	"SELECT distlock.try_acquire_with_token('k', 't', '1 s', retry => distlock.linear_backoff('1 s'))",
	"SELECT distlock.extend('held', 'mine')",
	"SELECT distlock.try_extend('held', 'mine')",
	"SELECT distlock.ensure('held', 'mine', '1 h')",
	"SELECT distlock.try_ensure('held', 'mine', '1 h')",
	"SELECT distlock.release('held', 'mine')",
	"SELECT distlock.try_release('held', 'mine')",
	"SELECT distlock.release_all('mine')",
	"SELECT distlock.extend_all('mine', '1 h')",
	"SELECT distlock.force_release('held')",
	"SELECT distlock.force_acquire('held', '1 s')",
	"SELECT distlock.advance_fence()",
	"CALL distlock.purge()")
{
	is($on_late->fails($call), '25006', "standby: $call");
	like($on_late->stderr, qr/HINT:  Connect to the primary server\./, '... with a hint');
}

# A synchronous standby loses nothing, and still its fences are greater.
cut_off($_) foreach $late, $later;
$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'sync'");
$primary->reload;
$primary->poll_query_until('postgres',
	"SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = 'sync'")
  or die 'the standby is not synchronous';
# It is the checkpointer that tells those who commit.
$primary->safe_psql('postgres', 'CHECKPOINT');
fences_increase('primary, with standbys cut off', $primary);
$primary->safe_psql('postgres', "SELECT distlock.acquire_with_token('last', 'mine', '1 h')");
$primary->stop('immediate');

my $highest_before_promotion = $highest;
$sync->promote;
is($on_sync->query("SELECT distlock.is_held('last'), distlock.fence('held', 'mine')"),
	"t|$held", 'synchronous: what was granted is held after the promotion');
my $lowest_of_new = fences_increase('synchronous, in a session from before the promotion', $on_sync);

# The old primary comes up again by mistake, more than once.  It does not repeat a
# fence, but whoever looks at fences goes on to refuse it.
$primary->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''");
my $highest_of_old = $highest_before_promotion;
for my $time (1 .. 3)
{
	$primary->start;
	my @fences = draw($primary, 40);
	cmp_ok($fences[0], '>', $highest_of_old, "old primary, start $time: fences are greater than its own before");
	cmp_ok($fences[-1], '<', $lowest_of_new, '... but less than those of the new one');
	$highest_of_old = $fences[-1];
	$primary->stop('immediate');
}

# Standbys that lack WAL.  Each is promoted without knowing of the others.
$late->promote;
fences_increase('late, in a session from before the promotion', $on_late);
$later->promote;
fences_increase('later', $later);
$_->stop('immediate') foreach $sync, $late;

# Once more, with standbys of the one that was promoted just now.
my @next = (standby_of($later, 'next1'), standby_of($later, 'next2'));
cut_off($_) foreach @next;
fences_increase('the one promoted last', $later);
$later->stop('immediate');
for my $node (@next)
{
	$node->promote;
	fences_increase($node->name, $node);
	$node->stop('immediate');
}

done_testing();
