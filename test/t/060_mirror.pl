# The worker keeps the locks that are held visible in Redis: what is committed
# appears, what is released or lapses goes, nothing uncommitted ever shows, and no
# token does.  A key in Redis goes when its lock ends, and not before.  Mirrors
# are independent of each other, and everything about them can be changed while
# the server runs.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockListener;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

skip_without_redis();

my $DB = 3;
my $MANY = 5000;

my $redis = DistlockRedis->new('main');
my $node = new_node('main', extra => [ '--encoding=UTF8', '--locale=C' ],
	conf => redis_conf($redis->url($DB), "distlock.naptime = '1s'", "distlock.redis_timeout = '60s'"));
my $session = session($node);
my $other = session($node);
my $client = $redis->client(db => $DB);
my $monitor = $redis->monitor;
my @told;      # commands that Redis was given, since the list was emptied
my @tokens;    # some that were given out
my @leaks;     # commands that had one in them

sub mirrored
{
	my ($what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_mirrored($redis, $session, $what, db => $DB);
}

sub redis_key { return "distlock:postgres:$_[0]"; }
sub value_of { return $client->command('GET', redis_key($_[0])); }

# A call whose token is remembered, to be looked for where it must not be.
sub acquire
{
	my ($where, $key, $arguments) = @_;
	my $token = $where->query("SELECT distlock.acquire('$key', $arguments);");

	push @tokens, $token;
	return $token;
}

# Learn what Redis was told.
sub hear
{
	my $pattern = join '|', map { quotemeta } @tokens, 'no token at all';
	my @commands = $monitor->commands;

	push @told, @commands;
	push @leaks, grep { grep { /$pattern/ } @{ $_->{args} } } @commands;
	return @commands;
}

# Wait until Redis has been told of everything that was committed before this.
my $marks = 0;

sub catch_up
{
	my $key = 'mark ' . ++$marks;

	acquire($other, $key, "'1 h'");
	await("$key in Redis", sub { defined value_of($key) });
	$other->query("SELECT distlock.force_release('$key')");
	await("$key to go", sub { !defined value_of($key) });
	hear();
	return;
}

# Has this key ever been mentioned to Redis?
sub was_told
{
	my ($key) = @_;

	return scalar grep { grep { index($_, redis_key($key)) >= 0 } @{ $_->{args} } } @told;
}

# Has it ever been there?  (That Redis is told to delete what it has not is no harm.)
sub was_shown
{
	my ($key) = @_;

	return scalar grep { $_->{client} eq 'lua' && lc $_->{args}[0] eq 'set'
		  && index($_->{args}[1], redis_key($key)) == 0 } @told;
}

# What Redis has done to this key since the last call: names of commands that
# change something.
sub done_to
{
	my ($key) = @_;

	hear();
	my @done = map { uc $_->{args}[0] } grep {
		$_->{client} eq 'lua' && $_->{args}[0] =~ /^(?:set|del|unlink|expire|pexpire)/i
		  && $_->{args}[1] eq redis_key($key) } @told;
	@told = ();
	return "@done";
}

# ---------------------------------------------------------------------------
# Acquire, keep, release
# ---------------------------------------------------------------------------

ok(await_connected($session), 'connected');
mirrored('no locks: nothing in Redis');
like($client->command('HGET', 'distlock-mirror:postgres:distlock:postgres:{key}', ''),
	qr/^\d{19} \d{16} [0-9a-f]{16}$/, '... but the book, with the claim');

my $token = acquire($session, 'first', "'1 h', owner => 'me'");
mirrored('acquired');
my ($fence, $end) = split /\|/, $session->query(<<'EOQ');
SELECT fence, (extract(epoch FROM expires_at) * 1000000)::bigint FROM distlock.locks
EOQ
like(value_of('first'), qr/^\{"fence":$fence,"owner":"me","expires_at":"[^"]*"\}$/, '... the value');
is(DistlockListener::microseconds(value_of('first') =~ /"expires_at":"([^"]*)"/),
	$end, '... with the end to the microsecond');
is($client->command('TYPE', redis_key('first')), 'string', '... is a string');
is_deeply($redis->contents(0, 1), {}, '... in the database of Redis that was asked for, and no other');

# What has to be escaped in JSON, and what has not
acquire($session, 'owner 1', "'1 h'");
acquire($session, 'owner 2', q{'1 h', owner => ''});
acquire($session, 'owner 3', q{'1 h', owner => E'"quoted" \\\\ {\'x\'} \n\r\t\x01\x7f/'});
acquire($session, 'owner 4', q{'1 h', owner => U&'gr\00fc\00df \4e2d \+01f512', data => 'hidden'});
acquire($session, 'owner 5', q{'1 h', owner => repeat(E'\x02', 256)});
mirrored('owners with all kinds of characters');
like(value_of('owner 1'), qr/"owner":null,/, '... null where there is none');
unlike(value_of('owner 4'), qr/hidden/, '... and no data');
$session->query("SELECT distlock.force_release('owner ' || i) FROM generate_series(1, 5) i");
mirrored('released by force');

$session->query("SELECT distlock.extend('first', '$token', '2 h')");
mirrored('extended');
cmp_ok($client->command('PTTL', redis_key('first')), '>', 7_000_000, '... the time to live too');
$session->query("SELECT distlock.extend('first', '$token', '30 min')");
mirrored('shortened by extend');
cmp_ok($client->command('PTTL', redis_key('first')), '<=', 1_800_000, '... the time to live too');
my $before = value_of('first');
$session->query("SELECT distlock.ensure('first', '$token', '1 min')");
catch_up();
is(value_of('first'), $before, 'ensure that changes nothing');
$session->query("SELECT distlock.ensure('first', '$token', '3 h')");
mirrored('ensure that extends');
$session->query("SELECT distlock.acquire_with_token('first', '$token', '1 h', owner => 'another name')");
mirrored('acquired again with its token');
like(value_of('first'), qr/"fence":$fence,"owner":"another name"/, '... the same fence, another owner');
$session->query("SELECT distlock.extend_all('$token', '4 h')");
mirrored('extend_all');
$session->query("SELECT distlock.release('first', '$token')");
mirrored('released');

push @tokens, $session->query("SELECT distlock.force_acquire('forced', '1 h', owner => 'one')");
mirrored('force_acquire of a free lock');
push @tokens, $session->query("SELECT distlock.force_acquire('forced', '1 h', owner => 'two')");
mirrored('force_acquire of a held lock');
like(value_of('forced'), qr/"owner":"two"/, '... who has it now');
$session->query("SELECT distlock.try_release('forced', '$tokens[-2]')");
catch_up();
ok(defined value_of('forced'), 'a release with the wrong token');
$session->query("SELECT distlock.try_release('forced', '$tokens[-1]')");
mirrored('try_release');

$session->query("SELECT distlock.acquire_with_token('all ' || i, 'a token of mine', '1 h') FROM generate_series(1, 100) i");
push @tokens, 'a token of mine';
mirrored('a hundred in a statement');
is($session->query("SELECT distlock.release_all('a token of mine')"), '100', 'release_all');
mirrored('... released');

# ---------------------------------------------------------------------------
# Nothing uncommitted
# ---------------------------------------------------------------------------

$session->query("BEGIN; SELECT distlock.acquire('committed', '1 h')");
catch_up();
ok(!was_told('committed'), 'acquired, not committed: not told');
$session->query('COMMIT');
mirrored('... committed');

done_to('committed');
$session->query("BEGIN; SELECT distlock.force_release('committed')");
catch_up();
is(done_to('committed'), '', 'released, not committed: it stays');
$session->query('ROLLBACK');
catch_up();
is(done_to('committed'), '', '... nor after ROLLBACK');
mirrored('... as it was');

$session->query("BEGIN; SELECT distlock.acquire('rolled back', '1 h'); ROLLBACK");
$session->query("BEGIN; SELECT distlock.acquire('failed', '1 h')");
$session->fails('SELECT 1 / 0');
$session->query('ROLLBACK');
$session->query(<<'EOQ');
BEGIN;
SELECT distlock.acquire('before', '1 h');
SAVEPOINT s;
SELECT distlock.acquire('undone', '1 h');
SELECT distlock.force_release('committed');
ROLLBACK TO s;
SELECT distlock.acquire('after', '1 h');
SAVEPOINT t;
SELECT distlock.acquire('kept', '1 h');
RELEASE t;
COMMIT;
EOQ
mirrored('savepoints');
catch_up();
ok(was_told($_), "... told: $_") foreach 'before', 'after', 'kept';
ok(!was_told($_), "never told: $_") foreach 'rolled back', 'failed', 'undone';
is(done_to('committed'), '', 'a release that was undone by a savepoint was not told');

# Only the end of a transaction counts.
$session->query(<<'EOQ');
BEGIN;
SELECT distlock.acquire_with_token('passing', 'mine', '1 h');
SELECT distlock.release('passing', 'mine');
COMMIT;
BEGIN;
SELECT distlock.force_release('kept');
SELECT distlock.acquire('kept', '1 h', owner => 'new');
COMMIT;
EOQ
mirrored('several changes of a lock in a transaction');
catch_up();
ok(!was_shown('passing'), '... what was released where it was acquired never shows');

# Transactions that hold a lock for themselves are nobody's business.
$session->query("SELECT distlock.do_exclusively('exclusive', '1 h', 'SELECT 1')");
$session->query(<<'EOQ');
BEGIN;
SELECT distlock.acquire('exclusive', '1 h', scope => 'transaction');
SELECT distlock.do_exclusively('exclusive too', '1 h', 'CREATE TEMP TABLE written AS SELECT distlock.current_fence()');
EOQ
catch_up();
$session->query('COMMIT');
catch_up();
ok(!was_shown('exclusive'), 'scope transaction: never shows');
mirrored('... nor in Redis afterwards');

# ---------------------------------------------------------------------------
# Two-phase commit
# ---------------------------------------------------------------------------

# Execute, and wait for a condition, which has to be met within 2 s.
sub soon
{
	my ($sql, $condition, $what) = @_;

	$session->query($sql);
	my $began = time();
	await($what, $condition);
	my $took = time() - $began;
	return cmp_ok($took, '<=', 10, sprintf '%s (%.3f s)', $what, $took);
}

$session->query(<<'EOQ');
BEGIN;
SELECT distlock.acquire('prepared', '1 h');
SELECT distlock.force_release('after');
PREPARE TRANSACTION 'one';
BEGIN;
SELECT distlock.acquire('prepared in vain', '1 h');
SELECT distlock.force_release('before');
PREPARE TRANSACTION 'two';
EOQ
catch_up();
ok(!was_told('prepared'), 'prepared: not told');
ok(defined value_of('after'), '... a release neither');
soon("COMMIT PREPARED 'one'", sub { defined value_of('prepared') }, 'COMMIT PREPARED: there soon');
mirrored('... and what it has released has gone');
$session->query("ROLLBACK PREPARED 'two'");
catch_up();
ok(!was_told('prepared in vain'), 'ROLLBACK PREPARED: never told');
mirrored('... what it has released stays');
$session->query("BEGIN; SELECT distlock.force_release('prepared'); PREPARE TRANSACTION 'three'");
catch_up();
soon("COMMIT PREPARED 'three'", sub { !defined value_of('prepared') }, 'COMMIT PREPARED: gone soon');

# ---------------------------------------------------------------------------
# Times to live
# ---------------------------------------------------------------------------

# Redis counts in milliseconds, we in microseconds.  No key may go before its
# lock has ended; after that it may stay for the millisecond that is rounded up
# and for the time that it took to get to Redis.
my $began = time();
$session->query(<<'EOQ');
DO $$ BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM distlock.acquire('ttl ' || i, make_interval(secs => 100 + random()));
		COMMIT;
	END LOOP;
END $$
EOQ
mirrored('leases with all kinds of ends');
my $took = 1000 * (time() - $began);
my (@early, @late);
foreach (split /\n/, $session->query(<<'EOQ'))
SELECT key, (extract(epoch FROM expires_at) * 1000000)::bigint FROM distlock.locks WHERE key LIKE 'ttl %'
EOQ
{
	my ($key, $end) = split /\|/;
	my $late = $client->goes_at(redis_key($key)) - $end / 1000;

	push @early, "$key by $late ms" if $late < 0;
	push @late, "$key by $late ms" if $late > 1 + $took;
}
is("@early", '', 'none goes before its lock ends');
is("@late", '', 'none stays longer than it has to');
$session->query("SELECT count(distlock.force_release('ttl ' || i)) FROM generate_series(1, 300) i");

# Both clocks are read on the same machine: the key has gone at the second reading.
$end = $session->query(<<'EOQ');
SELECT distlock.acquire('brief', '2 s') \gset
SELECT extract(epoch FROM expires_at) FROM distlock.locks WHERE key = 'brief'
EOQ
my $seen = 0;
await('a lease to lapse', sub {
	my $there = defined value_of('brief');

	return 1 if !$there && ($seen || time() >= $end);
	$seen ||= $there;
	return 0;
});
cmp_ok(time(), '>=', $end, 'a lease that lapses: not gone before its end');
mirrored('... but then');

# With nobody there to take it away it goes by itself.
$session->query("SELECT distlock.acquire('alone', '1 s')");
mirrored('another');
stop_resting(await_worker($session, 'postgres'));
await('the key to go', sub { !defined value_of('alone') });
ok(1, 'without the worker, too');
kill('CONT', await_worker($session, 'postgres')) == 1 or die 'could not continue the worker';
mirrored('... which does not mind');

# ---------------------------------------------------------------------------
# Scope session
# ---------------------------------------------------------------------------

my $holder = session($node);
done_to('held');
push @tokens, $holder->query("SELECT distlock.acquire('held', '200 ms', scope => 'session', owner => 'me')");
mirrored('scope session');
like(value_of('held'), qr/"owner":"me","expires_at":null\}$/, '... has no end');
my $ttl = $client->command('PTTL', redis_key('held'));
cmp_ok($ttl, '>', 5_000, '... but a time to live of 10 s, at least');
cmp_ok($ttl, '<=', 10_000, '... and no more');
$began = time();
my $last = $ttl;
await('the key to be renewed', sub {
	my $left = $client->command('PTTL', redis_key('held'));
	my $rose = $last > 0 && $left > $last;

	$last = $left;
	return $rose;
});
cmp_ok(time() - $began, '<', 10, '... which is renewed');
my @px = map { $_->{args} } grep {
	$_->{client} eq 'lua' && uc $_->{args}[0] eq 'SET' && $_->{args}[1] eq redis_key('held') } hear();
cmp_ok(scalar @px, '>=', 2, '... told more than once');
is_deeply([ grep { uc $_->[3] ne 'PX' || $_->[4] != 10_000 } @px ], [], '... each time 10 s');
$holder->quit;
mirrored('... the session has ended: gone');

$holder = session($node);
$holder->query("SELECT distlock.acquire_with_token('long', 'session token', '1 h', scope => 'session')");
push @tokens, 'session token';
mirrored('scope session, with a long ttl');
cmp_ok($client->command('PTTL', redis_key('long')), '>', 3_500_000, '... its time to live');
$holder->query("SELECT distlock.acquire_with_token('long', 'session token', '1 h', scope => 'session', owner => 'new name')");
mirrored('acquired again, with another owner');
$holder->query("SELECT distlock.acquire('more', '1 min', scope => 'session')");
mirrored('two of them');
$holder->query('DISCARD ALL');
mirrored('DISCARD ALL ends them');

$holder->query('CREATE PROCEDURE wait_for(lock bigint) LANGUAGE plpgsql AS '
	  . q{'BEGIN COMMIT; PERFORM pg_advisory_lock(lock), pg_advisory_unlock(lock); END'});
$other->query('SELECT pg_advisory_lock(1)');
$holder->send("CALL distlock.run_exclusively('run', '1 min', 'CALL wait_for(1)', owner => 'job')");
await('the job to run', sub { defined value_of('run') });
mirrored('run_exclusively shows while it runs');
$other->query('SELECT pg_advisory_unlock(1)');
$holder->result;
mirrored('... and no longer');

# After a crash the lock of a session is reserved, and has an end.
$holder->query("SELECT distlock.acquire('reserved', '1 h', scope => 'session')");
$session->query("SELECT distlock.acquire('lease', '1 h')");
mirrored('before a crash');
done_to('reserved');
$_->quit foreach $session, $other;
# (In a restart in order, the worker might see the end of the session before its own.)
$node->stop('immediate');
$node->start;
$holder->quit;
$session = session($node);
$other = session($node);
await_connected($session);
mirrored('after it: reserved');
like(value_of('reserved'), qr/"expires_at":"[^"]+"\}$/, '... which has an end');
unlike(done_to('reserved'), qr/DEL|UNLINK/, '... and has never been gone');
$session->query("SELECT distlock.force_release('reserved'), distlock.force_release('lease')");
mirrored('... until it is released');

# ---------------------------------------------------------------------------
# Many, and what happens to the table
# ---------------------------------------------------------------------------

$session->query(<<"EOQ");
DO \$\$ BEGIN
	FOR i IN 1 .. $MANY / 500 LOOP
		PERFORM distlock.acquire_with_token('many ' || j, 'mine', '1 h')
		FROM generate_series(500 * i - 499, 500 * i) j;
		COMMIT;
	END LOOP;
END \$\$
EOQ
mirrored("$MANY locks");
await('them to be counted', sub {
	mirror_status($session, 'keys') eq $session->query('SELECT count(*) FROM distlock.locks') });
ok(await_in_sync($session), '... and mirror_check() finds nothing');
$session->query('CALL distlock.purge()');
catch_up();
mirrored('purge changes nothing');
$session->query('VACUUM FULL distlock.lock');
catch_up();
mirrored('nor does VACUUM FULL');
$session->query("SELECT distlock.acquire('another table', '1 h')");
mirrored('... what comes after it is seen');
$session->query('TRUNCATE distlock.lock');
mirrored('TRUNCATE');
$session->query("SELECT distlock.acquire('after TRUNCATE', '1 h')");
mirrored('... what comes after it is seen');

# ---------------------------------------------------------------------------
# What is shown of a mirror
# ---------------------------------------------------------------------------

my $name = "redis://127.0.0.1:${\ $redis->port}/$DB";
await('the keys to be counted', sub { mirror_status($session, 'keys') eq '1' });
becomes(sub { $session->query(<<'EOQ') }, "postgres|$name|connected|t|0|1|0|1|0|||t", 'mirror_status');
SELECT database, mirror, state, since BETWEEN pg_postmaster_start_time() AND clock_timestamp(),
	lag_ms, keys, conflicts, connections, errors, last_error, last_error_at,
	reconciled_at BETWEEN pg_postmaster_start_time() AND clock_timestamp()
FROM distlock.mirror_status
EOQ
is($session->query(<<'EOQ'), 't', 'mirror_status has these columns and no others');
SELECT string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) =
	'database name, mirror text, state text, since timestamp with time zone, lag_ms double precision, '
	'keys bigint, conflicts bigint, connections bigint, reconciled_at timestamp with time zone, '
	'errors bigint, last_error text, last_error_at timestamp with time zone'
FROM pg_attribute WHERE attrelid = 'distlock.mirror_status'::regclass AND attnum > 0
EOQ
my $worker_columns =
  'mirror_state, mirror_since IS NOT NULL, mirror_lag_ms, mirror_keys, mirror_conflicts, mirror_last_error';
becomes(sub { $session->query("SELECT $worker_columns FROM distlock.worker_status") },
	'connected|t|0|1|0|', 'worker_status');

# Redis stands still for a while, and nobody loses patience.
catch_up();
$redis->freeze;
$session->query("SELECT distlock.acquire('frozen', '1 h')");
await('the lag to grow', sub {
	$session->query("SELECT lag_ms > 300 FROM distlock.mirror_status") eq 't' });
is($session->query('SELECT m.state, mirror_state, mirror_lag_ms > 300 FROM distlock.mirror_status m, distlock.worker_status'),
	'connected|connected|t', 'lag_ms is the age of what Redis has not confirmed');
$redis->thaw;
mirrored('... which is told in the end');
await('the lag to go', sub { mirror_status($session, 'lag_ms') eq '0' });
is(mirror_status($session, 'connections, errors'), '1|0', '... over the same connection');
change_setting($session, 'distlock.redis_timeout', '5s');
my $worker = await_worker($session, 'postgres');
kill('TERM', $worker) == 1 or die 'could not terminate the worker';
await_worker($session, 'postgres', $worker);
await_connected($session);

# One line in the log for each change
sub changes
{
	my ($position) = @_;
	my @lines = log_lines($node, $position, qr/LOG:  distlock mirror/);

	die "unexpected: $_" foreach grep { !/LOG:  distlock mirror \Q$name\E of database "postgres": \w+$/ } @lines;
	return join ' ', map { /(\w+)$/ } @lines;
}

my $position = log_position($node);
await('the keys to be counted', sub { mirror_status($session, 'keys') eq '2' });
hear();
$redis->stop;
await('the mirror to be missed', sub {
	$session->query("SELECT state = 'disconnected' AND errors >= 4 FROM distlock.mirror_status") eq 't' });
becomes(sub { changes($position) }, 'disconnected', 'Redis stopped: a line in the log, however often it is tried');
is(scalar(log_lines($node, $position, qr/DETAIL:  .*(?:refused|closed|reset|pipe)/i)), 1, '... with the reason');
is($session->query("SELECT m.last_error <> '', m.last_error_at <= clock_timestamp(), $worker_columns "
		  . 'FROM distlock.mirror_status m, distlock.worker_status')
	=~ s/\|[^|]*\|(\d+)\|0\|[^|]+$/|lag|$1|0|error/r,
	't|t|disconnected|t|lag|2|0|error', '... and the views tell');
$session->query('CREATE ROLE somebody');
is($session->query(<<'EOQ'), 'disconnected|t|t|t', '... but the error only to those who may know it');
SET ROLE somebody;
SELECT m.state, m.last_error IS NULL, w.mirror_last_error IS NULL, m.last_error_at IS NOT NULL
FROM distlock.mirror_status m, distlock.worker_status w;
RESET ROLE
EOQ
$session->query("SELECT distlock.acquire('meanwhile', '1 h')");
$redis->start;
$client = $redis->client(db => $DB);
$monitor = $redis->monitor;
await_connected($session);
mirrored('Redis started again, without anything: it has all that is held');
becomes(sub { changes($position) }, 'disconnected connected', '... a line in the log');
await('the keys to be counted', sub { mirror_status($session, 'keys') eq '3' });
is(mirror_status($session, 'connections, lag_ms, conflicts'), '2|0|0', '... and the view tells');

# Connections are accepted, and nothing is answered.
$position = log_position($node);
$redis->freeze;
$session->query("SELECT distlock.acquire('unanswered', '1 h')");
await_mirror($session, "last_error <> ''", 'disconnected');
ok(1, 'no answer: disconnected');
$redis->thaw;
await_connected($session);
mirrored('... answers again');
becomes(sub { changes($position) }, 'disconnected connected', '... two lines in the log');

# Redis is full.
$position = log_position($node);
$redis->command('CONFIG', 'SET', 'maxmemory', 1);
$session->query("SELECT distlock.acquire('no room', '1 h')");
await_mirror($session, "last_error <> ''", 'failing');
is($session->query('SELECT mirror_state FROM distlock.worker_status'), 'failing', 'Redis is full: failing');
$redis->command('CONFIG', 'SET', 'maxmemory', 0);
await_connected($session);
mirrored('... it has room again');
becomes(sub { changes($position) }, 'failing connected', '... two lines in the log');
is(scalar(log_lines($node, $position, qr/DETAIL:  .*OOM/)), 1, '... with the reason');

# Redis forgets everything while it is connected.
$redis->command('FLUSHALL');
mirrored('FLUSHALL: everything comes back');
ok(await_in_sync($session), '... as mirror_check() says too');

# ---------------------------------------------------------------------------
# Two mirrors
# ---------------------------------------------------------------------------

my $second = DistlockRedis->new('second', tcp => 0);
my $second_name = $second->unix_url;
change_setting($session, 'distlock.redis_url', "$name, $second_name");
await_connected($session, 2);
mirrored('two mirrors: the first');
is_mirrored($second, $session, '... the second');
is(mirror_status($session, 'mirror'), "$name\n$second_name", '... as the view shows');

# Whatever happens to one of them, the other goes on.
sub others_go_on
{
	my ($what, $state, $down, $down_name, $up, $up_name, $db, $undo) = @_;
	my $connections = $session->query("SELECT connections FROM distlock.mirror_status WHERE mirror = '$up_name'");

	$session->query("SELECT distlock.acquire('$what', '1 h')");
	await_mirror($session, "mirror = '$down_name'", $state);
	is_mirrored($up, $session, "$what: the other goes on", db => $db);
	is($session->query("SELECT mirror_state FROM distlock.worker_status"), $state, '... the worse one is shown');
	$session->query("SELECT distlock.force_release('$what')");
	is_mirrored($up, $session, '... and goes on', db => $db);
	is($session->query("SELECT state, connections FROM distlock.mirror_status WHERE mirror = '$up_name'"),
		"connected|$connections", '... undisturbed');
	$undo->();
	await_connected($session, 2);
	is_mirrored($down, $session, '... and the first is back', db => $db ? 0 : $DB);
	return;
}

$redis->stop;
others_go_on('one stopped', 'disconnected', $redis, $name, $second, $second_name, 0, sub { $redis->start });
$second->freeze;
others_go_on('one frozen', 'disconnected', $second, $second_name, $redis, $name, $DB, sub { $second->thaw });
$second->command('CONFIG', 'SET', 'maxmemory', 1);
others_go_on('one full', 'failing', $second, $second_name, $redis, $name, $DB,
	sub { $second->command('CONFIG', 'SET', 'maxmemory', 0) });
ok(await_in_sync($session), 'both agree');
# (Redis has been restarted.)
$client = $redis->client(db => $DB);
$monitor = $redis->monitor;

# ---------------------------------------------------------------------------
# Settings are changed
# ---------------------------------------------------------------------------

change_setting($session, 'distlock.redis_url', $name);
await('the second mirror to go', sub { mirror_status($session, 'mirror') eq $name });
ok(1, 'a mirror is taken out of the list');
$session->query("SELECT distlock.acquire('without the second', '1 h')");
mirrored('... the other goes on');
ok(!defined $second->command('GET', redis_key('without the second')), '... alone');

change_setting($session, 'distlock.redis_url', '');
await('no mirror', sub { mirror_status($session) eq '' });
is($session->query("SELECT $worker_columns FROM distlock.worker_status"), '|f||||',
	'no mirror: worker_status knows of none');
$session->query("SELECT distlock.acquire('without any', '1 h')");
$session->query("SELECT distlock.force_release('without the second')");
change_setting($session, 'distlock.redis_url', $name);
await_connected($session);
mirrored('there is one again: it has what is held now');

$session->query("SELECT distlock.acquire(key, '1 h') FROM unnest(ARRAY['app1:a', 'app1:b', 'app2:a', 'app3']) key");
mirrored('locks of several programs');
change_setting($session, 'distlock.redis_prefixes', 'app1:, app3');
await('only those chosen', sub {
	join(',', sort keys %{ $redis->contents($DB) }) eq
	  join(',', map { redis_key($_) } 'app1:a', 'app1:b', 'app3') });
ok(1, 'redis_prefixes: the others go');
ok(await_in_sync($session), '... and are not missed');
$session->query("SELECT distlock.acquire('app2:b', '1 h')");
$session->query("SELECT distlock.acquire('app1:c', '1 h')");
await('what is chosen', sub { defined value_of('app1:c') });
ok(!defined value_of('app2:b'), '... new ones, too');
change_setting($session, 'distlock.redis_prefixes', '');
mirrored('all of them again');

change_setting($session, 'distlock.redis_key', 'elsewhere/{key}');
await('new names', sub { defined $client->command('GET', 'elsewhere/app1:a') });
await_connected($session);
ok(await_in_sync($session), 'redis_key: all have their new names');
is(scalar(grep { /^elsewhere/ } keys %{ $redis->contents($DB) }),
	$session->query('SELECT count(*) FROM distlock.locks'), '... each');
like($client->command('HGET', 'distlock-mirror:postgres:elsewhere/{key}', ''), qr/^\d{19} \d{16} [0-9a-f]{16}$/,
	'... and a book of their own');
change_setting($session, 'distlock.redis_key', 'distlock:{database}:{key}');
mirrored_too('back again');

# Keys of the other name may still be there, for their time to live.
sub mirrored_too
{
	my ($what) = @_;
	my $expected;

	await($what, sub {
		my $held = held_values($session);
		my $found = $redis->contents($DB);

		return !grep { ($found->{ redis_key($_) } // '') ne $held->{$_} } keys %$held;
	});
	return ok(await_in_sync($session), $what);
}

change_setting($session, 'distlock.redis_value', 'token');
my $tokens = $session->query(q{SELECT key || '|' || token FROM distlock.lock WHERE token IS NOT NULL ORDER BY key COLLATE "C"});
hear();
await('the tokens', sub {
	join("\n", map { "$_|" . (value_of($_) // '') } sort keys %{ held_values($session) }) eq $tokens });
ok(await_in_sync($session), 'redis_value = token');
change_setting($session, 'distlock.redis_value', 'json');
mirrored_too('... and json again');

# The time to reconcile
my $reconciled = mirror_status($session, 'reconciled_at');
change_setting($session, 'distlock.redis_reconcile', '1s');
await('another reconciliation', sub {
	$session->query("SELECT reconciled_at > '$reconciled' FROM distlock.mirror_status") eq 't' });
$client->command('DEL', redis_key('app1:a'));
mirrored_too('a reconciliation repairs');
change_setting($session, 'distlock.redis_reconcile', '5min');

# ---------------------------------------------------------------------------
# Databases; without preloading
# ---------------------------------------------------------------------------

$session->query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION distlock');
my $elsewhere = session($node, 'other');
await_connected($elsewhere);
push @tokens, $elsewhere->query("SELECT distlock.acquire('app1:a', '1 h', owner => 'the other')");
await('the other lock', sub { defined $client->command('GET', 'distlock:other:app1:a') });
like($client->command('GET', 'distlock:other:app1:a'), qr/"the other"/, 'each database has its own keys');
mirrored_too('... that do not meet');
is($session->query('SELECT database, state FROM distlock.mirror_status ORDER BY 1'),
	"other|connected\npostgres|connected", '... and its own mirror');
is($session->query("SET ROLE somebody; SELECT database, state FROM distlock.mirror_status; RESET ROLE"),
	'postgres|connected', '... of which others see their own');
change_setting($session, 'distlock.redis_url', '');
await('no mirror', sub { mirror_status($session) eq '' });
$session->query("ALTER DATABASE other SET distlock.redis_url = '$name'");
kill('TERM', await_worker($session, 'other'));
await_connected($elsewhere);
is(mirror_status($session), '', 'a setting of one database: the others have no mirror');
$elsewhere->quit;
$session->query('DROP DATABASE other');

change_setting($session, 'distlock.redis_url', $name);
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$_->quit foreach $session, $other;
$node->restart;
$session = session($node);
$other = session($node);
is(mirror_status($session), '', 'not preloaded, no worker: no mirror');
$session->query("SELECT distlock.acquire('before the worker', '1 h')");
is($session->query('SELECT distlock.start_worker()'), 't', 'start_worker()');
await_connected($session);
mirrored_too('... and there is the mirror');
$session->query("SELECT distlock.acquire('not preloaded', '1 h', owner => 'me')");
mirrored_too('... which follows');
$session->query("SELECT distlock.force_release('not preloaded')");
await('the key to go', sub { !defined value_of('not preloaded') });
ok(1, '... a release, too');
hear();

# ---------------------------------------------------------------------------
# Tokens
# ---------------------------------------------------------------------------

# Nothing that was ever sent has contained one of these, and nothing does.  (They
# were not held while redis_value was token.)
my $pattern = join '|', map { quotemeta } @tokens;
cmp_ok(scalar @tokens, '>', 20, scalar @tokens . ' tokens');
is(scalar @leaks, 0, '... were never told to Redis');
foreach my $server ($redis, $second)
{
	foreach my $db (0 .. 15)
	{
		my $contents = $server->contents($db, 1);

		is(scalar(grep { /$pattern/ } map { ref $_ eq 'HASH' ? %$_ : $_ } %$contents), 0,
			"... nor are they in its database $db") if %$contents;
	}
}
is_deeply([ log_lines($node, 0, qr/PANIC:|WARNING:|by signal/) ], [], 'no complaints in the log');

$_->quit foreach $session, $other;
$node->stop;
done_testing();
