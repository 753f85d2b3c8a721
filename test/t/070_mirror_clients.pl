# Programs that know only Redis stay out while a lock is held in PostgreSQL, and
# get in when it is not any more.  When one of them was there first, the mirror
# lets it be, says so, and comes in as soon as it has gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockMirrorJudge;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

skip_without_redis();

# A lock that met with another program's value is tried again every second.
my $SOON = 10;

my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf($redis, "distlock.redis_key = 'plain'", "distlock.redis_timeout = '20s'"));
my $on_plain = session($node);

# Which keys are used can be set for a database.
$on_plain->query('CREATE DATABASE rueidis');
$on_plain->query("ALTER DATABASE rueidis SET distlock.redis_key = 'rueidislock'");
my $on_rueidis = session($node, 'rueidis');
$on_rueidis->query('CREATE EXTENSION distlock');
await_connected($_) foreach $on_plain, $on_rueidis;

# ---------------------------------------------------------------------------
# A client
# ---------------------------------------------------------------------------

sub client
{
	my ($kind, $key) = @_;
	my %client = (kind => $kind, in => '', out => '', err => '');

	# The system's own Python, which has the system's packages.
	$client{timeout} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$client{run} = IPC::Run::start(
		[ '/usr/bin/python3', "$FindBin::RealBin/../clients/redis_lockers.py", $kind, $redis->port, $key ],
		'<', \$client{in}, '>', \$client{out}, '2>', \$client{err}, $client{timeout});
	return \%client;
}

# Begin to do something; followed by answer().
sub order
{
	my ($client, $command) = @_;

	$client->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	$client->{in} .= "$command\n";
	$client->{run}->pump_nb while length $client->{in};
	return;
}

sub answer
{
	my ($client) = @_;

	eval { $client->{run}->pump until $client->{out} =~ /\n/; 1 }
	  or die "no answer from the client: $@\n$client->{err}";
	my ($answer) = $client->{out} =~ /^(.*)\n/;
	$client->{out} = '';
	return $answer;
}

sub ask
{
	my ($client, $command) = @_;

	order($client, $command);
	return answer($client);
}

# ---------------------------------------------------------------------------
# The same for each kind of client
# ---------------------------------------------------------------------------

sub acquire
{
	my ($session, $key, $ttl) = @_;

	return $session->query("SELECT distlock.acquire_with_token('$key', 'mine', '$ttl', owner => 'me')");
}

# Fences under the Redis keys: -1 for none, 0 for what is not ours.
sub fences
{
	my (@redis_keys) = @_;

	return map { my $value = $redis->command('GET', $_); defined $value ? fence_of($value) // 0 : -1 } @redis_keys;
}

# Wait until all of the keys have the fence.
sub await_fence
{
	my ($fence, @redis_keys) = @_;

	await("fence $fence", sub { !grep { $_ != $fence } fences(@redis_keys) });
	return;
}

sub conflicts { return mirror_status($_[0], 'conflicts'); }

for my $kind ('library', 'set', 'rueidislock')
{
	my $session = $kind eq 'rueidislock' ? $on_rueidis : $on_plain;
	my $key = "job of $kind";
	my @redis_keys = $kind eq 'rueidislock' ? map { "rueidislock:$_:$key" } 0 .. 2 : $key;
	my $client = client($kind, $key);

	# PostgreSQL comes first.
	my $fence = acquire($session, $key, '1 h');
	await_fence($fence, @redis_keys);
	is(ask($client, 'try 60000'), 'refused', "$kind: refused while the lock is held in PostgreSQL");
	order($client, 'wait 60000 100');
	is_deeply([ fences(@redis_keys) ], [ ($fence) x @redis_keys ], '... and waits');
	$session->query("SELECT distlock.release('$key', 'mine')");
	like(answer($client), qr/^acquired/, '... and gets it after a release');
	# Who tries just when they are deleted gets the majority, and not all.
	await('the client to have all of them', sub {
		return 1 unless grep { $_ == -1 } fences(@redis_keys);
		ask($client, 'release');
		ask($client, 'try 60000');
		return 0;
	});

	# Now the client has it, and PostgreSQL does not care.
	my @before = map { $redis->command('GET', $_) } @redis_keys;
	my $monitor = $redis->monitor;
	$fence = acquire($session, $key, '1 h');
	await('a conflict', sub { conflicts($session) == 1 });
	is(mirror_status($session, 'state'), 'connected', "$kind: a conflict is no failure");
	is(join("\n", sort split /\n/, $session->query("SELECT key, redis_key, problem FROM distlock.mirror_check()")),
		join("\n", map { "$key|$_|foreign" } sort @redis_keys), '... mirror_check() finds it');
	is(ask($client, 'extend 60000'), 'extended', '... the client keeps its lock');
	$session->query("SELECT distlock.extend('$key', 'mine', '2 h')");
	$session->query("SELECT distlock.release('$key', 'mine')");
	await('no conflict', sub { conflicts($session) == 0 });
	pass('... no conflict is left when the lock is released in PostgreSQL');
	$fence = acquire($session, $key, '1 h');
	await('a conflict', sub { conflicts($session) == 1 });
	my %wrote = map { $_ => 1 } 'set', 'del', 'pexpire', 'unlink', 'expire', 'getset', 'psetex', 'pexpireat', 'rename';
	my %ours = map { $_ => 1 } @redis_keys;
	# The client has extended it itself, once.
	is_deeply([ map { "@{$_->{args}}" } grep { $wrote{ lc $_->{args}[0] } && $ours{ $_->{args}[1] }
				&& !(lc $_->{args}[0] eq 'pexpire' && $_->{client} eq 'lua') } $monitor->commands ],
		[], '... and the mirror has not touched the key');
	$monitor->close;
	is_deeply([ map { $redis->command('GET', $_) } @redis_keys ], \@before, '... nor its value');
	is(ask($client, 'release'), 'released', '... the client releases what is still its own');
	my $released = time();
	await_fence($fence, @redis_keys);
	my $took = time() - $released;
	cmp_ok($took, '<', $SOON, "... then the lock shows within $SOON s");
	note sprintf '%s: mirrored %.2f s after the other program had released', $kind, $took;
	becomes(sub { conflicts($session) }, 0, '... and nothing conflicts any more');
	is(ask($client, 'extend 60000'), 'not owned', "$kind: the client cannot extend what is not its own");
	is(ask($client, 'release'), 'not owned', '... nor release it');
	is_deeply([ fences(@redis_keys) ], [ ($fence) x @redis_keys ], '... it is as before');

	# The lease expires, which keeps the client out to the last moment.
	$session->query("SELECT distlock.extend('$key', 'mine', '1500 ms')");
	my $end = $session->query("SELECT extract(epoch FROM expires_at) FROM distlock.locks WHERE key = '$key'");
	my $acquired = ask($client, 'wait 300 100');
	like($acquired, qr/^acquired/, "$kind: acquired after the lease has expired");
	my ($moment) = $acquired =~ /acquired (.*)/;
	cmp_ok($moment, '>=', $end, '... not before');
	is($session->query("SELECT distlock.is_held('$key')"), 'f', '... when it is not held in PostgreSQL');

	# The client's lock expires as well, without a release.
	$fence = acquire($session, $key, '1 h');
	await_fence($fence, @redis_keys);
	becomes(sub { conflicts($session) }, 0, '... and when the lease of the client has expired, the lock shows');
	$session->query("SELECT distlock.release('$key', 'mine')");
	await_fence(-1, @redis_keys);
	is($session->query('SELECT count(*) FROM distlock.mirror_check()'), 0, "$kind: nothing is left over");
	$client->{run}->finish;
}

# ---------------------------------------------------------------------------
# A majority of the keys is another program's
# ---------------------------------------------------------------------------

my @redis_keys = map { "rueidislock:$_:two" } 0 .. 2;
$redis->command('SET', $_, 'another', 'PX', 60_000) foreach @redis_keys[ 0, 1 ];
my $fence = acquire($on_rueidis, 'two', '1 h');
await('a conflict', sub { conflicts($on_rueidis) == 1 });
is_deeply([ map { $redis->command('GET', $_) } @redis_keys[ 0, 1 ] ], [ ('another') x 2 ],
	'two of three keys are another program\'s: they stay');
$redis->command('DEL', $redis_keys[1]);
await_fence($fence, @redis_keys[ 1, 2 ]);
is(conflicts($on_rueidis), 1, '... one of three: it is still a conflict');
is(ask(my $client = client('rueidislock', 'two'), 'try 1000'), 'refused', '... but keeps others out');
$redis->command('DEL', $redis_keys[0]);
await_fence($fence, @redis_keys);
await('no conflict', sub { conflicts($on_rueidis) == 0 });
$client->{run}->finish;

# ---------------------------------------------------------------------------
# Programs that know no manners
# ---------------------------------------------------------------------------

# Something else than a string
$redis->command('HSET', 'a hash', 'field', 'value');
$redis->command('RPUSH', 'a list', 'value');
$fence = acquire($on_plain, $_, '1 h') foreach 'a hash', 'a list', 'not theirs';
await('two conflicts', sub { conflicts($on_plain) == 2 });
await_fence($fence, 'not theirs');
is_deeply([ map { $redis->command('TYPE', $_) } 'a hash', 'a list' ], [ 'hash', 'list' ],
	'keys of other types are not touched');
is($on_plain->query("SELECT distlock.release('a hash', 'mine')"), '', '... the lock can be released');
await('a conflict', sub { conflicts($on_plain) == 1 });
is($redis->command('HGET', 'a hash', 'field'), 'value', '... which does not touch it either');
$redis->command('DEL', 'a hash', 'a list');
await('no conflict', sub { conflicts($on_plain) == 0 });

# Our key, overwritten or deleted
$redis->command('SET', 'not theirs', 'mine now');
is($on_plain->query('SELECT key, redis_key, problem FROM distlock.mirror_check()'),
	'not theirs|not theirs|foreign', 'what has been overwritten is found');
$on_plain->query("SELECT distlock.extend('not theirs', 'mine', '2 h')");
await('a conflict', sub { conflicts($on_plain) == 1 });
is($redis->command('GET', 'not theirs'), 'mine now', '... and left to the other program');
$redis->command('DEL', 'not theirs');
await_fence($fence, 'not theirs');
$redis->command('DEL', 'not theirs');
is($on_plain->query('SELECT key, redis_key, problem FROM distlock.mirror_check()'),
	'not theirs|not theirs|missing', 'what has been deleted is found');
await_fence($fence, 'not theirs');
pass('... and is set again');
$redis->command('PEXPIRE', 'not theirs', 60_000);
is($on_plain->query('SELECT key, redis_key, problem FROM distlock.mirror_check()'),
	'not theirs|not theirs|expires early', 'what would go too early is found');
await('the time to be right', sub { $redis->command('PTTL', 'not theirs') > 3_600_000 });
ok(await_in_sync($on_plain), '... and put right');

$_->quit foreach $on_plain, $on_rueidis;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
