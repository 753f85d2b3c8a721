# What is in Redis is true: what was rolled back never shows, fences never go
# back, what is released goes at once and what is held does not go, also while
# somebody holds on to an old snapshot, and whatever happened while the worker or
# Redis was away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockMirrorJudge;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf($redis));
my $session = session($node);
my $prefix = 'distlock:postgres:';
my $judge = DistlockMirrorJudge->new($redis);

await_connected($session);
$judge->keep_all;
$judge->attach;

sub exists_now
{
	my ($key) = @_;

	return $redis->command('EXISTS', "$prefix$key");
}

# Wait until the key is in Redis, or is not; returns how long that took.
sub await_key
{
	my ($key, $wanted) = @_;
	my $began = time();

	# As often as possible, since the time is of interest.
	await("\"$key\" to be " . ($wanted ? 'there' : 'gone'), sub {
		for (1 .. 200)
		{
			return 1 if exists_now($key) == $wanted;
		}
		return 0;
	});
	return time() - $began;
}

sub acquire
{
	my ($key, $ttl) = @_;

	return $session->query(
		"SELECT distlock.acquire_with_token('$key', 'mine', '$ttl', owner => 'me')");
}

sub release
{
	my ($key) = @_;

	return $session->query("SELECT distlock.release('$key', 'mine')");
}

# Take the rows of these keys out of the table of locks.
sub purge
{
	my $keys = join ', ', map { "'$_'" } @_;

	await('purge to take the rows', sub {
		$session->query('CALL distlock.purge()');
		return $session->query("SELECT count(*) FROM distlock.lock WHERE key IN ($keys)") eq '0';
	});
	return;
}

# ---------------------------------------------------------------------------
# What was rolled back never shows
# ---------------------------------------------------------------------------

my $ROUNDS = 15;
my $CLIENTS = 3;
# Each client has its own, since the holder's token is granted the same fence again.
my $TOKEN = 'a secret that is told to nobody';

# Locks that stay while others try to change them and take it back.
my %kept = map { ("kept $_" => acquire("kept $_", '1 h')) } 1 .. $CLIENTS;
await_key($_, 1) foreach keys %kept;

# All that a client does.  It says "undone" or "done" and the fence of each grant;
# "undone" keys are used for such grants only.
sub script_of
{
	my ($client) = @_;
	my $token = "$TOKEN, $client";
	my @lines;

	for my $round (1 .. $ROUNDS)
	{
		my $undone = "'undone $client." . ($round % 4) . "'";
		my $mixed = "'mixed " . ($round % 5) . "'";
		my $kept = "'kept $client'";
		my $try = sub {
			my ($what, $key, $more) = @_;

			return "SELECT '$what ' || distlock.try_acquire_with_token($key, '$token', '1 h'"
			  . ($more // '') . ");";
		};

		push @lines,
		  # Rolled back as a whole
		  'BEGIN;', $try->('undone', $undone), $try->('undone', $mixed), 'ROLLBACK;',
		  'BEGIN;', $try->('undone', $undone, ", scope => 'session'"), 'ROLLBACK;',
		  # To a savepoint, the rest is committed
		  'BEGIN;', 'SAVEPOINT s;', $try->('undone', $undone), $try->('undone', $mixed),
		  'ROLLBACK TO s;', $try->('done', $mixed), 'COMMIT;',
		  "SELECT distlock.try_release($mixed, '$token');",
		  # By an error
		  'BEGIN;', $try->('undone', $undone), 'SELECT 1 / 0;', 'COMMIT;',
		  # In a statement that fails; in one that goes on
		  "DO \$\$ BEGIN RAISE EXCEPTION 'undone %', distlock.acquire_with_token($undone, '$token', '1 h'); END \$\$;",
		  "DO \$\$ DECLARE f bigint; BEGIN BEGIN f := distlock.acquire_with_token($undone, '$token', '1 h');",
		  'RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END;',
		  "RAISE NOTICE 'undone %', f; END \$\$;",
		  # Prepared
		  'BEGIN;', $try->('undone', $undone), "PREPARE TRANSACTION 'p$client';",
		  "ROLLBACK PREPARED 'p$client';",
		  # What is held: taken over, released and acquired anew, extended
		  'BEGIN;', "SELECT distlock.force_acquire($kept, '1 h') AS token \\gset",
		  "SELECT 'undone ' || distlock.fence($kept, :'token');", 'ROLLBACK;',
		  'BEGIN;', "SELECT distlock.release($kept, 'mine');", $try->('undone', $kept), 'ROLLBACK;',
		  'BEGIN;', "SELECT distlock.release($kept, 'mine');", 'SELECT pg_sleep(0.002);', 'ROLLBACK;',
		  "BEGIN; SELECT distlock.extend($kept, 'mine', '2 h'); SELECT pg_sleep(0.002); ROLLBACK;",
		  # Those are to be seen
		  $try->('done', "'done $client.$round'");
	}
	# The session is ended, and its transaction with it.
	push @lines, 'BEGIN;', "SELECT 'undone ' || distlock.acquire_with_token('undone $client.0', '$token', '1 h');",
	  'SELECT pg_terminate_backend(pg_backend_pid());';
	return join "\n", @lines, '';
}

my $said = '';
my @clients = map {
	my %client = (script => script_of($_), out => '', err => '');
	$client{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$client{script}, '>', \$client{out}, '2>', \$client{err});
	\%client;
} 1 .. $CLIENTS;
while (grep { $_->{run}->pumpable } @clients)
{
	$_->{run}->pump_nb foreach grep { $_->{run}->pumpable } @clients;
	usleep(1000);
}
foreach my $client (@clients)
{
	# psql fails when its session is terminated.
	eval { $client->{run}->finish };
	like($client->{err}, qr/terminating connection/, 'a client was there to its end');
	$said .= $client->{out} . $client->{err};
}

# A client that goes without a word
my $goner = session($node);
$said .= 'undone ' . $goner->query("BEGIN; SELECT distlock.acquire_with_token('undone 1.0', '$TOKEN', '1 h')") . "\n";
$goner->kill_client;
await('its session to end', sub { connected($node, $goner->pid) == 0 });

my @undone = $said =~ /\bundone (\d+)/g;
my @done = $said =~ /^done (\d+)/mg;

acquire('the last one', '1 h');
await_key('the last one', 1);
shows_what_is_held($session, $redis, 'rolled back');
$judge->read;
note scalar(@undone) . ' grants undone, ' . scalar(@done) . ' committed; ' . $judge->sets . ' values set';
cmp_ok(scalar @undone, '>=', 7 * $CLIENTS * $ROUNDS, 'many grants were undone');
is_deeply([ map { "$_: " . $judge->saw($_) } grep { $judge->saw($_) } @undone ],
	[], 'what was rolled back was never set in Redis');
my @undone_keys = map { my $client = $_; map { "undone $client.$_" } 0 .. 3 } 1 .. $CLIENTS;
my @done_keys = map { my $client = $_; map { "done $client.$_" } 1 .. $ROUNDS } 1 .. $CLIENTS;
is_deeply([ grep { $judge->history("$prefix$_") } @undone_keys ], [], '... nor were the keys of it');
is_deeply([ grep { !$judge->history("$prefix$_") } @done_keys ], [], 'what was committed was');
foreach my $key (sort keys %kept)
{
	is($judge->saw($kept{$key}), "$prefix$key", "\"$key\" was set");
	is_deeply([ grep { $_ != $kept{$key} } $judge->history("$prefix$key") ],
		[], '... to its own fence only, and never deleted');
}
ok(!$judge->has_said($TOKEN), 'the token was not told to Redis');
is_deeply([ $judge->regressions ], [], 'no fence went back');

# ---------------------------------------------------------------------------
# Fences never go back, also of keys that are fought over
# ---------------------------------------------------------------------------

my $script = "$PostgreSQL::Test::Utils::tmp_check/fight.sql";
append_to_file($script, <<'EOS');
\set what random(1, 100)
\set key random(1, 3)
\set ttl random(5, 60)
\if :what <= 80
	SELECT distlock.try_acquire_with_token('hot :key', 'c:client_id', make_interval(secs => :ttl / 1000.0), '20 ms');
	SELECT pg_sleep(0.001 * (:ttl / 4));
	SELECT distlock.try_release('hot :key', 'c:client_id') WHERE :what <= 60;
\elif :what <= 90
	SELECT distlock.force_release('hot :key');
\else
	SELECT distlock.force_acquire('hot :key', make_interval(secs => :ttl / 1000.0));
\endif
EOS
my $before = $judge->sets;
my ($ignored, $failures) = ('', '');
my $fight = IPC::Run::start([ 'pgbench', '-n', '-c', 6, '-T', 4, '-f', $script, $node->connstr('postgres') ],
	'>', \$ignored, '2>', \$failures);
while ($fight->pumpable)
{
	$fight->pump_nb;
	$judge->read;
	usleep(20_000);
}
$fight->finish;
# force_ does not wait for ever behind others: 55P03
unlike($failures, qr/ERROR:  (?!.*55P03|.*lock)/, 'the clients met with no other errors');
shows_what_is_held($session, $redis, 'fought over');
$judge->read;
note $judge->sets - $before . ' values set of 3 keys that are fought over';
cmp_ok($judge->sets - $before, '>', 100, 'fought over: they were seen');
is_deeply([ $judge->regressions ], [], '... and no fence went back');

# ---------------------------------------------------------------------------
# A release takes the key away
# ---------------------------------------------------------------------------

my (@came, @went);
my @fences;
for (1 .. 50)
{
	push @fences, acquire('again', '1 h');
	push @came, await_key('again', 1);
	release('again');
	push @went, await_key('again', 0);
}
$judge->read;
# To do the same again does no harm.
my @history = $judge->history($prefix . 'again');
is_deeply([ map { $history[$_] } grep { $_ == 0 || $history[$_] != $history[ $_ - 1 ] } 0 .. $#history ],
	[ map { ($_, 0) } @fences ], 'each grant was set, and deleted before the next one');
@came = sort { $a <=> $b } @came;
@went = sort { $a <=> $b } @went;
note sprintf 'ms until a grant shows: median %.1f, at most %.1f; until a release does: %.1f, %.1f',
  map { 1000 * $_ } $came[25], $came[-1], $went[25], $went[-1];

# The worker is woken and does not find it when it looks for something else, which
# is several times a second.
cmp_ok($came[25], '<', 0.1, 'a grant shows at once');
cmp_ok($went[25], '<', 0.1, '... and so does a release');

# Other ways to lose a lock
acquire('again', '1 h');
await_key('again', 1);
$session->query("SELECT distlock.force_release('again')");
ok(defined await_key('again', 0), 'force_release takes it away');
acquire('again', '1 h');
await_key('again', 1);
$session->query("SELECT distlock.extend('again', 'mine', '1 ms')");
ok(defined await_key('again', 0), 'so does an extend that shortens');
my $holder = session($node);
$holder->query("SELECT distlock.acquire_with_token('again', 'mine', '1 h', scope => 'session')");
await_key('again', 1);
$holder->quit;
ok(defined await_key('again', 0), 'so does the end of the session');
$session->query("BEGIN; SELECT distlock.acquire_with_token('again', 'mine', '1 h'); PREPARE TRANSACTION 'p'");
acquire('later', '1 h');
await_key('later', 1);
is(exists_now('again'), 0, 'what is prepared does not show');
$session->query("COMMIT PREPARED 'p'");
ok(defined await_key('again', 1), '... until it is committed');
$session->query("BEGIN; SELECT distlock.release('again', 'mine'); PREPARE TRANSACTION 'p'");
release('later');
await_key('later', 0);
is(exists_now('again'), 1, 'a release that is prepared does not show');
$session->query("COMMIT PREPARED 'p'");
ok(defined await_key('again', 0), '... until it is committed');

# The row may be gone before the worker comes to look at it.
acquire($_, '1 h') foreach 'purged', 'purged and acquired anew';
await_key($_, 1) foreach 'purged', 'purged and acquired anew';
my $worker = await_worker($session, 'postgres');
stop_resting($worker);
release($_) foreach 'purged', 'purged and acquired anew';
purge('purged', 'purged and acquired anew');
my $anew = acquire('purged and acquired anew', '1 h');
kill('CONT', $worker) == 1 or die 'could not continue the worker';
ok(defined await_key('purged', 0), 'released and purged: it goes');
await('the new grant', sub { fence_of($redis->command('GET', "${prefix}purged and acquired anew")) == $anew });
pass('... and what was granted anew shows');

# No session tells the worker of COMMIT PREPARED, and who deletes the row must not do so
# before it has looked again.  It is not on the page of new rows, whose writers mark it.
sub restart_worker
{
	$session->query('SELECT distlock.stop_worker()');
	$session->query('SELECT distlock.start_worker()');
	await_connected($session);
	return;
}

change_setting($session, 'distlock.purge_after', '0');
my $new = 0;
my %purges = (
	'a session' => sub { acquire('new ' . ++$new, '1 h') foreach 1 .. 100 },
	'purge()' => sub { $session->query('CALL distlock.purge()') });
foreach my $case (map { ([ $_, 0 ], [ $_, 1 ]) } sort keys %purges)
{
	my ($who, $new_worker) = @$case;
	my $name = "purged by $who" . ($new_worker ? ', new worker' : '');

	acquire($name, '1 h');
	await_key($name, 1);
	$session->query(<<"EOQ");
SELECT distlock.acquire_with_token('$name, full ' || i, 'mine', '1 h', owner => repeat('x', 200))
FROM generate_series(1, 200) i
EOQ
	$session->query("BEGIN; SELECT distlock.release('$name', 'mine'); PREPARE TRANSACTION 'p'");
	restart_worker() if $new_worker;
	# Purging may have made room on that page.
	my ($pages, $last);
	for my $i (1 .. 200)
	{
		$last = "$name, last $i";
		acquire($last, '1 h');
		$pages = $session->query(<<"EOQ");
SELECT count(DISTINCT (ctid::text::point)[0]) FROM distlock.lock WHERE key IN ('$name', '$last')
EOQ
		last if $pages == 2;
	}
	await_key($last, 1);
	is($pages, 2, "$name: not on the page of new rows");
	$worker = await_worker($session, 'postgres');
	stop_resting($worker);
	$session->query("COMMIT PREPARED 'p'");
	$purges{$who}->();
	kill('CONT', $worker) == 1 or die 'could not continue the worker';
	ok(defined await_key($name, 0), "$name: it goes");
	await('the row to be purged', sub {
		$purges{$who}->();
		return $session->query("SELECT count(*) FROM distlock.lock WHERE key = '$name'") eq '0';
	});
}
change_setting($session, 'distlock.purge_after', '10 s');

# ---------------------------------------------------------------------------
# What is held does not go away: leases that are kept alive by heart-beats, and
# a lock of a session, whose time in Redis (10 s) has to be renewed
# ---------------------------------------------------------------------------

my $WATCH = 12;       # seconds
my $TTL = 4;          # seconds, of leases that are extended
my $MARGIN = 2;       # seconds that a machine may take to do something
my @beating = map { "beat $_" } 1 .. 20;
my $report = "$PostgreSQL::Test::Utils::tmp_check/watch";

# Look at keys as often as possible, in a process of its own, until told to end.
sub watch
{
	my (@keys) = @_;
	my $pid = fork() // die "could not fork: $!";
	return $pid if $pid;

	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	my $ok = eval {
		my $client = $redis->client;
		my (%seen, @gaps);
		my $looks = 0;

		until ($stop)
		{
			my @there = eval { $client->pipeline(map { [ 'EXISTS', "$prefix$_" ] } @keys) };

			# The signal may have interrupted it.
			last if $stop;
			die $@ if $@ ne '';
			$looks++;
			for my $i (0 .. $#keys)
			{
				$seen{ $keys[$i] } = 1 if $there[$i];
				push @gaps, sprintf 'gap %s at %.3f', $keys[$i], time()
				  if !$there[$i] && $seen{ $keys[$i] } && @gaps < 100;
			}
		}
		append_to_file($report, join("\n", "looks $looks", 'seen ' . keys(%seen), @gaps) . "\n");
		1;
	};
	append_to_file($report, "error $@") unless $ok;
	# The servers are none of its business.
	POSIX::_exit(0);
}

# There would be nothing else in what Redis tells.
$judge->detach;
$holder = session($node);
my $watcher = watch(@beating, 'of a session');
$holder->query("SELECT distlock.acquire_with_token('of a session', 'mine', '1 s', scope => 'session')");
my %end;      # of each lease, or somewhat before
my @late;     # heart-beats: key, from when, until when
foreach my $key (@beating)
{
	$end{$key} = time() + $TTL;
	acquire($key, "$TTL s");
}
my $until = time() + $WATCH;
my ($beats, $beat) = (0, time());
while (time() < $until)
{
	# Each in a transaction of its own, half of them later than the others.
	$beat += 0.15;
	usleep(1_000_000 * ($beat - time())) if $beat > time();
	my @half = grep { substr($_, -1) % 2 == $beats % 2 } @beating;
	my @ends = split /\n/, $session->query(join ';',
		map { "SELECT extract(epoch FROM distlock.try_extend('$_', 'mine'))" } @half), -1;

	for my $i (0 .. $#half)
	{
		my ($key, $end) = ($half[$i], $ends[$i]);

		if ($end eq '')
		{
			$end = time() + $TTL;
			acquire($key, "$TTL s");
		}
		# On a slow machine the lease may have expired by then, or before Redis
		# could be told.
		push @late, [ $key, $end{$key}, time() + $MARGIN ] if time() > $end{$key} - $MARGIN;
		$end{$key} = $end;
	}
	$beats++;
}
kill('TERM', $watcher);
waitpid($watcher, 0);
$judge->attach;
my $watched = slurp_file($report);
note "$beats heart-beats; leases extended late: " . @late . '; ' . join ', ', $watched =~ /^((?:looks|seen) .*)$/mg;
my @gaps = grep {
	my ($key, $time) = /^gap (.*) at (.*)/;
	!grep { $_->[0] eq $key && $_->[1] <= $time && $time <= $_->[2] } @late;
} $watched =~ /^(gap .*)$/mg;
is_deeply([ @gaps, $watched =~ /^(error .*)$/mg ], [], 'while they were held, Redis showed them all the time');
like($watched, qr/^seen 21$/m, '... each of them');
cmp_ok($watched =~ /^looks (\d+)/m ? $1 : 0, '>', 1000, '... when somebody looked, which was often');
await_key($_, 0) foreach @beating;
pass('they go when nobody extends them any more');
is(exists_now('of a session'), 1, 'the lock of a session stays');
$holder->quit;
await_key('of a session', 0);

# ---------------------------------------------------------------------------
# While another transaction goes on and on
# ---------------------------------------------------------------------------

acquire('before', '1 h');
await_key('before', 1);
my $old_snapshot = session($node);
my $old_writer = session($node);
$old_snapshot->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM distlock.locks');
# Its rows are on the same page as the others.
$old_writer->query("BEGIN; SELECT distlock.acquire_with_token('long', 'mine', '1 h')");
for my $i (1 .. 20)
{
	acquire("during $i", '1 h');
	await_key("during $i", 1);
	release("during $i");
	await_key("during $i", 0);
}
release('before');
await_key('before', 0);
acquire('stays', '1 h');
await_key('stays', 1);
is(exists_now('long'), 0, 'what it acquired does not show');
shows_what_is_held($session, $redis, 'while a long transaction goes on');
is($old_snapshot->query("SELECT count(*) FROM distlock.locks WHERE key = 'before'; COMMIT"), 1,
	'it had an old snapshot');
$old_writer->query('COMMIT');
ok(defined await_key('long', 1), '... until it is committed');
$_->quit foreach $old_snapshot, $old_writer;

# ---------------------------------------------------------------------------
# While the worker was away
# ---------------------------------------------------------------------------

my @meanwhile = ('stays held', 'released meanwhile', 'purged meanwhile', 'acquired anew');
acquire($_, '1 h') foreach @meanwhile;
await_key($_, 1) foreach @meanwhile;
$session->query('SELECT distlock.stop_worker()');
release('purged meanwhile');
purge('purged meanwhile');
release('released meanwhile');
release('acquired anew');
my $fence = acquire('acquired anew', '2 h');
acquire('acquired meanwhile', '1 h');
acquire('short', '100 ms');
$session->query("SELECT distlock.try_acquire('short', '1 ms', wait => '10 s') IS NOT NULL");
is(exists_now('acquired meanwhile'), 0, 'without a worker nothing comes');
is(exists_now('released meanwhile'), 1, '... nor goes');
$session->query('SELECT distlock.start_worker()');
await_key('acquired meanwhile', 1);
await_key($_, 0) foreach 'released meanwhile', 'purged meanwhile';
shows_what_is_held($session, $redis, 'after the worker was away');
is(fence_of($redis->command('GET', "${prefix}acquired anew")), $fence, 'what was granted anew shows');
$judge->read;
is_deeply([ $judge->history($prefix . 'short') ], [], 'what had lapsed by then was never set');

# ---------------------------------------------------------------------------
# While Redis was down; it comes back with what it had before
# ---------------------------------------------------------------------------

acquire($_, '1 h') foreach 'released while down', 'purged while down', 'taken over while down';
acquire('lapses while down', '5 s');
await_key($_, 1)
  foreach 'released while down', 'purged while down', 'lapses while down', 'taken over while down';
$redis->command('SAVE');
$redis->kill9;
$judge->read_rest;
release('purged while down');
purge('purged while down');
release('released while down');
$session->query("SELECT distlock.force_acquire('taken over while down', '1 h', owner => 'other')");
acquire('acquired while down', '1 h');
acquire('comes and goes', '1 h');
release('comes and goes');
acquire('short lease while down', '10 ms');
is($session->query("SELECT distlock.try_acquire('lapses while down', '1 ms', wait => '100 s') IS NOT NULL"),
	't', 'a lease has expired while Redis was down');
await_mirror($session, 'last_error IS NOT NULL', 'disconnected');
$redis->start;
$judge->attach;
await_connected($session);
shows_what_is_held($session, $redis, 'after Redis was down');
is_deeply([ map { exists_now($_) } 'released while down', 'purged while down', 'lapses while down',
		'taken over while down', 'acquired while down', 'comes and goes', 'short lease while down' ],
	[ 0, 0, 0, 1, 1, 0, 0 ], 'Redis shows what has happened meanwhile');

# The same with all it had lost
$redis->kill9;
$judge->read_rest;
unlink "$redis->{dir}/dump.rdb" or die "could not remove the dump: $!";
$redis->start;
$judge->attach;
shows_what_is_held($session, $redis, 'after Redis lost everything');
$redis->command('FLUSHALL');
shows_what_is_held($session, $redis, 'after FLUSHALL');
$judge->read;
is_deeply([ $judge->regressions ], [], 'no fence went back at any time');

# The book has no entries left over.
await('the book to have an entry for each key', sub {
	$session->query('SELECT keys FROM distlock.mirror_status') == keys %{ $redis->contents };
});
is($redis->command('HLEN', "distlock-mirror:postgres:distlock:postgres:{key}"),
	1 + keys %{ $redis->contents }, 'the book has an entry for each key, and the claim');

$session->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
