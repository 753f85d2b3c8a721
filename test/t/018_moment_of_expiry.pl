# A lease is held until the moment that expires_at names, and not in that moment:
# with the clock of the server stopped just there, all functions and the view of
# locks agree on that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1 /usr/lib{,64}/faketime/libfaketime.so.1 '
	  . '/usr/local/lib/faketime/libfaketime.so.1');
plan skip_all => 'libfaketime is not installed' unless $faketime && -e $faketime;

my $node = new_node('main', conf => "distlock.purge_after = '1h'");
my $clock = $node->basedir . '/clock';

# "+0" is the real time; a time of day stops the clock.
sub set_clock
{
	my ($time) = @_;
	my $new = "$clock.new";

	unlink $new;
	append_to_file($new, "$time\n");
	rename($new, $clock) or die "could not set the clock: $!";
	return;
}

$node->stop;
set_clock('+0');
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	local $ENV{TZ} = 'UTC';

	$node->start;
}
my $session = session($node);
my $other = session($node);

# For each function a key of its own, as some of them change what the next would see.
my @verbs = qw(extend ensure release guard again acquire force purge);

sub at
{
	my ($time) = @_;

	set_clock("2040-06-01 $time");
	is($session->query("SELECT clock_timestamp() AT TIME ZONE 'UTC'"), "2040-06-01 $time",
		"it is $time");
	return;
}

# What each says of a key, the token being right: "held" or "free".
sub answers
{
	my ($key) = @_;

	return $session->query(<<EOQ);
SELECT concat_ws(' ',
	CASE WHEN distlock.is_held('$key') THEN 'held' ELSE 'free' END,
	CASE WHEN distlock.ttl('$key', 'mine') > '0' THEN 'held' ELSE 'free' END,
	CASE WHEN distlock.fence('$key', 'mine') > 0 THEN 'held' ELSE 'free' END,
	(SELECT CASE WHEN count(*) = 1 THEN 'held' ELSE 'free' END FROM distlock.locks WHERE key = '$key'));
EOQ
}

at('12:00:00');
$session->query("SELECT distlock.acquire_with_token('before $_', 'mine', '1 h'),
	distlock.acquire_with_token('at $_', 'mine', '1 h')") for ('look', @verbs);
is($session->query("SELECT DISTINCT expires_at AT TIME ZONE 'UTC' FROM distlock.locks"),
	'2040-06-01 13:00:00', 'they end in the same moment');

# What each says while it is held is true.
my %call = (
	extend => "SELECT distlock.try_extend('KEY', 'mine', '1 h') IS NOT NULL",
	ensure => "SELECT distlock.try_ensure('KEY', 'mine', '1 h') IS NOT NULL",
	release => "SELECT distlock.try_release('KEY', 'mine')",
	guard => "SELECT distlock.guard('KEY', 'mine') > 0",
	# with the same fence
	again => "SELECT distlock.try_acquire_with_token('KEY', 'mine', '1 h') = fence
		FROM distlock.lock WHERE key = 'KEY'",
	acquire => "SELECT distlock.try_acquire('KEY', '1 h') IS NULL",
	force => "SELECT distlock.force_release('KEY')",
	purge => "CALL distlock.purge(); SELECT token IS NOT NULL FROM distlock.lock WHERE key = 'KEY'");

# Do it, and take it back; a purge commits by itself.
sub is_held_for
{
	my ($verb, $key) = @_;
	my $sql = $call{$verb} =~ s/KEY/$key/gr;

	$session->query('BEGIN') if $verb ne 'purge';
	$session->send($sql);
	my $answer = $session->result;
	$session->query('ROLLBACK') if $verb ne 'purge';
	return $answer eq 't';
}

at('12:59:59');
is(answers('before look'), 'held held held held', 'before: looks show it as held');
ok(is_held_for($_, "before $_"), "before: held for $_") for @verbs;

at('13:00:00');
is(answers('at look'), 'free free free free', 'in the moment: looks show it as free');
ok(!is_held_for($_, "at $_"), "in the moment: free for $_") for @verbs;

# A snapshot taken in the moment of expiry may be older than the holder's last work.
$other->query("SELECT distlock.acquire_with_token('snapshot', 'mine', '1 h')");
at('14:00:00');
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
is($session->fails("SELECT distlock.acquire('snapshot', '1 h')"),
	'40001', 'in the moment: a snapshot is not young enough');
$session->query('ROLLBACK');
at('14:00:01');
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
is($session->query("SELECT distlock.acquire('snapshot', '1 h') IS NOT NULL"), 't',
	'afterwards: it is');
$session->query('ROLLBACK');

set_clock('+0');
$node->stop;
done_testing();
