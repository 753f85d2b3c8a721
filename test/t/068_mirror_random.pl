# Whatever sessions do, and whoever of server, worker, Redis and their connection
# dies meanwhile: in the end Redis shows what is held, and at no time has it been
# told a fence older than one before.
#
#	DISTLOCK_LONG=1		10,000 operations instead of 2,000
#	DISTLOCK_SEED		repeat the choices of an earlier run; what comes of
#						them depends on the timing as well

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockMirrorJudge;
use DistlockRedis;
use DistlockStorm;
use DistlockTest;
use DistlockWorker;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

skip_without_redis();

my $OPERATIONS = $ENV{DISTLOCK_LONG} ? 10_000 : 2_000;
my $CLIENTS = 4;
my $TIMES = $ENV{DISTLOCK_LONG} ? 8 : 2;    # of each disaster
my $seed = $ENV{DISTLOCK_SEED} // int(rand(1_000_000));

# Answers to what the sessions do, and what they meet with when the server is
# gone.
my %EXPECTED = map { $_ => 1 } (
	'55P03',             # not granted; pinned
	'LK001',             # not held
	'25000',             # force_acquire in REPEATABLE READ
	'0A000',             # PREPARE with a session's lock
	'25P01', '25P02',    # COMMIT without BEGIN, after an error
	'2D000',             # CALL in a transaction
	'3B001',             # savepoint of a transaction that has failed
	'40001', '40P01',
	'42704',             # COMMIT PREPARED of what somebody else has ended
	'42710',             # PREPARE of the same name
	'55000',             # COMMIT PREPARED while somebody else ends it
	'57014',             # statement_timeout
	'57P01', '57P02', '57P03',
	'P0001');            # raised by the script

my @keys = (
	(map { "key $_" } 1 .. 30),
	'Größe', 'a:b', '50%', '{a}', '%7Ba%3A', '*', "with\nnewline", "quote'd \"twice\"", ' ', 'x' x 512);

my $redis = DistlockRedis->new('main');
my $node = new_node('main', extra => [ '--encoding=UTF8', '--locale=C' ],
	conf => redis_conf($redis, 'restart_after_crash = on', "distlock.redis_timeout = '300 ms'",
		'deadlock_timeout = 50ms', 'max_prepared_transactions = 60', "distlock.purge_after = '500 ms'"));
my $session = steadfast($node);
my $judge = DistlockMirrorJudge->new($redis);
my $storm = DistlockStorm->new($node, size => $CLIENTS, keys => \@keys, seed => $seed);

note "seed $seed";
await_connected($session);
$judge->attach;

# When the server was started, or has started anew after a crash
my $STARTED = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

# ---------------------------------------------------------------------------
# Disasters
# ---------------------------------------------------------------------------

# The process id of some process of the server, undef if there is none.
sub process
{
	my ($condition) = @_;
	my $pid = $session->query("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY random() LIMIT 1");

	return $pid eq '' ? undef : $pid;
}

# Kill a process; when all others have gone with it the server is back.
sub kill_process
{
	my ($condition) = @_;

	await('the server to have started anew', sub {
		my $started = $session->query($STARTED);
		my $pid = process($condition);
		my $until = time() + 2;

		$storm->keep_working;
		return 0 unless defined $pid && kill('KILL', $pid);
		# One that was about to end anyway takes nobody with it.
		until (time() > $until)
		{
			my $last = $session->query($STARTED);

			return 1 if $last ne '' && $last ne $started;
			usleep(20_000);
		}
		return 0;
	});
	return;
}

my $dump = "$redis->{dir}/dump.rdb";

sub restart_redis
{
	$redis->kill9;
	$judge->read_rest;
	unlink $dump if $_[0];
	# PostgreSQL goes on for a moment.
	usleep(rand 300_000);
	$redis->start;
	$judge->attach;
	return;
}

my %DISASTERS = (
	'crash of the server' => sub {
		$node->stop('immediate');
		$node->start;
	},
	'crash of a session' => sub { kill_process("application_name = 'crew'") },
	'crash of the worker' => sub { kill_process("backend_type = 'distlock worker'") },
	'end of the worker' => sub {
		my $pid = process("backend_type = 'distlock worker'");

		kill('TERM', $pid) if defined $pid;
	},
	'crash of Redis, which loses all' => sub { restart_redis(1) },
	'crash of Redis, which comes back with old data' => sub {
		# A moment before the crash, or of the last time
		if (!-e $dump || rand() < 0.5)
		{
			$redis->command('SAVE');
			usleep(rand 200_000);
		}
		restart_redis(0);
	},
	'FLUSHALL' => sub { $redis->command('FLUSHALL') },
	'FLUSHALL in the middle of a load' => sub {
		for (1 .. 5)
		{
			$redis->command('FLUSHDB');
			usleep(rand 30_000);
		}
	},
	'CLIENT KILL' => sub {
		# All but those who watch
		foreach my $line (split /\n/, $redis->command('CLIENT', 'LIST'))
		{
			my ($id) = $line =~ /\bid=(\d+)/;

			next if $line =~ /\bcmd=(?:monitor|client)/i;
			$redis->own->fails('CLIENT', 'KILL', 'ID', $id);
		}
	},
	'Redis hangs' => sub {
		$redis->freeze;
		usleep(100_000 + rand 700_000);
		$redis->thaw;
	});

# Of the lock table: the rows get to other places, or are lost.
my %MAINTENANCE = (
	'VACUUM FULL' => 'VACUUM FULL distlock.lock',
	'TRUNCATE' => 'TRUNCATE distlock.lock');
foreach my $what (keys %MAINTENANCE)
{
	$DISASTERS{$what} = sub {
		await($what, sub {
			$storm->keep_working;
			end_abandoned('0');
			# The server may be about to go.
			return (eval { ($node->psql('postgres', "SET lock_timeout = '1 s'; $MAINTENANCE{$what}"))[0] } // 2) == 0;
		});
	};
}

# A prepared transaction keeps its keys locked until somebody ends it: one way or
# the other, some time after.
sub end_abandoned
{
	my ($after) = @_;

	eval { $node->psql('postgres', <<"EOQ") };
SELECT format('%s PREPARED %L', (ARRAY['ROLLBACK', 'COMMIT'])[1 + (2 * random())::int % 2], gid)
FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '$after' \\gexec
EOQ
	return;
}

# ---------------------------------------------------------------------------
# The storm
# ---------------------------------------------------------------------------

srand($seed);
my @disasters = shuffle((sort keys %DISASTERS) x $TIMES);
my $disasters = @disasters;
my $began = time();
my $looked = 0;
my %done;

while (@disasters || $storm->operations < $OPERATIONS)
{
	$storm->keep_working;
	$judge->read;
	usleep(5_000);
	if (time() - $looked > 0.3)
	{
		end_abandoned('200 ms');
		$looked = time();
	}

	my $due = $OPERATIONS * ($disasters - @disasters + 1) / ($disasters + 1);
	next if !@disasters || $storm->operations < $due;
	my $disaster = shift @disasters;

	# Some hit when the one before is not over yet.
	await_connected($session) if @disasters % 2;
	note sprintf '%.1f s, %d operations: %s', time() - $began, $storm->operations, $disaster;
	$DISASTERS{$disaster}->();
	$done{$disaster}++;
}
$storm->stop;
end_abandoned('0');

note sprintf '%d operations, %.1f s; %d values set, %d keys deleted', $storm->operations, time() - $began,
  $judge->sets, $judge->dels;
note 'errors: ' . join ', ', map { "$_ $storm->{errors}{$_}" } sort keys %{ $storm->errors };
cmp_ok($storm->operations, '>=', $OPERATIONS, "$OPERATIONS operations");
is_deeply(\%done, { map { $_ => $TIMES } keys %DISASTERS }, 'all disasters have happened');
cmp_ok($judge->sets, '>', $OPERATIONS / 10, 'Redis was told of locks');
cmp_ok($judge->dels, '>', $OPERATIONS / 50, '... and of their end');
is_deeply([ grep { !$EXPECTED{$_} && $_ ne 'lost connection' && !/connection to server|the database system is/ }
		sort keys %{ $storm->errors } ], [], 'no unexpected errors');

# ---------------------------------------------------------------------------
# The end: some locks of each kind are held
# ---------------------------------------------------------------------------

my $last = session($node);
$last->query("SET client_min_messages = error");
for my $i (1 .. 30)
{
	$last->query("SELECT distlock.try_acquire('last $i', '1 h', owner => 'last')");
	$last->query("SELECT distlock.try_acquire('last of session $i', '20 s', scope => 'session')");
}
ok(await_connected($last), 'the mirror is connected');
shows_what_is_held($last, $redis, 'in the end');
my $held = held_locks($last);
note scalar(keys %$held) . ' locks are held at the end';
cmp_ok(scalar keys %$held, '>=', 60, 'there was something to compare');
$judge->read;
is_deeply([ $judge->regressions ], [], 'no fence went back');
is($last->query('SELECT conflicts FROM distlock.mirror_status'), 0, 'there are no conflicts');
$last->query("SELECT distlock.force_release(key) FROM distlock.locks");
ok(await_no_differences($last, $redis), 'nothing is left when all is released');
is_deeply($redis->contents, {}, '... but the book');
my $book = 'distlock-mirror:postgres:distlock:postgres:{key}';
ok(eval { await('the book to be empty', sub { $redis->command('HLEN', $book) == 1 }); 1 },
	'... and in the book only the claim') or diag(join ' ', @{ $redis->command('HKEYS', $book) });
$last->quit;
$session->quit;
$node->stop;

unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal (?!9\b)|XX\d{3}|segfault/, 'no crash but those we caused, and no internal error');
done_testing();
