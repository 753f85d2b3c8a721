# The worker's memory does not grow, nor does the table, under a load of all
# kinds of locks, most of which are left to lapse.
#
# It is a short test by default:
#	DISTLOCK_LONG=1		an hour instead of 18 seconds

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockEvents;
use DistlockTest;
use DistlockWorker;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $SECONDS = $ENV{DISTLOCK_LONG} ? 3600 : 18;
my $MOST_GROWTH = 1024;    # kB

plan skip_all => 'there is no /proc/PID/smaps' unless -r "/proc/$$/smaps";

my $node = new_node('main',
	conf => preloaded("distlock.purge_after = '1 s'", "distlock.expiry_warning = '40 ms'",
		"distlock.events = 'expired, forced, released'", 'synchronous_commit = off', 'distlock.durable = off',
		'autovacuum = on', 'autovacuum_naptime = 5s'));
my $session = session($node);
my $listener = listener($node);
my $worker = await_worker($session, 'postgres');

# Memory that is the process's own, in kB.  What it has touched of the server's
# shared memory is not, even if nobody else has.
sub private_memory
{
	my ($pid) = @_;
	my ($kb, $private) = (0, 0);

	foreach (split /\n/, slurp_file("/proc/$pid/smaps"))
	{
		$private = $1 eq 'p' if /^[0-9a-f]+-[0-9a-f]+ ...([ps]) /;
		$kb += $1 if $private && /^Private_\w+:\s+(\d+) kB/;
	}
	return $kb;
}

$session->query('CREATE SEQUENCE number CACHE 100');
my $script = "$PostgreSQL::Test::Utils::tmp_check/mixed.sql";
append_to_file($script, <<'EOS');
\set what random(1, 100)
\set key random(1, 500)
\set ttl random(1, 300)
SELECT nextval('number') AS n \gset
\if :what <= 40
	SELECT distlock.try_acquire('again :key', make_interval(secs => :ttl / 1000.0), owner => 'owner :key');
\elif :what <= 60
	SELECT distlock.acquire_with_token('once :n', 'mine', make_interval(secs => :ttl / 1000.0));
\elif :what <= 75
	SELECT distlock.acquire_with_token('released :n', 'mine', '1 min');
	SELECT distlock.try_release('released :n', 'mine');
\elif :what <= 85
	SELECT distlock.acquire_with_token('extended :n', 'mine', '200 ms');
	SELECT distlock.try_extend('extended :n', 'mine', make_interval(secs => :ttl / 1000.0));
\elif :what <= 95
	SELECT distlock.acquire_with_token('session :n', 'mine', '1 ms', scope => 'session');
\elif :what <= 97
	DISCARD ALL;
\elif :what <= 99
	-- 55P03 when somebody in a transaction stands still for a second
	DO 'BEGIN PERFORM distlock.force_release(''again :key''); EXCEPTION WHEN lock_not_available THEN END';
\else
	BEGIN;
	SELECT distlock.acquire_with_token('undone :n', 'mine', '1 ms');
	SELECT pg_sleep(0.01);
	ROLLBACK;
\endif
EOS
# Sessions end, too: pgbench is started again every few seconds.
my $until = time() + $SECONDS;
my (@memory, @rows, @sizes, $events);
my ($load, $output, $errors);
while (time() < $until)
{
	if (!$load)
	{
		$load = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', 3, '-R', 1500, '-f', $script,
				$node->connstr('postgres') ], '>', \$output, '2>', \$errors);
	}
	my ($rows, $size) = split /\|/,
	  $session->query("SELECT count(*), pg_total_relation_size('distlock.lock') FROM distlock.lock");
	push @memory, private_memory($worker);
	push @rows, $rows;
	push @sizes, $size;
	$events += $listener->events;
	sleep 0.5;
	unless ($load->pump_nb && $load->pumpable)
	{
		$load->finish or ok(0, "a load: " . join "\n", grep { /error/ } split /\n/, $errors);
		$load = undef;
	}
}
$load->finish if $load;

my $warm = int(@memory / 3);
my $memory = max(@memory[ 0 .. $warm ]);
note sprintf 'kB of memory: %d at first, %d after warm-up, at most %d later', $memory[0], $memory,
  max(@memory[ $warm .. $#memory ]);
note sprintf '%d events; at most %d rows, %d kB', $events, max(@rows), max(@sizes) / 1024;
cmp_ok(max(@memory[ $warm .. $#memory ]) - $memory, '<', $MOST_GROWTH, "the worker's memory does not grow")
  or diag("@memory");
cmp_ok($events, '>', 100 * $SECONDS, 'there was something to do');
cmp_ok(max(@rows), '<', 15_000, 'the table has few rows') or diag("@rows");
cmp_ok(max(@sizes[ 2 * $warm .. $#sizes ]), '<=', 1.5 * max(@sizes[ 0 .. 2 * $warm ]) + 1024 * 1024,
	'... and does not grow') or diag("@sizes");
await('the table to be empty', sub { $session->query('SELECT count(*) FROM distlock.lock') == 0 });
# Of those who notify, the worker waits a second for the one before it.
like($session->query("SELECT pid = $worker, state, errors, last_error FROM distlock.worker_status WHERE database = 'postgres'"),
	qr/^t\|running\|(?:0\||\d+\|canceling statement due to lock timeout$)/,
	'the same worker, without an error, unless it was kept waiting');
is_deeply([ grep { !/due to lock timeout/ } log_lines($node, 0, qr/\[$worker\] .*ERROR:/) ], [], '... as the log says');

$_->quit foreach $listener, $session;
$node->stop;
done_testing();
