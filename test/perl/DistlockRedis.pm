# Redis servers of our own for the tests of the mirror, a client for them in
# plain Perl, and waiting for what the mirror does.
#
#	skip_without_redis();
#	my $redis = DistlockRedis->new('main');
#	my $node = new_node('main', conf => redis_conf($redis));
#	my $session = session($node);
#	await_connected($session);
#	$redis->command('GET', 'distlock:postgres:key');
#
# What goes to Redis and what comes from it are bytes, not characters.

package DistlockRedis;

use strict;
use warnings;

use DistlockChildren;
use DistlockTest;
use DistlockWorker;
use Exporter 'import';
use POSIX ':sys_wait_h';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(skip_without_redis redis_conf await_connected await_mirror
  await_in_sync check_mirror check_connected mirror_status held_values is_mirrored);

# ---------------------------------------------------------------------------
# Servers
# ---------------------------------------------------------------------------

# A Redis server that is up, on a port of 127.0.0.1 and on a Unix-domain socket.
# Options:
#	conf		lines for its configuration, in an array
#	password	of the default user; the clients made here use it too
#	tcp			0: only the socket
#	start		0: do not start it yet
# It keeps nothing when it ends, unless the configuration says that it should.
sub new
{
	my ($class, $name, %options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir("redis_$name");
	my $self = bless {
		name => $name,
		dir => $dir,
		# Paths of sockets must not be long.
		socket => PostgreSQL::Test::Utils::tempdir_short() . '/redis.sock',
		port => ($options{tcp} // 1) ? PostgreSQL::Test::Cluster::get_free_port() : 0,
		password => $options{password},
		log => "$PostgreSQL::Test::Utils::log_path/redis_$name.log",
		conf => $options{conf} // [] }, $class;

	$self->start if $options{start} // 1;
	return $self;
}

# The program, and the name under which it has to be called: the package with
# redis-check-rdb is smaller than that with redis-server, and they are the same
# program, which looks at its name.
sub program
{
	foreach my $name ('redis-server', 'valkey-server', 'redis-check-rdb', 'valkey-check-rdb')
	{
		foreach my $dir (split(/:/, $ENV{PATH}), '/usr/bin')
		{
			return ("$dir/$name", $name =~ s/check-rdb/server/r) if -x "$dir/$name";
		}
	}
	die 'there is neither redis-server nor valkey-server in PATH, nor redis-check-rdb';
}

# Add to the configuration; to be followed by restart().
sub append_conf
{
	my ($self, @lines) = @_;

	push @{ $self->{conf} }, @lines;
	return;
}

sub start
{
	my ($self) = @_;
	my ($program, $name) = program();

	die "Redis server \"$self->{name}\" runs already" if $self->{pid};
	PostgreSQL::Test::Utils::append_to_file($self->{log}, '');
	open my $conf, '>', "$self->{dir}/redis.conf" or die "could not write redis.conf: $!";
	print $conf "$_\n" foreach 'bind 127.0.0.1', "port $self->{port}",
	  "unixsocket $self->{socket}", 'unixsocketperm 700', "dir \"$self->{dir}\"",
	  "logfile \"$self->{log}\"", 'daemonize no', 'save ""', 'appendonly no', 'databases 16',
	  # MONITOR is not ended when nobody reads it for a while.
	  'client-output-buffer-limit replica 0 0 0',
	  (defined $self->{password} ? 'requirepass "' . $self->{password} =~ s/(["\\])/\\$1/gr . '"' : ()),
	  @{ $self->{conf} };
	close $conf;

	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log};
		open STDERR, '>>', $self->{log};
		exec {$program} $name, "$self->{dir}/redis.conf" or POSIX::_exit(1);
	}
	$self->{pid} = $pid;
	child_started($pid);
	await("Redis server \"$self->{name}\" to start", sub {
		die "it has ended: " . slurp_file($self->{log}) if waitpid($pid, WNOHANG) == $pid;
		# It may want a password, or have to read its files first.
		my $reply = eval { DistlockRedis::Client->new($self->where)->reply_to('PING') };
		return defined $reply && "$reply" !~ /^LOADING/;
	});
	return;
}

# Tell it to end, and wait for that.
sub stop
{
	my ($self) = @_;

	$self->thaw;
	$self->end('TERM');
	return;
}

# As if it had crashed.
sub kill9
{
	my ($self) = @_;

	$self->end('KILL');
	return;
}

sub end
{
	my ($self, $signal) = @_;
	my $pid = $self->{pid} // die "Redis server \"$self->{name}\" does not run";

	kill($signal, $pid);
	await("Redis server \"$self->{name}\" to end", sub { waitpid($pid, WNOHANG) != 0 });
	child_ended($pid);
	delete @$self{ 'pid', 'own' };
	return;
}

sub restart
{
	my ($self) = @_;

	$self->stop;
	$self->start;
	return;
}

# It keeps its connections, and accepts more, but does not answer until it is
# thawed.
sub freeze
{
	my ($self) = @_;

	kill('STOP', $self->{pid}) == 1 or die "could not stop Redis server \"$self->{name}\"";
	return;
}

sub thaw
{
	my ($self) = @_;

	kill('CONT', $self->{pid}) == 1 or die "could not continue Redis server \"$self->{name}\"";
	return;
}

sub pid { return $_[0]->{pid}; }
sub port { return $_[0]->{port}; }
sub socket { return $_[0]->{socket}; }
sub logfile { return $_[0]->{log}; }

# For distlock.redis_url, with a database other than 0 and a user if so wished.
sub url
{
	my ($self, $db, $user) = @_;

	return $self->unix_url($db, $user) unless $self->{port};
	return 'redis://' . (defined $user ? "$user\@" : '') . "127.0.0.1:$self->{port}"
	  . ($db ? "/$db" : '');
}

sub unix_url
{
	my ($self, $db, $user) = @_;

	return 'unix://' . (defined $user ? "$user\@" : '') . $self->{socket} . ($db ? "?db=$db" : '');
}

# Where a client is to connect to.
sub where
{
	my ($self) = @_;

	return $self->{port} ? (port => $self->{port}) : (path => $self->{socket});
}

# A new client.  Options: db, user, password.
sub client
{
	my ($self, %options) = @_;

	return DistlockRedis::Client->new($self->where, password => $self->{password}, %options);
}

# By a client that is kept for this, in database 0.
sub command
{
	my ($self, @command) = @_;

	return $self->own->command(@command);
}

sub own
{
	my ($self) = @_;

	return $self->{own} //= $self->client;
}

sub monitor
{
	my ($self) = @_;

	return DistlockRedis::Monitor->new($self);
}

# All that there is in a database, by key: strings as they are, hashes as hashes,
# of anything else the type, in a reference.  Without the books of the mirrors,
# unless they are asked for.
sub contents
{
	my ($self, $db, $with_books) = @_;
	my $client = $db ? $self->client(db => $db) : $self->own;
	my @keys = grep { $with_books || !/^distlock-mirror:/ } $client->keys;
	my %contents;

	while (my @some = splice @keys, 0, 1000)
	{
		my @types = $client->pipeline(map { [ 'TYPE', $_ ] } @some);
		my @values = $client->pipeline(map { [
			$types[$_] eq 'string' ? ('GET', $some[$_])
			: $types[$_] eq 'hash' ? ('HGETALL', $some[$_])
			: ('ECHO', $types[$_]) ] } 0 .. $#some);

		foreach my $i (0 .. $#some)
		{
			# It may have gone meanwhile.
			next if $types[$i] eq 'none' || !defined $values[$i];
			$contents{ $some[$i] } =
				$types[$i] eq 'string' ? $values[$i]
			  : $types[$i] eq 'hash' ? { @{ $values[$i] } }
			  : \$types[$i];
		}
	}
	return \%contents;
}

# ---------------------------------------------------------------------------
# The mirror
# ---------------------------------------------------------------------------

# A build without the mirror has nothing to be tested; a missing Redis is a
# failure.
sub skip_without_redis
{
	plan skip_all => 'distlock was built without the mirror' if $ENV{DISTLOCK_WITHOUT_REDIS};
	return;
}

# Configuration of a server that mirrors to Redis: a server or a URL, or several
# in an array, and more lines.
sub redis_conf
{
	my ($redis, @lines) = @_;
	my $urls = join ',', map { ref $_ ? $_->url : $_ } ref $redis eq 'ARRAY' ? @$redis : $redis;

	return preloaded("distlock.redis_url = '$urls'", @lines);
}

# What the view says of the mirrors of the session's database, some columns, or
# all of them.
sub mirror_status
{
	my ($session, $columns) = @_;

	return $session->query('SELECT ' . ($columns // '*')
		  . ' FROM distlock.mirror_status WHERE database = current_database() ORDER BY mirror');
}

# Wait until so many mirrors of the session's database are connected, 1 if it is
# not said.
sub await_connected
{
	my ($session, $count) = @_;

	await_mirror($session, 'true', 'connected', $count);
	return 1;
}

# Wait until so many mirrors, of those that meet a condition, are in a state.
sub await_mirror
{
	my ($session, $condition, $state, $count) = @_;

	$count //= 1;
	eval {
		await("mirrors to be $state", sub { $session->query(<<"EOQ") eq 't' });
SELECT count(*) = $count FROM distlock.mirror_status
WHERE database = current_database() AND state = '$state' AND ($condition)
EOQ
		1;
	} or die "$@\n" . mirror_status($session);
	return 1;
}

# What mirror_check() finds, as sorted lines.  While there is nobody who could check, that is
# said in its place.
sub check_mirror
{
	my ($session) = @_;

	$session->send('SELECT * FROM distlock.mirror_check()');
	my $found = $session->result;
	return join "\n", sort split /\n/, $found if $session->sqlstate eq '';
	die $session->stderr unless $session->sqlstate eq '55000';
	return $session->stderr;
}

# The same as soon as all mirrors are connected: one may lose its connection when the
# machine is busy.
sub check_connected
{
	my ($session) = @_;
	my $found;

	await('an answer of mirrors that are connected', sub {
		$found = check_mirror($session);
		return $found !~ /\|not connected$|55000:/m;
	});
	return $found;
}

# What a mirror should show, by what is committed: by the key of the lock, the
# value as distlock.redis_value = json has it.
sub held_values
{
	my ($session) = @_;

	return { map { pack 'H*', $_ } split /[|\n]/, $session->query(<<'EOQ') };
SET timezone = 'UTC';
SELECT encode(convert_to(key, getdatabaseencoding()), 'hex'),
	encode(convert_to(format('{"fence":%s,"owner":%s,"expires_at":%s}', fence,
			coalesce(to_json(owner)::text, 'null'),
			CASE WHEN isfinite(expires_at) THEN to_json(expires_at)::text ELSE 'null' END),
		getdatabaseencoding()), 'hex')
FROM distlock.locks WHERE scope <> 'transaction';
RESET timezone
EOQ
}

# A test: Redis comes to have just the locks that are held.  Options:
#	db		number of the database in Redis
#	key		makes the Redis key of the lock's key; by default as
#			distlock.redis_key is by default, of the database "postgres"
sub is_mirrored
{
	my ($redis, $session, $what, %options) = @_;
	my $make_key = $options{key} // sub { return "distlock:postgres:$_[0]" };
	my ($expected, $found);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eval {
		await($what, sub {
			my $held = held_values($session);

			$expected = { map { $make_key->($_) => $held->{$_} } keys %$held };
			$found = $redis->contents($options{db});
			return as_text($found) eq as_text($expected);
		});
		1;
	} or diag $@;
	return is_deeply($found, $expected, $what);
}

sub as_text
{
	my ($contents) = @_;

	return join "\0", map { "$_\0$contents->{$_}" } sort keys %$contents;
}

# Wait until the mirrors of the session's database agree with it.
sub await_in_sync
{
	my ($session) = @_;
	my $found;

	eval {
		await('the mirror to agree', sub { ($found = check_mirror($session)) eq '' });
		1;
	} or die "$@\n" . ($found // '');
	return 1;
}

# ---------------------------------------------------------------------------
# A client
# ---------------------------------------------------------------------------

package DistlockRedis::Client;

use strict;
use warnings;

use Errno;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use List::Util qw(max);
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

# Options: port of 127.0.0.1, or path of a socket; db, user, password, timeout in
# seconds.
sub new
{
	my ($class, %options) = @_;
	my $socket =
	  $options{port}
	  ? IO::Socket::INET->new(PeerHost => '127.0.0.1', PeerPort => $options{port})
	  : IO::Socket::UNIX->new(Peer => $options{path});

	die "could not connect to Redis: $!\n" unless $socket;
	setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1) if $options{port};
	binmode $socket;
	my $self = bless {
		socket => $socket, select => IO::Select->new($socket), buffer => '',
		timeout => $options{timeout} // $PostgreSQL::Test::Utils::timeout_default }, $class;

	$self->command('AUTH', $options{user} // (), $options{password}) if defined $options{password};
	$self->command('SELECT', $options{db}) if $options{db};
	return $self;
}

# Returns the reply: a text, a number, undef for nothing, an array.  An error of
# Redis is one here.
sub command
{
	my ($self, @command) = @_;
	my $reply = $self->reply_to(@command);

	die "Redis refused \"$command[0]\": $reply\n" if ref $reply eq 'DistlockRedis::Error';
	return $reply;
}

# The error that the command should fail with, '' if it does not.
sub fails
{
	my ($self, @command) = @_;
	my $reply = $self->reply_to(@command);

	return ref $reply eq 'DistlockRedis::Error' ? "$reply" : '';
}

# As command(), but errors are returned: as objects whose text is the message.
sub reply_to
{
	my ($self, @command) = @_;

	$self->send(@command);
	return $self->reply;
}

# Several commands, each in an array, at once; returns all replies.
sub pipeline
{
	my ($self, @commands) = @_;

	$self->send(@$_) foreach @commands;
	return map { $self->reply } @commands;
}

# All keys of the database, or those that match a pattern; each once.
sub keys
{
	my ($self, $pattern) = @_;
	my ($cursor, %keys) = (0);

	do
	{
		($cursor, my $found) = @{ $self->command('SCAN', $cursor, 'COUNT', 1000,
				defined $pattern ? ('MATCH', $pattern) : ()) };
		@keys{@$found} = ();
	} while ($cursor ne '0');
	return sort keys %keys;
}

# When a key goes by itself, in milliseconds since 1970; -1 for never, -2 when it
# is not there.
sub goes_at
{
	my ($self, $key) = @_;

	return $self->command('EVAL', <<'EOS', 1, $key);
local function now()
	local time = redis.call('TIME')
	return time[1] * 1000 + math.floor(time[2] / 1000)
end
local left, before
repeat
	before = now()
	left = redis.call('PTTL', KEYS[1])
until before == now()
return left < 0 and left or before + left
EOS
}

sub send
{
	my ($self, @command) = @_;

	# They are bytes already, unless somebody forgot to encode characters.
	utf8::downgrade($_) foreach @command;
	my $text = join '', '*', scalar(@command), "\r\n",
	  map { ('$', length, "\r\n", $_, "\r\n") } @command;

	local $SIG{PIPE} = 'IGNORE';
	while (length $text)
	{
		my $sent = syswrite($self->{socket}, $text) // die "could not send to Redis: $!\n";
		substr($text, 0, $sent, '');
	}
	return;
}

sub reply
{
	my ($self) = @_;
	my $line = $self->line;
	my ($type, $rest) = (substr($line, 0, 1), substr($line, 1));

	return $rest if $type eq '+';
	return $rest + 0 if $type eq ':';
	return DistlockRedis::Error->new($rest) if $type eq '-';
	if ($type eq '$')
	{
		return undef if $rest < 0;
		$self->fill until length $self->{buffer} >= $rest + 2;
		my $text = substr($self->{buffer}, 0, $rest, '');
		substr($self->{buffer}, 0, 2, '');
		return $text;
	}
	if ($type eq '*')
	{
		return $rest < 0 ? undef : [ map { $self->reply } 1 .. $rest ];
	}
	die "Redis says \"$line\"\n";
}

sub line
{
	my ($self) = @_;
	my $end;

	$self->fill until ($end = index($self->{buffer}, "\r\n")) >= 0;
	my $line = substr($self->{buffer}, 0, $end, '');
	substr($self->{buffer}, 0, 2, '');
	return $line;
}

# Wait for something to come.
sub fill
{
	my ($self) = @_;

	my $until = time() + $self->{timeout};
	my $got;

	# A signal, as of a process that has ended, may interrupt either.
	until ($self->{select}->can_read(max(0, $until - time())))
	{
		die "timed out: no reply from Redis\n" if time() >= $until;
	}
	$got = sysread($self->{socket}, $self->{buffer}, 1 << 20, length $self->{buffer});
	return $self->fill if !defined $got && $!{EINTR};
	die "Redis has closed the connection\n" unless $got;
	return;
}

sub close
{
	my ($self) = @_;

	close $self->{socket};
	return;
}

# ---------------------------------------------------------------------------
# What Redis was told
# ---------------------------------------------------------------------------

# Redis keeps for us what we have not read yet.
package DistlockRedis::Monitor;

use strict;
use warnings;

sub new
{
	my ($class, $redis) = @_;
	my $self = bless { redis => $redis, client => $redis->client, marks => 0 }, $class;

	$self->{client}->command('MONITOR');
	return $self;
}

# All commands that Redis has executed before this call and that were not
# returned before, in order, or of those the ones whose line matches a pattern; AUTH
# it does not tell.  Of each:
#	time	in seconds
#	db		number of the database
#	client	address, or "lua" for what a script has done
#	args	the command and its arguments, in an array
sub commands
{
	my ($self, $pattern) = @_;
	my $mark = "mark $$ " . ++$self->{marks};
	my @commands;

	$self->{redis}->command('ECHO', $mark);
	while (1)
	{
		my $line = $self->{client}->reply;

		last if $line =~ /\] "echo" "\Q$mark\E"$/i;
		push @commands, parse($line) if !defined $pattern || $line =~ $pattern;
	}
	return @commands;
}

my %ESCAPED = (n => "\n", r => "\r", t => "\t", a => "\a", b => "\b");

# A line of MONITOR.
sub parse
{
	my ($line) = @_;
	my ($time, $db, $client, $rest) = $line =~ /^(\d+\.\d+) \[(\d+) (.*?)\] (".*)$/s
	  or die "MONITOR says \"$line\"\n";
	my @args = $rest =~ /\G"((?:[^"\\]|\\.)*)"(?: |$)/g;

	s/\\(?:x([0-9a-f]{2})|(.))/defined $1 ? chr hex $1 : $ESCAPED{$2} \/\/ $2/ge foreach @args;
	return { time => $time, db => $db, client => $client, args => \@args };
}

sub close
{
	my ($self) = @_;

	$self->{client}->close;
	return;
}

# ---------------------------------------------------------------------------
# An error that Redis has replied; its text is the message.
# ---------------------------------------------------------------------------

package DistlockRedis::Error;

use strict;
use warnings;

use overload '""' => sub { return $_[0]->{message} }, 'eq' => sub { return "$_[0]" eq "$_[1]" },
  'bool' => sub { return 1 };

sub new
{
	my ($class, $message) = @_;

	return bless { message => $message }, $class;
}

1;
