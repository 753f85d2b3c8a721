# Whatever becomes of Redis: sessions do not notice, the worker stays, can be ended
# at once, says what is wrong, and two seconds after the fault has ended Redis
# has what it should.
#
#	DISTLOCK_LONG=1		what has no natural length lasts 30 s instead of 4

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockFaults;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

skip_without_redis();

my $LENGTH = $ENV{DISTLOCK_LONG} ? 30 : 4;
my $SOON = 2;    # seconds, in nine of ten cases

my $redis = DistlockRedis->new('main', password => 'first', start => 0, conf => ['dbfilename old.rdb']);
my $node = new_node('main', conf => redis_conf($redis, "distlock.redis_password_file = 'redis.password'"));
my $url = $redis->url;
my $faults = DistlockFaults->new($node, $redis, baseline => 0);
my $session = $faults->sql;

sub write_password
{
	my ($password) = @_;
	my $file = $node->data_dir . '/redis.password';

	append_to_file("$file.new", "$password\n");
	chmod 0600, "$file.new";
	rename "$file.new", $file or die "could not rename $file.new: $!";
	return;
}

# Our own connection may be among those that Redis has closed.
sub kill_clients
{
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	return;
}

sub value
{
	my ($key) = @_;

	return $redis->command('GET', "distlock:postgres:$key");
}

# That it becomes so, and as a rule soon: see the end
my @took;
sub soon
{
	my ($what, $condition) = @_;
	my $took = seconds_until($condition, 10);

	ok(defined $took, $what) or diag(mirror_status($session));
	push @took, $took // 'inf';
	note sprintf '%s: after %.2f s', $what, $took // 'inf';
	return;
}

write_password('first');
$faults->fault(
	'Redis is down when the server starts',
	begun => 1,
	end => sub { $redis->start },
	error => qr/refused/i);
$faults->measure_baseline(3);

# ---------------------------------------------------------------------------
# It is away, or does not answer
# ---------------------------------------------------------------------------

$faults->fault(
	'kill -9 of Redis',
	begin => sub { $redis->kill9 },
	end => sub { $redis->start },
	error => qr/refused|clos|reset/i);

$faults->fault(
	'Redis is restarted, and is empty',
	begin => sub { $redis->restart },
	state => '',
	terminate => 0,
	length => 0);

$faults->fault(
	'Redis is stopped',
	begin => sub { $redis->freeze },
	end => sub { $redis->thaw },
	length => $LENGTH,
	error => qr/no answer/);

# It ends by itself; who asks meanwhile is answered then.
$faults->fault(
	'CLIENT PAUSE',
	begin => sub { $redis->command('CLIENT', 'PAUSE', 1000 * ($LENGTH + 2)) },
	end => sub { $redis->command('PING') },
	error => qr/no answer/);

$faults->fault(
	'CLIENT KILL',
	begin => \&kill_clients,
	state => '',
	terminate => 0,
	length => 0.5);

# ---------------------------------------------------------------------------
# It has forgotten something
# ---------------------------------------------------------------------------

# The connection lives on; that the claim is gone may be an error of it, or not.
$faults->fault(
	'FLUSHALL',
	begin => sub { $redis->command('FLUSHALL') },
	state => '',
	lines => undef,
	terminate => 0,
	length => 0.5);

# Nothing changes that would have it noticed.
$faults->fault(
	'FLUSHALL when nothing changes',
	end => sub { $redis->command('FLUSHALL') },
	state => '',
	lines => undef,
	terminate => 0,
	length => 0.5);

$faults->fault(
	'SCRIPT FLUSH',
	begin => sub { $redis->command('SCRIPT', 'FLUSH') },
	during => sub {
		$session->query("SELECT distlock.acquire_with_token('after flush', 'mine', '1 h')");
		soon('mirrored after SCRIPT FLUSH', sub { defined value('after flush') });
	},
	state => '',
	lines => undef,
	terminate => 0,
	length => 0.5);

# In the old data are locks that were released, under a claim of ours.
my $old_locks = "distlock.%s('old ' || i, 'mine'%s) FROM generate_series(1, 100) i";
$faults->fault(
	'Redis comes back with old data',
	before => sub {
		$session->query('SELECT ' . sprintf $old_locks, 'acquire_with_token', ", '1 h'");
		soon('mirrored', sub { defined value('old 100') });
		$redis->command('SAVE');
		$session->query('SELECT ' . sprintf $old_locks, 'release', '');
		# Of others, the fence is another one now.
		$session->query(<<'EOQ');
SELECT distlock.release('static ' || i, 'mine'), distlock.acquire_with_token('static ' || i, 'mine', '1 d')
FROM generate_series(1, 100) i
EOQ
	},
	begin => sub { $redis->kill9 },
	end => sub { $redis->start },
	error => qr/refused|clos|reset/i);
like(slurp_file($redis->logfile), qr/DB loaded from disk|Done loading RDB/, 'the old data were loaded');
unlink $redis->{dir} . '/old.rdb';

# ---------------------------------------------------------------------------
# It refuses
# ---------------------------------------------------------------------------

$faults->fault(
	'Redis is made a replica',
	begin => sub { $redis->command('REPLICAOF', '127.0.0.1', 1) },
	end => sub { $redis->command('REPLICAOF', 'NO', 'ONE') },
	state => 'disconnected|failing',
	lines => undef,
	error => qr/READONLY/);

$session->query("SELECT distlock.acquire_with_token('full ' || i, 'mine', '1 h') FROM generate_series(1, 10) i");
$faults->fault(
	'Redis has no memory left',
	begin => sub { $redis->command('CONFIG', 'SET', 'maxmemory', 1) },
	during => sub {
		# When the first change refused has been undone, all is well until the next.
		soon('the connection goes on', sub { mirror_status($session, 'state') eq 'failing' });
		$session->query("SELECT distlock.release('full ' || i, 'mine') FROM generate_series(1, 10) i");
		soon('what is released is removed', sub { !grep { defined value("full $_") } 1 .. 10 });
	},
	end => sub { $redis->command('CONFIG', 'SET', 'maxmemory', 0) },
	# A worker that starts then cannot claim.
	state => 'failing|disconnected',
	lines => undef,
	error => qr/OOM|memory/);

$faults->fault(
	'the password is changed',
	begin => sub {
		$redis->command('CONFIG', 'SET', 'requirepass', $redis->{password} = 'second');
		kill_clients();
	},
	end => sub { write_password('second') },
	error => qr/WRONGPASS|password/);

$faults->fault(
	'the password file is missing, and is open to others',
	begin => sub {
		chmod 0644, $node->data_dir . '/redis.password';
		kill_clients();
	},
	during => sub {
		unlink $node->data_dir . '/redis.password';
		ok(defined seconds_until(sub { mirror_status($session, 'last_error') =~ /No such file/ }, 10),
			'that there is none is an error, too')
		  or diag(mirror_status($session));
	},
	end => sub { write_password('second') },
	error => qr/password/);

$faults->fault(
	'rights are taken away: all keys',
	begin => sub { $redis->command('ACL', 'SETUSER', 'default', 'resetkeys') },
	end => sub { $redis->command('ACL', 'SETUSER', 'default', 'allkeys') },
	state => 'disconnected|failing',
	lines => undef,
	error => qr/NOPERM|permission/i);

$faults->fault(
	'rights are taken away: a command',
	begin => sub { $redis->command('ACL', 'SETUSER', 'default', '-evalsha') },
	end => sub { $redis->command('ACL', 'SETUSER', 'default', '+evalsha') },
	state => 'disconnected|failing',
	lines => undef,
	error => qr/NOPERM|permission/i);

# Those that are allowed go on being mirrored.
$faults->fault(
	'rights are taken away: some of the keys',
	begin => sub {
		$redis->command('ACL', 'SETUSER', 'default', 'resetkeys', '~distlock-mirror:*', '~distlock:postgres:load*',
			'~distlock:postgres:static*', '~distlock:postgres:free*');
		$session->query("SELECT distlock.acquire_with_token('secret', 'mine', '1 h')");
	},
	during => sub {
		$session->query("SELECT distlock.acquire_with_token('free', 'mine', '1 h')");
		soon('another key is mirrored', sub { defined value('free') });
	},
	end => sub { $redis->command('ACL', 'SETUSER', 'default', 'allkeys') },
	state => 'failing',
	# A new worker connects, and fails then.
	lines => undef,
	error => qr/NOPERM|permission/i);

# ---------------------------------------------------------------------------
# A lock of scope session, whose ttl is changed: what Redis is told is changed, too,
# and not only when it is renewed.
# ---------------------------------------------------------------------------

subtest 'another ttl for a lock of a session' => sub {
	my $left = sub { return $redis->command('PTTL', 'distlock:postgres:of a session') };

	$session->query("SELECT distlock.acquire_with_token('of a session', 'mine', '3 min', scope => 'session')");
	soon('mirrored', sub { defined value('of a session') });
	# Of either, the renewal is due after a third.
	$session->query("SELECT distlock.extend('of a session', 'mine', '45 s')");
	soon('a shorter one', sub { $left->() <= 45_000 });
	is(check_mirror($session), '', 'mirror_check() finds nothing');
	$session->query("SELECT distlock.extend('of a session', 'mine', '1 h')");
	soon('a longer one', sub { $left->() > 3_500_000 });
	is(check_mirror($session), '', 'mirror_check() finds nothing');
};

# ---------------------------------------------------------------------------
# What is in there is not ours
# ---------------------------------------------------------------------------

# Our key is another program's for a while.
#	set		commands that make it so
#	same	that it is still as it was made
#	end		what frees it; nothing if it goes by itself
sub foreign
{
	my ($name, %way) = @_;
	my ($key, $redis_key) = ($way{key}, "distlock:postgres:$way{key}");

	subtest $name => sub {
		my $before = mirror_status($session, 'conflicts');

		$faults->set_foreign($key, 1);
		$faults->load->go;
		$way{begin}->($redis_key);
		$session->query("SELECT distlock.acquire_with_token('$key', 'mine', '1 h')");
		soon('the conflict is counted', sub { mirror_status($session, 'conflicts') == $before + 1 });
		# Each time, whatever else the worker has to do
		my @wrong = grep { !/^[^|]*\|$key\|$redis_key\|foreign$/ } map { check_mirror($session) } 1 .. 5;
		is_deeply(\@wrong, [], 'mirror_check() reports it, and nothing else');
		# What the owner of the lock does is no reason to touch it.
		$session->query("SELECT distlock.extend('$key', 'mine')");
		$session->query("SELECT distlock.release('$key', 'mine')");
		$session->query("SELECT distlock.acquire_with_token('$key', 'mine', '2 h')");
		my $sent = "after $key";
		$session->query("SELECT distlock.acquire_with_token('$sent', 'mine', '1 h')");
		soon('others are mirrored', sub { defined value($sent) });
		ok($way{same}->($redis_key), 'it was not touched');
		soon('the mirror is connected',
			sub { mirror_status($session, 'state, conflicts') eq 'connected|' . ($before + 1) });

		$way{end}->($redis_key) if $way{end};
		$faults->load->stop;
		seconds_until(sub { !$redis->command('EXISTS', $redis_key) }) unless $way{end};
		soon('mirrored when it has gone',
			sub { $redis->command('TYPE', $redis_key) eq 'string' && $redis->command('GET', $redis_key) =~ /"fence"/ });
		soon('no conflict any more', sub { mirror_status($session, 'conflicts') == $before });
		$faults->set_foreign($key, 0);
		is(check_mirror($session), '', 'mirror_check() finds nothing');
		is_deeply([ $faults->load->errors ], [], 'no call failed');
	};
	return;
}

my $list = sub { $redis->command('RPUSH', $_[0], 'a', 'b') };
my $same_list = sub { "@{ $redis->command('LRANGE', $_[0], 0, -1) }" eq 'a b' };
my $delete = sub { $redis->command('DEL', $_[0]) };

foreign(
	'another program\'s lock that is there first',
	key => 'foreign',
	begin => sub { $redis->command('SET', $_[0], 'theirs') },
	same => sub { $redis->command('GET', $_[0]) eq 'theirs' && $redis->command('PTTL', $_[0]) == -1 },
	end => $delete);
foreign(
	'another program\'s lock that expires',
	key => 'foreign expiring',
	begin => sub { $redis->command('SET', $_[0], 'theirs', 'PX', 10_000) },
	same => sub { my $value = $redis->command('GET', $_[0]); !defined $value || $value eq 'theirs' });
foreign('a list under our key', key => 'foreign list', begin => $list, same => $same_list, end => $delete);
# A lock that we have had there before
foreign(
	'another program\'s lock over ours',
	key => 'foreign over ours',
	begin => sub {
		$session->query("SELECT distlock.acquire_with_token('foreign over ours', 'mine', '1 h')");
		soon('mirrored', sub { defined value('foreign over ours') });
		$redis->command('SET', $_[0], 'theirs');
	},
	same => sub { $redis->command('GET', $_[0]) eq 'theirs' && $redis->command('PTTL', $_[0]) == -1 },
	end => $delete);
foreign(
	'a list in place of ours',
	key => 'foreign list over ours',
	begin => sub {
		$session->query("SELECT distlock.acquire_with_token('foreign list over ours', 'mine', '1 h')");
		soon('mirrored', sub { defined value('foreign list over ours') });
		$redis->command('DEL', $_[0]);
		$list->($_[0]);
	},
	same => $same_list,
	end => $delete);

# The same under the key of the book, which is put aside meanwhile: without it,
# what has changed could not be told from other programs' keys.
my ($book) = grep { /^distlock-mirror:/ } $redis->own->keys;
is($book, 'distlock-mirror:postgres:distlock:postgres:{key}', 'the book');
$faults->fault(
	'something else in place of the book',
	begin => sub {
		$redis->command('RENAME', $book, 'aside');
		$redis->command('SET', $book, 'no hash');
	},
	during => sub { is($redis->command('GET', $book), 'no hash', 'it was not touched') },
	end => sub { $redis->command('RENAME', 'aside', $book) },
	state => 'disconnected|failing',
	lines => undef,
	error => qr/WRONGTYPE/);

@took = sort { $a <=> $b } @took;
cmp_ok($took[ 0.9 * $#took ], '<=', $SOON, "what is to happen soon does so within $SOON s, as a rule");
$faults->finish;
$node->stop;
done_testing();
