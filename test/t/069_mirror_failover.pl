# Of several who could write into the same Redis it is always the latest: a
# promoted standby, a restored backup or dump, an extension made anew.  Whoever
# was there before is refused, connected or not, and says so; and so is what an
# earlier connection of the same worker still has under way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockMirrorJudge;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

skip_without_redis();

my $TIMEOUT = 200;    # ms, of whatever is sent to Redis
my $prefix = 'distlock:postgres:';

my $redis = DistlockRedis->new('main');
my $judge = DistlockMirrorJudge->new($redis);
my $primary = new_node('primary', allows_streaming => 1, has_archiving => 1,
	conf => redis_conf($redis, "distlock.redis_timeout = '$TIMEOUT ms'", 'wal_keep_size = 128MB'));
my $on_primary = session($primary);

await_connected($on_primary);
$judge->attach;

sub acquire
{
	my ($session, $key, $ttl) = @_;

	return $session->query(
		"SELECT distlock.acquire_with_token('$key', 'mine', '${\ ($ttl // '1 h')}', owner => 'me')");
}

sub release
{
	my ($session, $key) = @_;

	return $session->query("SELECT distlock.release('$key', 'mine')");
}

sub exists_now
{
	my ($key) = @_;

	return $redis->command('EXISTS', "$prefix$key");
}

sub await_key
{
	my ($key, $wanted) = @_;

	await("\"$key\" to be " . ($wanted ? 'there' : 'gone'), sub { exists_now($key) == $wanted });
	return 1;
}

sub is_true
{
	my ($session, $what, %options) = @_;

	ok(await_connected($session), "$what: connected");
	shows_what_is_held($session, $redis, $what, %options);
	return;
}

# Wait until the mirror is refused, because somebody else writes by right, and
# says what to do should that be wrong.
sub is_refused
{
	my ($session, $what) = @_;

	ok(await_mirror($session, "last_error ~ 'superseded.*advance_fence\(\)'", 'disconnected'), "$what: refused");
	is($session->query("SELECT mirror_state, mirror_last_error ~ 'superseded.*advance_fence\(\)'
			FROM distlock.worker_status WHERE database = current_database()"),
		'disconnected|t', '... as is shown of the worker, too');
	return;
}

# Wait until the mirror, which is refused, has tried again so many times.
sub await_tries
{
	my ($session, $tries) = @_;
	my $before = mirror_status($session, 'errors');

	await('more tries', sub { mirror_status($session, 'errors') >= $before + $tries });
	return;
}

# ---------------------------------------------------------------------------
# A standby is promoted, and the primary does not know
# ---------------------------------------------------------------------------

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
my $on_standby = session($standby);

my %fence = map { ($_ => acquire($on_primary, $_)) } 'stays', 'released by the new', 'released by the old';
my $of_session = session($primary);
$of_session->query("SELECT distlock.acquire_with_token('of a session', 'mine', '1 h', scope => 'session')");
await_key($_, 1) foreach keys %fence, 'of a session';
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
await('the standby to see them', sub { $on_standby->query("SELECT distlock.is_held('stays')") eq 't' });

is($on_standby->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'distlock %'"),
	0, 'a standby has no worker');
my $writers = sub {
	return scalar grep { !/\bcmd=client/i && !/\bflags=O/ } split /\n/, $redis->command('CLIENT', 'LIST');
};
becomes($writers, 1, "one worker is connected to Redis: the primary's");
is_true($on_primary, 'primary');
is($on_standby->query("SELECT count(*) FROM distlock.mirror_status WHERE state IN ('connected', 'reconciling', 'failing')"),
	0, 'the standby shows no mirror as connected');
is($on_standby->fails('SELECT * FROM distlock.mirror_check()'), '55000', '... and has none to check');

# The primary writes on while the standby is promoted.
my $writing = session($primary);
$writing->send(<<'EOQ');
DO $$ BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM distlock.try_acquire_with_token('load ' || i % 10, 'mine', '1 h', owner => 'old');
		COMMIT;
		PERFORM pg_sleep(0.005);
		PERFORM distlock.try_release('load ' || i % 10, 'mine');
		COMMIT;
	END LOOP;
END $$
EOQ
usleep(300_000);
$standby->promote;
# It may lack the last of what the primary has granted and released, and so holds
# what it held before.
my $held = held_locks($on_standby);
ok(await_connected($on_standby), 'promoted: the standby writes');
is_refused($on_primary, 'the old primary');
$writing->result;
is($writing->sqlstate, '', '... and nobody there has noticed');
is_true($on_standby, 'promoted');
is(fence_of($redis->command('GET', $prefix . 'stays')), $fence{stays}, 'what was held is held');
ok(exists_now('of a session'), '... of a session as well: it is reserved');

# Whatever the old one does now
my $late = acquire($on_primary, 'late');
release($on_primary, 'released by the old');
my $later = $on_primary->query("SELECT distlock.force_release('stays')")
  && acquire($on_primary, 'stays');
$judge->read;
my $sets = $judge->sets;
await_tries($on_primary, 3);
is_deeply([ map { exists_now($_) } 'late', 'released by the old', 'stays' ], [ 0, 1, 1 ],
	'what the old primary does now does not show');
is(fence_of($redis->command('GET', $prefix . 'stays')), $fence{stays}, '... not even as another value');
my $new = acquire($on_standby, 'late');
release($on_standby, 'released by the new');
await_key('late', 1);
await_key('released by the new', 0);
is(fence_of($redis->command('GET', $prefix . 'late')), $new, 'what the new primary does shows');
cmp_ok($new, '>', $late, '... with a higher fence');
is($on_primary->fails('SELECT * FROM distlock.mirror_check()'), '', 'the old primary can be asked');
is($on_primary->query("SELECT problem FROM distlock.mirror_check()"), 'not connected',
	'... and says that its mirror is not connected');
$judge->read;
is_deeply([ grep { $judge->saw($_) } $late, $later ], [], "Redis was not told of the old primary's locks");
my %lacking = map { ("$prefix$_: $held->{$_}{fence}" => 1) } keys %$held;
is_deeply([ grep { !$lacking{ s/ after .*//r } } $judge->regressions ], [],
	'no fence went back, but of what the standby still holds');

# It does not help to begin anew.
my $worker = await_worker($on_primary, 'postgres');
$on_primary->query("SELECT pg_terminate_backend($worker)");
await_worker($on_primary, 'postgres', $worker);
is_refused($on_primary, 'a new worker of the old primary');
$on_primary->quit;
$_->quit foreach $of_session, $writing;
$primary->restart;
$on_primary = session($primary);
is_refused($on_primary, 'the old primary restarted');
is_true($on_standby, 'meanwhile');
# Unless somebody says that it is to be so.
$on_primary->query('SELECT distlock.advance_fence()');
ok(await_connected($on_primary), 'after advance_fence() the old primary writes');
is_refused($on_standby, 'then the other one');
is_true($on_primary, 'after advance_fence()');
$on_primary->quit;
$primary->stop;
# Who was refused does not come back by itself when the other one has gone.
$on_standby->query('SELECT distlock.advance_fence()');
is_true($on_standby, 'the standby again');

# ---------------------------------------------------------------------------
# Late commands of an earlier connection
# ---------------------------------------------------------------------------

# What the administrator has ordered may have taken fences back.
$judge = DistlockMirrorJudge->new($redis);
$judge->attach;

# Redis stands still long enough for the worker to give up, while locks come and
# go; then it does all it was told, in whatever order.
my $load = session($standby);
my $times = 10;
my @found;
for my $time (1 .. $times)
{
	my $errors = mirror_status($on_standby, 'errors');

	# It goes on until the lock is free.
	$on_standby->query('SELECT pg_advisory_lock(1)');
	$load->send(<<"EOQ");
DO \$\$ DECLARE
	i integer := 0;
BEGIN
	LOOP
		i := i + 1;
		PERFORM distlock.try_acquire_with_token('late ' || i % 20, 'mine', '1 h', owner => i::text);
		COMMIT;
		PERFORM distlock.try_release('late ' || i % 20, 'mine') WHERE i % 3 > 0;
		COMMIT;
		PERFORM pg_sleep(0.002);
		EXIT WHEN pg_try_advisory_xact_lock(1);
	END LOOP;
END \$\$
EOQ
	usleep(20_000 + rand 50_000);
	$redis->freeze;
	# It gives up once or several times: there may be several connections that
	# Redis does not know of yet.
	my $tries = rand 4;
	await('the worker to give up', sub { mirror_status($on_standby, 'errors') > $errors + $tries });
	$redis->thaw;
	usleep(rand 50_000);
	$on_standby->query('SELECT pg_advisory_unlock(1)');
	$load->result;
	die $load->stderr if $load->sqlstate ne '';
	await_connected($on_standby);
	await_no_differences($on_standby, $redis);
	push @found, check_connected($on_standby);
}
is_deeply(\@found, [ ('') x $times ], "Redis hung $times times, and came to show what is held");
$judge->read;
is_deeply([ $judge->regressions ], [], '... without a fence that went back');
cmp_ok(mirror_status($on_standby, 'connections'), '>', $times, 'each time on a new connection');
$load->quit;

# ---------------------------------------------------------------------------
# The extension is made anew
# ---------------------------------------------------------------------------

acquire($on_standby, 'from before');
acquire($on_standby, 'of both');
await_key($_, 1) foreach 'from before', 'of both';
$on_standby->query('DROP EXTENSION distlock; CREATE EXTENSION distlock');
my $granted = acquire($on_standby, 'of both');
# Its fences begin anew, so it may be taken for an old one.  Then it says what
# is to be done.
my $refused = 0;
await('the new extension to be connected or refused', sub {
	my ($state, $connected, $error) = split /\|/, $on_standby->query(<<'EOQ'), 3;
SELECT state, connections, coalesce(last_error, '') FROM distlock.mirror_status
EOQ
	$refused = ($state // '') eq 'disconnected' && $error =~ /advance_fence\(\)/;
	# The worker of before may be connected still.
	return $refused || ($state // '') eq 'connected'
	  && (fence_of($redis->command('GET', $prefix . 'of both')) // 0) == $granted;
});
note $refused ? 'a new extension is refused at first' : 'a new extension is connected at once';
if ($refused)
{
	is($on_standby->query("SELECT distlock.try_acquire('while refused', '1 s') IS NOT NULL"), 't',
		'locks are granted all the same');
	$on_standby->query('SELECT distlock.advance_fence()');
	ok(await_connected($on_standby), 'after advance_fence() it is connected');
}
$on_standby->query("SELECT distlock.force_release('of both')");
$new = acquire($on_standby, 'of both');
is_true($on_standby, 'made anew');
is_deeply([ exists_now('from before'), fence_of($redis->command('GET', $prefix . 'of both')) ],
	[ 0, $new ], '... and what the old one had left has gone');

# ---------------------------------------------------------------------------
# The database is renamed
# ---------------------------------------------------------------------------

$on_standby->query('CREATE DATABASE other');
my $other = session($standby, 'other');
$other->query('CREATE EXTENSION distlock');
ok(await_connected($other), 'another database has a mirror of its own');
$other->query("SELECT distlock.acquire_with_token('named', 'mine', '1 min', owner => 'me')");
ok(await_no_differences($other, $redis, database => 'other'), '... with its own keys');
is($redis->command('EXISTS', 'distlock:other:named'), 1, '... by its name');
$other->quit;
$on_standby->query('ALTER DATABASE other RENAME TO "a:b%c"');
$other = session($standby, 'a:b%c');
ok(await_connected($other), 'renamed: connected');
shows_what_is_held($other, $redis, 'renamed', database => 'a:b%c');
is($redis->command('EXISTS', 'distlock:a%3Ab%25c:named'), 1, 'a lock is found under the new name');
cmp_ok($redis->command('PTTL', 'distlock:other:named'), '!=', -1, '... and does not stay for ever under the old one');
is_true($on_standby, 'not renamed');

# Nobody has ever taken this one for an old one: made anew, it is as new as before.
for my $time ('first', 'second')
{
	$other->query("SELECT distlock.acquire_with_token('key ' || i, 'mine', '1 h') FROM generate_series(1, 50) i");
	$other->query('DROP EXTENSION distlock; CREATE EXTENSION distlock');
	$new = $other->query("SELECT distlock.acquire_with_token('key 50', 'mine', '1 h')");
	ok(await_connected($other), "made anew for the $time time: connected");
	shows_what_is_held($other, $redis, 'made anew', database => 'a:b%c');
	is(fence_of($redis->command('GET', 'distlock:a%3Ab%25c:key 50')), $new, '... what was granted anew shows');
}
$other->quit;

# ---------------------------------------------------------------------------
# A dump is loaded into another server, and a backup is restored
# ---------------------------------------------------------------------------

acquire($on_standby, 'not in a dump');
await_key('not in a dump', 1);
my $dump = $standby->basedir . '/dump.sql';
$standby->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'dump');
my $restored = new_node('restored', conf => redis_conf($redis), extension => 0);
$restored->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $restored->connstr('postgres') ],
	'... and restore');
my $on_restored = session($restored);
$on_restored->query("SELECT distlock.acquire_with_token('restored', 'mine', '1 h', owner => 'me')");
is_true($on_restored, 'restored from a dump');
is_refused($on_standby, 'the one that was dumped');
is_deeply([ exists_now('not in a dump'), exists_now('restored') ], [ 0, 1 ],
	'what is not in the dump goes');
acquire($on_standby, 'too late');
await_tries($on_standby, 2);
is(exists_now('too late'), 0, 'what the one that was dumped does now does not show');
is_true($on_restored, 'still restored from a dump');
$_->quit foreach $on_restored, $on_standby;
$restored->stop;
$standby->stop;

# The backup that was made at the beginning: of a time before all the others
my $point = PostgreSQL::Test::Cluster->new('point');
my $empty = DistlockRedis->new('other');
$primary->append_conf('postgresql.conf', "distlock.redis_url = '${\ $empty->url }'");
$primary->start;
$on_primary = session($primary);
becomes(sub { $on_primary->query('SELECT count(*) FROM distlock.mirror_status') }, 1, 'another Redis is set');
ok(await_connected($on_primary), '... and connected');
acquire($on_primary, 'before the point');
$primary->backup('again');
acquire($on_primary, 'at the point');
$on_primary->query("SELECT pg_create_restore_point('the point')");
acquire($on_primary, 'after the point');
$on_primary->query('SELECT pg_switch_wal()');
ok(await_no_differences($on_primary, $empty), 'locks from before and after a point in time');
$on_primary->quit;
$primary->stop;
$point->init_from_backup($primary, 'again', has_restoring => 1, standby => 0);
$point->append_conf('postgresql.conf', <<'EOC');
recovery_target_name = 'the point'
recovery_target_action = 'promote'
# The standby's is in the archive, too.
recovery_target_timeline = 'current'
archive_mode = off
EOC
$point->start;
my $on_point = session($point);
ok(await_connected($on_point), 'restored to a point in time: connected');
shows_what_is_held($on_point, $empty, 'restored to a point in time');
is_deeply([ map { $empty->command('EXISTS', "$prefix$_") } 'before the point', 'at the point', 'after the point' ],
	[ 1, 1, 0 ], 'Redis is as PostgreSQL was at that point');
$primary->start;
$on_primary = session($primary);
is_refused($on_primary, 'the server that the backup is of');
is_deeply([ differences($on_point, $empty) ], [], '... which changes nothing');
$on_primary->quit;
$primary->stop;

# ---------------------------------------------------------------------------
# A copy of the data that does not know that it is one
# ---------------------------------------------------------------------------

# Nothing tells it from the server that it was copied from, as the manual warns:
# the administrator has to.
my $clone = PostgreSQL::Test::Cluster->new('clone');
$point->backup('of point');
$clone->init_from_backup($point, 'of point');
$clone->append_conf('postgresql.conf', 'archive_mode = off');
$clone->start;
my $on_clone = session($clone);
$on_clone->query('SELECT distlock.advance_fence()');
acquire($on_clone, 'of the clone');
ok(await_connected($on_clone), 'a copy, after advance_fence(): connected');
is_refused($on_point, 'the server it was copied from');
shows_what_is_held($on_clone, $empty, 'a copy');
acquire($on_point, 'of the other');
await_tries($on_point, 2);
is_deeply([ map { $empty->command('EXISTS', "$prefix$_") } 'of the clone', 'of the other' ], [ 1, 0 ],
	'Redis shows the locks of the copy');
$_->quit foreach $on_point, $on_clone;
$_->stop foreach $point, $clone;

is_deeply([ map { slurp_file($_->logfile) =~ /(PANIC:.*|TRAP:.*|.*terminated by signal.*|.*XX000.*)/ } $primary, $standby,
		$restored, $point, $clone ],
	[], 'no crash and no internal error');
done_testing();
