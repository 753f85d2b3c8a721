# mirror_check() finds every difference between the locks that are held and what
# the mirrors show, and nothing else, however busy everybody is.  What it finds is
# put right, unless it is another program's.  It always comes back: with an
# answer, or an error in time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA qw(sha1_hex);
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $CHECKS = 200;
my $MANY = 3000;

# Shared memory that somebody has left behind can be seen as files.
my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf($redis, 'dynamic_shared_memory_type = mmap',
	"distlock.naptime = '1s'"));
my $session = session($node);
my $name = "redis://127.0.0.1:${\ $redis->port}/0";
my $book = 'distlock-mirror:postgres:distlock:postgres:{key}';

sub redis_key { return "distlock:postgres:$_[0]"; }

sub segments
{
	my @files = grep { /^mmap/ } slurp_dir($node->data_dir . '/pg_dynshmem');

	return scalar @files;
}

# What a check finds: lines as these
sub row
{
	my ($key, $problem, $mirror) = @_;

	return join '|', $mirror // $name, $key, redis_key($key), $problem;
}

# A test: these differences are found, and nothing is left to be found after that.
sub found
{
	my ($what, @rows) = @_;
	my $reconciled = $session->query('SELECT min(reconciled_at) FROM distlock.mirror_status');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(check_mirror($session), join("\n", sort @rows), $what);
	await_in_sync($session);
	await('a reconciliation', sub {
		$session->query("SELECT min(reconciled_at) > '$reconciled' FROM distlock.mirror_status") eq 't' });
	return ok(1, '... and repaired');
}

# ---------------------------------------------------------------------------
# Each kind of difference
# ---------------------------------------------------------------------------

await_connected($session);
is(check_mirror($session), '', 'no locks: nothing found');
my $base = segments();

$session->query(<<'EOQ');
SELECT distlock.acquire_with_token(key, 'mine', '1 h', owner => key) FROM unnest(ARRAY['a', 'b', 'c', 'd']) key;
SELECT distlock.acquire_with_token('session', 'mine', '1 h', scope => 'session');
SELECT distlock.acquire_with_token('brief', 'mine', '1 ms');
SELECT distlock.acquire_with_token('released', 'mine', '1 h');
SELECT distlock.release('released', 'mine');
EOQ
is_mirrored($redis, $session, 'some locks');
is(check_mirror($session), '', 'they agree: nothing found');

$redis->command('DEL', redis_key('a'));
found('missing', row('a', 'missing'));
is_mirrored($redis, $session, '... as before');
$redis->command('DEL', redis_key($_)) foreach 'a', 'session', 'd';
found('several missing', map { row($_, 'missing') } 'a', 'd', 'session');
is_mirrored($redis, $session, '... as before');

$redis->command('PEXPIRE', redis_key('b'), 60_000);
found('expires early', row('b', 'expires early'));
cmp_ok($redis->command('PTTL', redis_key('b')), '>', 3_000_000, '... it has its time again');

$redis->command('PERSIST', redis_key('b'));
found('expires late: never', row('b', 'expires late'));
$redis->command('PEXPIRE', redis_key('b'), 7_200_000);
found('expires late', row('b', 'expires late'));
cmp_ok($redis->command('PTTL', redis_key('b')), '<=', 3_600_002, '... it has its time again');

# An earlier state of ours, as a restored Redis would have it
my $then = $redis->command('GET', redis_key('c'));
my $entry = $redis->command('HGET', $book, redis_key('c'));
like($entry, qr/^\d{19} \d{16} [0-9a-f]{40}$/, 'what the book has of a key');
is(substr($entry, -40), sha1_hex($then), '... with the digest of the value');
$session->query("SELECT distlock.extend('c', 'mine', '2 h')");
is_mirrored($redis, $session, 'extended');
$redis->command('SET', redis_key('c'), $then, 'PX', 7_200_000);
$redis->command('HSET', $book, redis_key('c'), $entry);
found('different', row('c', 'different'));
is_mirrored($redis, $session, '... as it should be');

# One that was not taken away
$redis->command('SET', redis_key('left'), $then);
$redis->command('HSET', $book, redis_key('left'), $entry);
found('surplus', "$name||" . redis_key('left') . '|surplus');
is_mirrored($redis, $session, '... it has gone');
ok(!defined $redis->command('HGET', $book, redis_key('left')), '... from the book, too');

# What is in the book alone, or in Redis alone, is no difference.
$redis->command('HSET', $book, redis_key('gone'), $entry);
$redis->command('SET', redis_key('somebody else'), $then);
$redis->command('SET', 'another key', 'x');
is(check_mirror($session), '', 'other keys of other programs: nothing found');
is($redis->command('GET', redis_key('somebody else')), $then, '... and they are left alone');
$redis->command('DEL', redis_key('somebody else'), 'another key');

# ---------------------------------------------------------------------------
# Other programs
# ---------------------------------------------------------------------------

# Not to be put right: what another program has written stays.
sub foreign_to
{
	my ($what, $key, @still) = @_;

	is(check_mirror($session), row($key, 'foreign'), "foreign: $what");
	await('the conflict to be counted', sub { mirror_status($session, 'conflicts') eq '1' });
	is($session->query('SELECT mirror_conflicts FROM distlock.worker_status'), '1', '... and counted');
	is(check_mirror($session), row($key, 'foreign'), '... found again');
	is($redis->command($still[0], redis_key($key), @still[ 1 .. $#still - 1 ]), $still[-1], '... it stays');
	is(mirror_status($session, 'state'), 'connected', '... nothing else is wrong');
	$redis->command('DEL', redis_key($key));
	await_in_sync($session);
	await('the conflict to end', sub { mirror_status($session, 'conflicts') eq '0' });
	ok(1, '... until it goes');
	is_mirrored($redis, $session, '... and the lock is shown instead');
	return;
}

$redis->command('SET', redis_key('a'), 'theirs');
foreign_to('a value in the place of ours', 'a', 'GET', 'theirs');
$redis->command('SET', redis_key('a'), $redis->command('GET', redis_key('a')) . ' ', 'PX', 7_200_000);
foreign_to('... nearly ours', 'a', 'STRLEN', 1 + length $redis->command('GET', redis_key('a')) =~ s/ $//r);
$redis->command('DEL', redis_key('a'));
$redis->command('HSET', redis_key('a'), 'field', 'theirs');
foreign_to('a hash', 'a', 'HGET', 'field', 'theirs');
$redis->command('DEL', redis_key('a'));
$redis->command('RPUSH', redis_key('a'), 'theirs');
foreign_to('a list', 'a', 'LINDEX', 0, 'theirs');
$redis->command('SET', redis_key('new'), 'theirs');
$session->query("SELECT distlock.acquire_with_token('new', 'mine', '1 h')");
foreign_to('there before our lock', 'new', 'GET', 'theirs');

# When the lock is released, theirs is still theirs.
$redis->command('SET', redis_key('new'), 'theirs');
is(check_mirror($session), row('new', 'foreign'), 'foreign once more');
$session->query("SELECT distlock.release('new', 'mine')");
await('the conflict to end', sub { mirror_status($session, 'conflicts') eq '0' });
ok(await_in_sync($session), '... not any more when the lock is released');
is($redis->command('GET', redis_key('new')), 'theirs', '... theirs stays');
$redis->command('DEL', redis_key('new'));

# ---------------------------------------------------------------------------
# Many
# ---------------------------------------------------------------------------

# More than fits into anybody's buffer, and long keys
$session->query(<<"EOQ");
DO \$\$ BEGIN
	FOR i IN 1 .. $MANY / 500 LOOP
		PERFORM distlock.acquire_with_token(rpad('many ' || j || ' ', 500, 'x'), 'mine', '1 h')
		FROM generate_series(500 * i - 499, 500 * i) j;
		COMMIT;
	END LOOP;
END \$\$
EOQ
is_mirrored($redis, $session, 'many locks');
is(check_mirror($session), '', '... agree');
my @long = grep { /many/ } keys %{ $redis->contents };
is(scalar @long, $MANY, '... so many');
$redis->own->pipeline(map { [ 'DEL', $_ ] } @long);
my %expected = map { row(s/^distlock:postgres://r, 'missing') => 1 } @long;
my @found = split /\n/, check_mirror($session);
is(scalar @found, $MANY, 'all of them missing: as many found');
is(substr(join("\n", grep { !delete $expected{$_} } @found), 0, 1000), '', '... no others');
is(scalar keys %expected, 0, '... all of them');
ok(await_in_sync($session), '... and repaired');
is_mirrored($redis, $session, '... as before');
$session->query("SELECT count(distlock.force_release(key)) FROM (SELECT key FROM distlock.locks WHERE key LIKE 'many %' LIMIT 1000) l")
  foreach 1 .. $MANY / 1000;
is_mirrored($redis, $session, '... and released');

# ---------------------------------------------------------------------------
# Among changes
# ---------------------------------------------------------------------------

# They acquire, extend, and release, by all means, and let leases lapse.
$session->query(<<'EOQ');
CREATE TABLE stop ();
CREATE PROCEDURE change_locks(me integer) LANGUAGE plpgsql AS $$
DECLARE
	k text;
	t text;
	rounds integer := 0;
BEGIN
	PERFORM setseed(me / 10.0);
	LOOP
		EXIT WHEN EXISTS (SELECT FROM stop);
		rounds := rounds + 1;
		k := 'busy ' || floor(random() * 40);
		t := 'token ' || me;
		CASE floor(random() * 10)
			WHEN 0, 1, 2 THEN
				PERFORM distlock.try_acquire_with_token(k, t, make_interval(secs => 0.001 + 0.3 * random() ^ 3), owner => t);
			WHEN 3 THEN
				PERFORM distlock.try_acquire_with_token(k, t, '1 h', owner => 'round ' || rounds);
			WHEN 4 THEN
				PERFORM distlock.try_extend(k, t, make_interval(secs => 0.001 + random()));
			WHEN 5, 6 THEN
				PERFORM distlock.try_release(k, t);
			WHEN 7 THEN
				BEGIN
					PERFORM distlock.force_release(k);
				EXCEPTION WHEN lock_not_available THEN
				END;
			WHEN 8 THEN
				BEGIN
					PERFORM distlock.force_release(k);
					PERFORM distlock.try_acquire_with_token(k || '!', t, '1 h');
					RAISE EXCEPTION 'undo';
				EXCEPTION WHEN OTHERS THEN
				END;
				BEGIN
					PERFORM distlock.force_acquire(k, '1 h');
				EXCEPTION WHEN lock_not_available THEN
				END;
			ELSE
				PERFORM distlock.try_acquire_with_token('session ' || me, t, '1 s', scope => 'session');
				IF random() < 0.7 THEN
					PERFORM distlock.release('session ' || me, t);
				END IF;
		END CASE;
		IF random() < 0.1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
	INSERT INTO done VALUES (me, rounds);
END $$;
CREATE TABLE done (who integer, rounds integer);
EOQ
# Sessions lose their locks while they are looked at.
$session->query(<<'EOQ');
CREATE PROCEDURE change_session_locks(me integer) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		EXIT WHEN EXISTS (SELECT FROM stop);
		PERFORM distlock.acquire_with_token(format('session %s %s', me, floor(random() * 10)), 'token ' || me, '1 s', scope => 'session');
		COMMIT;
		PERFORM distlock.release_all('token ' || me);
		COMMIT;
	END LOOP;
	INSERT INTO done VALUES (me, 0);
END $$;
EOQ
my @busy = map { session($node) } 1 .. 6;
$busy[$_]->send("CALL change_locks($_)") foreach 0 .. 3;
$busy[$_]->send("CALL change_session_locks($_)") foreach 4 .. 5;
my $monitor = $redis->monitor;
my @wrong;
foreach my $i (1 .. $CHECKS)
{
	my $found = check_connected($session);

	push @wrong, "check $i: $found" if $found ne '';
}
is(join("\n", @wrong), '', "$CHECKS checks among changes: nothing found");

# A real difference is found among them, too.
my $difference = join "\n", row('a', 'missing'), row('b', 'foreign');
my $found;
for (1 .. 5)
{
	$redis->command('DEL', redis_key('a'));
	$redis->command('SET', redis_key('b'), 'theirs');
	$found = check_connected($session);
	# It may have been reconciled in between.
	last if $found eq $difference;
}
is($found, $difference, '... but what there is');
$redis->command('DEL', redis_key('b'));
$session->query('INSERT INTO stop DEFAULT VALUES');
foreach (@busy)
{
	$_->result;
	is($_->sqlstate, '', 'who has changed locks was not disturbed');
}
my %odd;
foreach (map { $_->{args}[2] } $monitor->commands(qr/ lua\] "set"/i))
{
	$odd{$_} = 1 if !
	  /^\{"fence":\d+,"owner":(?:null|"[^"]*"),"expires_at":(?:null|"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")\}$/;
}
$monitor->close;
is(join("\n", sort keys %odd), '', 'each value that Redis was told was that of a lock that is held');
ok(await_in_sync($session), 'quiet again: all agree');
is_mirrored($redis, $session, '... and so they do');
note $session->query('SELECT sum(rounds) FROM done') . ' transactions';
$_->quit foreach @busy;

# By the snapshot of the worker, not of the caller
my $other = session($node);
$session->query("BEGIN; SELECT distlock.acquire('uncommitted', '1 h')");
is(check_mirror($session), '', 'what the caller has not committed is not missed');
$session->query('ROLLBACK');
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM distlock.locks');
$other->query("SELECT distlock.acquire('later', '1 h'); SELECT distlock.force_release('d')");
is_mirrored($redis, $other, 'later changes');
is(check_mirror($session), '', 'what the caller cannot see yet is no difference');
$session->query('COMMIT');
is($session->query('SELECT count(*) FROM distlock.mirror_check() a, distlock.mirror_check() b'), '0', 'twice in a query');

# Several at a time: each gets its answer.
my @askers = map { session($node) } 1 .. 5;
$redis->command('SET', redis_key('a'), 'theirs');
$_->send('SELECT * FROM distlock.mirror_check()') foreach @askers;
is($_->result . $_->sqlstate, row('a', 'foreign'), 'several ask at once') foreach @askers;
$_->quit foreach @askers;
$redis->command('DEL', redis_key('a'));
await_in_sync($session);

# ---------------------------------------------------------------------------
# Several mirrors, some not there
# ---------------------------------------------------------------------------

my $second = DistlockRedis->new('second', tcp => 0);
my $second_name = $second->unix_url;
change_setting($session, 'distlock.redis_url', "$name,$second_name");
await_connected($session, 2);
await_in_sync($session);
$redis->command('DEL', redis_key('a'));
$second->command('DEL', redis_key('b'));
found('two mirrors', row('a', 'missing'), row('b', 'missing', $second_name));
$second->stop;
await_mirror($session, "mirror = '$second_name'", 'disconnected');
$redis->command('DEL', redis_key('a'));
is(check_mirror($session), join("\n", row('a', 'missing'), "$second_name|||not connected"),
	'one is not there, the other is checked');
$second->start;
await_connected($session, 2);
ok(await_in_sync($session), '... there again');

# It goes in the middle of it.
$second->freeze;
is(check_mirror($session), "$second_name|||not connected", 'one gives no answer');
$second->thaw;
await_connected($session, 2);
ok(await_in_sync($session), '... it answers again');
$second->kill9;
change_setting($session, 'distlock.redis_url', $name);
await('one mirror', sub { mirror_status($session, 'mirror') eq $name });

$redis->stop;
await_mirror($session, "last_error <> ''", 'disconnected');
is(check_mirror($session), "$name|||not connected", 'the only one is not there');
$redis->start;
await_connected($session);
ok(await_in_sync($session), '... there again');

# ---------------------------------------------------------------------------
# Nobody answers
# ---------------------------------------------------------------------------

is($session->fails("SELECT * FROM distlock.mirror_check(NULL)"), '22004', 'bad time: NULL');
is($session->fails("SELECT * FROM distlock.mirror_check('$_')"), '22023', "bad time: $_")
  foreach '0', '-1 s', '1 month';

my $worker = await_worker($session, 'postgres');
stop_resting($worker);
is($session->fails("SELECT * FROM distlock.mirror_check('300 ms')"), '55000', 'the worker does not answer in time');
like($session->stderr, qr/DETAIL|HINT/, '... with a word about it');
$session->query("SET statement_timeout = '300 ms'");
is($session->fails('SELECT * FROM distlock.mirror_check()'), '57014', '... statement_timeout');
$session->query('RESET statement_timeout');

# Callers that go while they wait
$other->send('SELECT * FROM distlock.mirror_check()');
await('the caller to wait', sub { waits($other->pid) });
$session->query("SELECT pg_cancel_backend(${\ $other->pid})");
$other->result;
is($other->sqlstate, '57014', '... cancelled');
my $gone = session($node);
$gone->send('SELECT * FROM distlock.mirror_check()');
await('the caller to wait', sub { waits($gone->pid) });
$session->query("SELECT pg_terminate_backend(${\ $gone->pid})");
$gone->result;
is($gone->sqlstate, '57P01', '... terminated');
$gone->quit;

# What a session waits in; between statements it waits for its client.
sub waits
{
	my ($pid) = @_;

	return $session->query(<<"EOQ") eq 't';
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND state = 'active' AND wait_event IS NOT NULL)
EOQ
}

kill('CONT', $worker) == 1 or die 'could not continue the worker';
ok(await_in_sync($session), 'the worker goes on: the next one gets an answer');
is(await_worker($session, 'postgres'), $worker, '... from the same worker');
is(check_mirror($other), '', '... as does who was cancelled');

# Redis takes its time, with a great many differences to tell, and the caller goes.
change_setting($session, 'distlock.redis_timeout', '60s');
kill('TERM', $worker);
$worker = await_worker($session, 'postgres', $worker);
await_connected($session);
await_in_sync($session);
$redis->freeze;
is($session->fails("SELECT * FROM distlock.mirror_check('300 ms')"), '55000', 'Redis does not answer in time');
$other->send('SELECT * FROM distlock.mirror_check()');
await('the caller to wait', sub { waits($other->pid) });
$session->query("SELECT pg_cancel_backend(${\ $other->pid})");
$other->result;
is($other->sqlstate, '57014', '... cancelled in the middle');
$redis->thaw;
ok(await_in_sync($session), '... the next one gets an answer');
is(await_worker($session, 'postgres'), $worker, '... from the same worker');

# The worker goes while somebody waits for it.
$redis->freeze;
$other->send("SELECT * FROM distlock.mirror_check('1 min')");
await('the caller to wait', sub { waits($other->pid) });
is($session->query('SELECT distlock.stop_worker()'), 't', 'the worker is stopped in the middle');
$other->result;
is($other->sqlstate, '55000', '... who waits is told');
$redis->thaw;
is($session->fails('SELECT * FROM distlock.mirror_check()'), '55000', 'no worker');
is($session->query('SELECT distlock.start_worker()'), 't', 'the worker is started');
await_connected($session);
ok(await_in_sync($session), '... and answers');

change_setting($session, 'distlock.redis_url', '');
await('no mirror', sub { mirror_status($session) eq '' });
is($session->fails('SELECT * FROM distlock.mirror_check()'), '55000', 'no mirror');
like($session->stderr, qr/redis_url/, '... and how to get one');
change_setting($session, 'distlock.redis_url', $name);
await_connected($session);
ok(await_in_sync($session), '... one again');

await('no shared memory to be left', sub { segments() == $base });
is(segments(), $base, 'nobody has left any shared memory behind');

# ---------------------------------------------------------------------------
# Who may
# ---------------------------------------------------------------------------

$session->query('CREATE ROLE somebody; CREATE ROLE checker; CREATE ROLE owner; '
	  . 'GRANT EXECUTE ON FUNCTION distlock.mirror_check TO checker');
$session->query('SET ROLE somebody');
is($session->fails('SELECT * FROM distlock.mirror_check()'), '42501', 'not for everybody');
$session->query('SET ROLE checker');
is(check_mirror($session), '', '... but for who was granted it');
$session->query('RESET ROLE; CREATE DATABASE owned OWNER owner');
my $owner = session($node, 'owned');
$owner->query('SET SESSION AUTHORIZATION owner; CREATE EXTENSION distlock; RESET SESSION AUTHORIZATION');
await_connected($owner);
$owner->query('SET SESSION AUTHORIZATION owner');
is(check_mirror($owner), '', '... and for who has created the extension');

# No token is told.
$session->query("SELECT distlock.acquire_with_token('secret', 'a very secret token', '1 h')");
change_setting($session, 'distlock.redis_value', 'token');
await('the token', sub { ($redis->command('GET', redis_key('secret')) // '') eq 'a very secret token' });
await_in_sync($session);
$redis->command('SET', redis_key('secret'), 'theirs');
is(check_mirror($session), row('secret', 'foreign'), 'redis_value = token: differences are found');
is_deeply([ log_lines($node, 0, qr/^(?!.*LOG:  statement:).*very secret/) ], [], '... and no token is in the log');

is_deeply([ log_lines($node, 0, qr/PANIC:|WARNING:|by signal/) ], [], 'no complaints in the log');
$_->quit foreach $session, $other, $owner;
$node->stop;
done_testing();
