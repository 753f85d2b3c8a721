# However often a connection to Redis ends, in whatever way, nothing is left of it:
# no file, no memory, no process.
#
#	DISTLOCK_LONG=1		1,000 connections instead of 100, more of those that fail

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockProxy;
use DistlockFaults;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

skip_without_redis();
plan skip_all => 'there is no /proc/PID/fd' unless -r "/proc/$$/fd";

my $TIMES = $ENV{DISTLOCK_LONG} ? 1000 : 100;
my $FAILURES = $ENV{DISTLOCK_LONG} ? 60 : 10;
my $MOST_GROWTH = 512;    # kB

my $redis = DistlockRedis->new('main');
my $proxy = DistlockProxy->new(port => $redis->port);
# A name, so that it is resolved each time.
my $url = 'redis://localhost:' . $proxy->port;
my $node = new_node('main', conf => redis_conf($url));
my $session = session($node);

$session->query(<<'EOQ');
SELECT count(distlock.acquire_with_token('held ' || i, 'mine', '1 d')) FROM generate_series(1, 200) i
EOQ
await_connected($session);
my $worker = await_worker($session, 'postgres');

# What a process has: files, what its memory is, processes that it started.
sub files { opendir my $dir, "/proc/$worker/fd" or die "there is no process $worker: $!"; return scalar grep { /\d/ } readdir $dir; }
sub memory { return memory_of($worker)->{RssAnon}; }

sub children
{
	my $file = "/proc/$worker/task/$worker/children";

	return -r $file ? scalar split ' ', slurp_file($file) : 0;
}

# Connected for more times than before, and nothing left to do
sub connected_again
{
	my ($connections) = @_;

	await('a new connection', sub {
		return mirror_status($session, "state = 'connected' AND connections > $connections") eq 't';
	});
	return mirror_status($session, 'connections');
}

# Do it so many times, and see that there is no more of anything than after some
# of them.
sub repeat
{
	my ($name, $times, $code) = @_;
	my $warm = int(0.3 * $times);
	my (@memory, @files);
	my $began = time();

	for my $i (1 .. $times)
	{
		$code->($i);
		next if $i < $warm;
		push @memory, memory();
		push @files, files();
	}
	note sprintf '%s, %d times in %.1f s: memory %d kB, later %d kB; files %d, later %d', $name, $times,
	  time() - $began, $memory[0], $memory[-1], $files[0], $files[-1];
	cmp_ok($memory[-1] - $memory[0], '<', $MOST_GROWTH, "$name: memory does not grow") or diag("@memory");
	# While the worker waits, it has one more.
	cmp_ok(abs($files[-1] - $files[0]), '<=', 1, "$name: no file is left open") or diag("@files");
	is(children(), 0, "$name: no process is left");
	is(await_worker($session, 'postgres'), $worker, "$name: the worker is the same");
	return;
}

my $connections = mirror_status($session, 'connections');

repeat('the connection is ended by Redis or on the way', $TIMES, sub {
	my ($i) = @_;

	if ($i % 2)
	{
		$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	}
	else
	{
		$proxy->reset_all;
	}
	$connections = connected_again($connections);
});

# Each in another place: what a reply is cut off at, or what it says
my @modes = (
	map({ [ 'reset', after => $_ ] } 1, 40, 47, 90, 150, 300),
	[ 'say', text => "*1000\r\n:1\r\n" ],
	[ 'say', text => "\$100000\r\n" . 'x' x 50_000 ],
	[ 'say', text => "-ERR no\r\n" ],
	[ 'say', text => 'garbage' ],
	[ 'extra', text => "*2\r\n+a\r\n\$3\r\nabc\r\n" ],
	[ 'replace', text => "*2\r\n+a\r\n\$3\r\nabc\r\n" ],
	['no port'],
	['refuse'],
	['black hole']);
repeat('a connection does not come about', $FAILURES, sub {
	my ($i) = @_;
	my $errors = mirror_status($session, 'errors');
	my ($mode, @options) = @{ $modes[ $i % @modes ] };

	$proxy->mode($mode, @options);
	await('errors', sub { mirror_status($session, 'errors') > $errors + 1 });
	$proxy->mode('pass');
	$connections = connected_again(0);
});

# The settings are read anew, and there are other mirrors than before; at the end
# as many as at the beginning.
repeat('other mirrors', $TIMES / 5, sub {
	my ($i) = @_;

	foreach my $count (1 + $i % 3, 4)
	{
		change_setting($session, 'distlock.redis_url', join ',', map { "$url/$_" } 1 .. $count);
		await_connected($session, $count);
	}
});

is_deeply([ log_lines($node, 0, qr/PANIC:|TRAP|ERROR:|FATAL:|signal \d/) ], [], 'no errors in the log');
$session->quit;
$proxy->stop;
$node->stop;
done_testing();
