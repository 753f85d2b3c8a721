# The rules that a mirror keeps in Redis, each by itself, after Redis has been told
# of all that is committed: what is held is there until its end, what is another
# program's is left alone, and who has been superseded writes nothing more.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf($redis, "distlock.redis_timeout = '20s'"));
my $session = session($node);
my $other = session($node);
my $client = $redis->client;
my $book = 'distlock-mirror:postgres:distlock:postgres:{key}';

sub redis_key { return "distlock:postgres:$_[0]"; }
sub value_of { return $client->command('GET', redis_key($_[0])); }
sub goes_at { return $client->goes_at(redis_key($_[0])); }

sub acquire
{
	my ($key, $arguments) = @_;

	return $session->query("SELECT distlock.acquire_with_token('$key', 'token of $key', "
		  . ($arguments // "'10 min'") . ')');
}

sub extend
{
	my ($key, $ttl) = @_;

	return $session->query("SELECT distlock.extend('$key', 'token of $key', '$ttl') IS NOT NULL");
}

sub release
{
	my ($key) = @_;

	return $session->query("SELECT distlock.release('$key', 'token of $key')");
}

# When a lock ends, in milliseconds since 1970.
sub ends_at
{
	my ($key) = @_;

	return $session->query(
		"SELECT extract(epoch FROM expires_at) * 1000 FROM distlock.locks WHERE key = '$key'");
}

# Wait until Redis has been told of everything that was committed before: a page
# of the table is read as a whole, and all of this fits in one.
my $marks = 0;

sub catch_up
{
	my $mark = 'mark ' . ++$marks;

	acquire($mark);
	await("$mark in Redis", sub { defined value_of($mark) });
	return;
}

# ---------------------------------------------------------------------------
# What is held
# ---------------------------------------------------------------------------

await_connected($session);
acquire('held');
catch_up();
like(value_of('held'), qr/^\{"fence":\d+,/, 'what is held is there');
unlike(value_of('held'), qr/token/, '... without its token');
cmp_ok(goes_at('held'), '>=', ends_at('held'), '... until the lock ends');
cmp_ok(goes_at('held'), '<', ends_at('held') + 10_000, '... and not much longer');

extend('held', '20 min');
catch_up();
cmp_ok(goes_at('held'), '>=', ends_at('held'), 'extended: it stays until the new end');
extend('held', '10 min');
catch_up();
cmp_ok(goes_at('held'), '<', ends_at('held') + 10_000, 'shortened: it goes at the new end');

# ---------------------------------------------------------------------------
# What is another program's
# ---------------------------------------------------------------------------

$client->command('SET', redis_key('before'), 'foreign');
acquire('before');
catch_up();
is(value_of('before'), 'foreign', 'another program was there before: its value stays');
release('before');
catch_up();
is(value_of('before'), 'foreign', '... also when the lock is released');

acquire('before');
catch_up();
$client->command('DEL', redis_key('before'));
await('the lock to get its key', sub { defined value_of('before') });
pass('... and when it has gone, the lock gets its key');

acquire('after');
catch_up();
$client->command('SET', redis_key('after'), 'foreign');
extend('after', '20 min');
catch_up();
is(value_of('after'), 'foreign', 'another program comes after: its value stays');
release('after');
catch_up();
is(value_of('after'), 'foreign', '... also when the lock is released');

# ---------------------------------------------------------------------------
# What is not committed.  The page is then read again after a second, which the
# tests above do not need.
# ---------------------------------------------------------------------------

$other->query("BEGIN; SELECT distlock.acquire('uncommitted', '10 min')");
catch_up();
is(value_of('uncommitted'), undef, 'what is not committed does not show');
$other->query('ROLLBACK');

$other->query('BEGIN');
$other->query("SELECT distlock.release('held', 'token of held')");
catch_up();
ok(defined value_of('held'), 'a release that is not committed does not show');
$other->query('COMMIT');
catch_up();
is(value_of('held'), undef, 'what is released has gone');

# ---------------------------------------------------------------------------
# What the book says
# ---------------------------------------------------------------------------

# Not before, since renewing it would read the page again.
acquire('session', "'1 ms', scope => 'session'");
acquire('fence');
catch_up();
my $until = goes_at('fence');
my $note = $client->command('HGET', $book, redis_key('fence'));
my ($fence, $rest) = $note =~ /^(\d{19})( .*)$/;

$client->command('HSET', $book, redis_key('fence'), sprintf('%019d%s', $fence + 1, $rest));
extend('fence', '20 min');
catch_up();
cmp_ok(abs(goes_at('fence') - $until), '<', 1000, 'nothing is written over what has a newer fence');
$client->command('HSET', $book, redis_key('fence'), $note);
await('the extension', sub { goes_at('fence') > $until + 1000 });

# Nobody changes anything, and the key of a session's lock, whose time is short, is
# written anew.
$until = goes_at('session');
await('the key to be renewed', sub { goes_at('session') > $until + 1000 });
ok(defined value_of('session'), 'the key of a session that lives is renewed');
release('session');

# A worker that comes anew finds what it has missed.
acquire($_) for qw(left overwritten kept);
catch_up();
$session->query('SELECT distlock.stop_worker()');
await_no_worker($session, 'postgres');
release($_) for qw(left overwritten);
$client->command('SET', redis_key('overwritten'), 'foreign');
my $before = $session->query('SELECT clock_timestamp()');
$session->query('SELECT distlock.start_worker()');
await_mirror($session, "reconciled_at > '$before'", 'connected');
is(value_of('left'), undef, 'after a reconciliation: what was released meanwhile has gone');
is(value_of('overwritten'), 'foreign', '... but not what another program has written there');
ok(defined value_of('kept'), '... and what is held is there');

# Nothing is written now, which would fail, so that it has to be noticed.
$client->command('FLUSHALL');
await('the mirror to be filled again', sub { defined value_of('kept') });
pass('after FLUSHALL all is there again');

# ---------------------------------------------------------------------------
# Superseded
# ---------------------------------------------------------------------------

my ($worker) = $session->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'distlock worker'");
my ($epoch, $counter, $system) = split / /, $client->command('HGET', $book, '');

catch_up();
stop_resting($worker);
acquire('late');
$client->command('HSET', $book, '', sprintf('%019d %s %s', $epoch + 1, $counter, $system));
kill('CONT', $worker);
await('the worker to notice', sub {
	mirror_status($session, "last_error ~ 'newer epoch'") eq 't'; });
is(value_of('late'), undef, 'a server with a newer epoch has come: nothing is written any more');
is($client->command('HGET', $book, '') =~ /^0*(\d+) / && $1, $epoch + 1, '... nor the claim taken back');

$node->stop;
done_testing();
