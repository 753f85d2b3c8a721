# Calls of the system's that fail: a session gets an error and no weak token; a
# mirror says what it was, and goes on as soon as it can.  And passwords in files, of
# all sorts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockPreload;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $faults = DistlockPreload->new;
my $redis = DistlockRedis->new('main');
my $file = PostgreSQL::Test::Utils::tempdir . '/fault password';
my $url = 'redis://localhost:' . $redis->port;
my $copies = 2;

sub write_password
{
	my ($password) = @_;

	unlink $file;
	append_to_file($file, $password);
	chmod 0600, $file;
	return;
}

my $node = $faults->around(sub { return new_node('main', conf => redis_conf($url)); });
my $session = session($node);
my $worker = await_worker($session, 'postgres');

# A mirror that is new, and so connects at once.
sub begin_anew
{
	my ($name, $value) = @_;

	if (!defined $name)
	{
		$copies = 5 - $copies;
		($name, $value) = ('redis_majority', $copies);
	}
	my $since = $session->query('SELECT clock_timestamp()');
	change_setting($session, "distlock.$name", $value);
	await('a new mirror', sub { mirror_status($session, "since > '$since'") eq 't' });
	return;
}

sub is_shown
{
	my ($error, $name) = @_;
	my $shown = '';

	eval {
		await($name, sub {
			$shown = mirror_status($session, 'state, last_error');
			return $shown =~ /^disconnected\|.*$error/;
		});
		1;
	};
	return like($shown, qr/^disconnected\|.*$error/, $name);
}

await_connected($session);

# ---------------------------------------------------------------------------
# The worker's
# ---------------------------------------------------------------------------

my @faults = (
	[ 'pipe2', 'EMFILE', 'could not create a pipe: Too many open files', 'no pipe to the resolver' ],
	[ 'fork', 'EAGAIN', 'could not start a process: Resource temporarily unavailable', 'no process to resolve in' ],
	[ 'getnameinfo', undef, 'could not find the address of "localhost": no answer', 'addresses that have no text' ],
	[ 'write', 'EPIPE', 'could not find the address of "localhost": no answer', 'the resolver cannot answer' ],
	[ 'getsockopt', 'ENOBUFS', 'could not connect: No buffer space available', 'the state of a socket is not told' ],
	[ 'redisConnectNonBlock', undef, 'out of memory', 'no memory for a connection' ],
	[ 'redisAppendFormattedCommand', 'ENOMEM', 'connection lost', 'no memory for a command' ]);

foreach my $fault (@faults)
{
	my ($function, $errno, $error, $name) = @$fault;

	$faults->begin($worker, $function, $errno);
	begin_anew();
	is_shown($error, $name);
	$faults->end($function);
}
await_connected($session);
is(await_worker($session, 'postgres'), $worker, 'and then it connects, by the same worker');

# ---------------------------------------------------------------------------
# The password
# ---------------------------------------------------------------------------

# A file of the system's that everybody may read, and of root
my $root_file = '/etc/passwd';

$redis->command('CONFIG', 'SET', 'requirepass', 'open, sesame');
write_password("open, sesame\n");
begin_anew('redis_password_file', $file);
await_connected($session);
pass('a password is read');

foreach my $end ("\r\nmore", "\0more", '')
{
	write_password("open, sesame$end");
	begin_anew();
	await_connected($session);
	pass('... up to ' . ($end eq '' ? 'the end of the file' : sprintf 'the byte %d', ord $end));
}
write_password('');
begin_anew();
is_shown('has no password in its first line', 'none');
write_password('x' x 513);
begin_anew();
is_shown('the password in file .* is too long', 'one that is too long');
write_password('wrong');
begin_anew();
is_shown('Redis refused the password', 'a wrong one');
chmod 0640, $file;
begin_anew();
is_shown('gives rights to others', 'one that others may read');

write_password('open, sesame');
$faults->begin($worker, 'fstat', 'EIO');
begin_anew();
is_shown('could not read password file .*: Input/output error', 'a file that is not told of');
$faults->end('fstat');
$faults->begin($worker, 'fstat', 'EPERM');
begin_anew();
is_shown("must belong to the server's user", 'a file of somebody else');
$faults->end('fstat');
$faults->begin($worker, 'read', 'EIO');
begin_anew();
is_shown('could not read password file .*: Input/output error', 'a file that cannot be read');
$faults->end('read');
begin_anew('redis_password_file', $root_file);
is_shown('gives rights to others', "root's, but for everybody");
begin_anew('redis_password_file', $file);
await_connected($session);
is(await_worker($session, 'postgres'), $worker, 'and then it connects');

# ---------------------------------------------------------------------------
# A session's
# ---------------------------------------------------------------------------

my $new = session($node);

$faults->begin($new->pid, 'RAND_bytes');
is($new->fails("SELECT distlock.acquire('job', '1 h')"), 'XX000', 'no random bytes, no token');
like($new->stderr, qr/could not generate/, '... is said');
is($session->query("SELECT distlock.is_held('job')"), 'f', '... and no lock');
$faults->end('RAND_bytes');
is($new->query("SELECT distlock.acquire('job', '1 h') ~ '.{22}'"), 't', 'then there are some');

$_->quit foreach $session, $new;
$node->stop;
$redis->stop;
done_testing();
