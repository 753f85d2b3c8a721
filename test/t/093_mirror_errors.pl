# Errors of the worker's own, while it works for a mirror: a page that cannot be
# read, a sequence that somebody has locked, a cancel.  The mirror says what it was,
# the worker stays and does its other work, and all is well when the error has gone.

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
my $node = new_node('main', conf => redis_conf($redis, "distlock.purge_after = '1 h'"));
my $session = session($node);
my $worker = await_worker($session, 'postgres');
my $copies = 2;

# A mirror that is new, and so has to claim and read everything.
sub begin_anew
{
	my $since = $session->query('SELECT clock_timestamp()');

	$copies = 5 - $copies;
	change_setting($session, 'distlock.redis_majority', $copies);
	await('a new mirror', sub { mirror_status($session, "since > '$since'") eq 't' });
	return;
}

sub is_disconnected
{
	my ($error, $name) = @_;

	await_mirror($session, "last_error ~ '$error'", 'disconnected');
	return pass($name);
}

$session->query("SELECT distlock.acquire_with_token('job', 'mine', '1 h')");
await_connected($session);

# ---------------------------------------------------------------------------
# A sequence that it has to read, which somebody has locked
# ---------------------------------------------------------------------------

my $other = session($node);
my $waits = "SELECT count(*) FROM pg_locks WHERE pid = $worker AND NOT granted";

$other->query('BEGIN; ALTER SEQUENCE distlock.epoch_seq OWNER TO CURRENT_USER');
begin_anew();
is_disconnected('lock timeout', 'it does not wait for long');
await('another try', sub { $session->query($waits) eq '1' });
is($session->query("SELECT pg_cancel_backend($worker)"), 't', 'it is cancelled while it waits');
$other->query('COMMIT');
await_connected($session);
is_mirrored($redis, $session, 'when the lock has gone, all is there');

# Also by a cancel, when it was connected: it reconciles then.
# Should we be late, it is the worker's own timeout that ends the wait, and the connection.
my $connections;
for my $attempt (1 .. 5)
{
	$connections = mirror_status($session, 'connections');
	$redis->command('DEL', 'distlock:postgres:job');
	$other->query('BEGIN; ALTER SEQUENCE distlock.epoch_seq OWNER TO CURRENT_USER');
	change_setting($session, 'distlock.redis_reconcile', '1s');
	await('a reconciliation', sub { $session->query($waits) eq '1' });
	$session->query("SELECT pg_cancel_backend($worker)");
	$other->query('COMMIT');
	await('the lost key', sub { defined $redis->command('GET', 'distlock:postgres:job') });
	await_connected($session);
	change_setting($session, 'distlock.redis_reconcile', '300s');
	last if mirror_status($session, 'connections') == $connections;
}
is(mirror_status($session, 'connections'), $connections, 'a cancel does not end a connection');
is(await_worker($session, 'postgres'), $worker, 'the worker is the same');
$_->quit foreach $other, $session;

# ---------------------------------------------------------------------------
# Redis does not read: what there is no room for is sent when there is again.
# ---------------------------------------------------------------------------

$session = session($node);
change_setting($session, 'distlock.redis_timeout', '1min');
change_setting($session, 'distlock.redis_url', $redis->unix_url);
await_mirror($session, "mirror LIKE 'unix:%'", 'connected');
$redis->freeze;
my $many = 'DO $$ BEGIN FOR i IN 1 .. 3000 LOOP'
  . " PERFORM distlock.%s('much ' || i || repeat('-', 450), 'mine'%s);"
  . ' IF i %% 100 = 0 THEN COMMIT; END IF; END LOOP; END $$';
$session->query(sprintf $many, 'acquire_with_token', ", '1 h', owner => repeat('o', 250)");
await_mirror($session, 'lag_ms > 100', 'connected');
pass('it is behind');
is(await_worker($session, 'postgres'), $worker, '... and alive');
$redis->thaw;
is_mirrored($redis, $session, 'what could not be sent is, later');
is(mirror_status($session, 'connections, errors'), '1|0', '... by the same connection');
$session->query(sprintf $many, 'release', '');
is_mirrored($redis, $session, '... and goes');
$session->quit;

# ---------------------------------------------------------------------------
# A page that cannot be read
# ---------------------------------------------------------------------------

$session = session($node);
$session->query("SELECT count(distlock.acquire('old ' || i, '1 h', data => repeat('x', 400))) FROM generate_series(1, 40) i");
my $file = $node->data_dir . '/' . $session->query("SELECT pg_relation_filepath('distlock.lock')");
$session->quit;
$node->stop;
open(my $handle, '+<:raw', $file) or die "cannot open $file: $!";
read($handle, my $page, 24) == 24 or die "cannot read $file";
seek($handle, 0, 0);
print $handle "\xff" x 24;
close($handle);
$node->start;

# The state of the worker is "failed", for it cannot look for what has lapsed there.
$session = session($node);
await_state($session, 'postgres', 'failed');
($worker) = pids($session, 'worker', 'postgres');
is_disconnected('invalid page in block 0', 'a page that cannot be read is shown');
my ($errors) = mirror_status($session, 'errors');
await('more tries', sub { mirror_status($session, "errors > $errors") eq 't' });
is(join(',', pids($session, 'worker', 'postgres')), $worker, 'the worker stays');

open($handle, '+<:raw', $file) or die "cannot open $file: $!";
print $handle $page;
close($handle);
await_connected($session);
is_mirrored($redis, $session, 'the page is right again: all is there');
ok(await_in_sync($session), '... and nothing else');

$session->quit;
$node->stop;
$redis->stop;
done_testing();
