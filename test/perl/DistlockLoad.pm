# Sessions that acquire, extend and release all the time, each in a process of its
# own, and note how long every call takes.
#
#	my $load = DistlockLoad->new($node, sessions => 3);
#	$load->go;
#	...
#	$load->stop;
#	$load->errors;
#	$load->latencies($from, $to);
#
# They speak the protocol of PostgreSQL themselves, so that nothing but the
# server's work is measured, and they are there all the time, so that a test
# can have them work for just as long as it wants.

package DistlockLoad;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use PostgreSQL::Test::Utils;
use POSIX ();
use Socket;
use Time::HiRes qw(sleep time);

my $PROTOCOL = 3 << 16;
my $KEYS = 40;            # of a session
my $OF_SESSION = 8;       # of these, locks of scope session
my $PAUSE = 0.004;        # between two rounds, so as to leave others some time

my $loads = 0;

# Parameters: sessions, dbname.
sub new
{
	my ($class, $node, %params) = @_;
	my $self = bless { workers => [], calls => 0 }, $class;
	my $dbname = $params{dbname} // 'postgres';
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $number = ++$loads;

	for my $i (1 .. $params{sessions} // 3)
	{
		socketpair(my $ours, my $its, AF_UNIX, SOCK_STREAM, 0) or die "could not make sockets: $!";
		$_->autoflush foreach $ours, $its;
		my $file = "$PostgreSQL::Test::Utils::tmp_check/load.$$.$number.$i";
		my $parent = $$;
		my $pid = fork // die "could not fork: $!";
		if ($pid == 0)
		{
			# Nothing of what the test wants done when it ends is for this process.
			$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP CHLD __DIE__ __WARN__);
			close $ours;
			eval { work($its, $parent, $path, $dbname, $file, "load $number.$i"); 1 } or print STDERR "load: $@";
			POSIX::_exit(0);
		}
		close $its;
		push @{ $self->{workers} }, { pid => $pid, control => $ours, file => $file };
	}
	return $self;
}

sub go
{
	my ($self) = @_;

	$self->tell('g');
	$self->{works} = 1;
	return;
}

# When this returns, nothing is under way any more.
sub stop
{
	my ($self) = @_;

	return unless $self->{works};
	$self->{works} = 0;
	$self->tell('s');
	foreach my $worker (@{ $self->{workers} })
	{
		my $answer = readline($worker->{control}) // die 'a process of the load has gone';
		$worker->{errors} = decode_json($answer);
	}
	return;
}

# Everything that failed so far, as told at the last stop().
sub errors
{
	my ($self) = @_;

	return map { @{ $_->{errors} // [] } } @{ $self->{workers} };
}

# Of the calls that began between two times, in seconds, in order of size; up
# to the last stop().
sub latencies
{
	my ($self, $from, $to) = @_;
	my @latencies;

	foreach my $worker (@{ $self->{workers} })
	{
		open my $file, '<:raw', $worker->{file} or die "could not open $worker->{file}: $!";
		local $/ = \16;
		while (my $record = readline($file))
		{
			my ($at, $took) = unpack 'dd', $record;

			push @latencies, $took if $at >= $from && $at < $to;
		}
	}
	return sort { $a <=> $b } @latencies;
}

sub quit
{
	my ($self) = @_;

	$self->stop;
	$self->tell('q');
	foreach my $worker (splice @{ $self->{workers} })
	{
		waitpid $worker->{pid}, 0;
	}
	return;
}

sub tell
{
	my ($self, $what) = @_;

	local $SIG{PIPE} = 'IGNORE';
	print { $_->{control} } $what foreach @{ $self->{workers} };
	return;
}

# ---------------------------------------------------------------------------
# From here on, what such a process does.
# ---------------------------------------------------------------------------

sub work
{
	my ($control, $parent, $path, $dbname, $file, $name) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $path) or die "could not connect to $path: $!";
	my $connection = { socket => $socket, buffer => '' };
	my $select = IO::Select->new($control);
	my @errors;

	open my $log, '>:raw', $file or die "could not open $file: $!";
	my $user = getpwuid($<);
	my $startup = pack 'NZ*Z*Z*Z*Z*Z*x', $PROTOCOL, user => $user, database => $dbname,
	  application_name => $name;
	syswrite($socket, pack('N', 4 + length $startup) . $startup);
	my $error = ready($connection);
	die $error if defined $error;

	my $call = sub {
		my ($sql) = @_;
		my $began = time();

		syswrite($socket, pack 'aNZ*', 'Q', 5 + length $sql, $sql) // die "could not send: $!";
		my $failure = ready($connection);
		print $log pack 'dd', $began, time() - $began;
		push @errors, "$sql: $failure" if defined $failure;
		return;
	};

	# Others may have inherited the other end of the control socket: it is not
	# closed when the parent closes it, or ends.
	while (getppid() == $parent)
	{
		next unless $select->can_read(0.2);
		sysread($control, my $go, 1) or last;
		last if $go eq 'q';
		until ($select->can_read(0))
		{
			last if getppid() != $parent;
			one_round($call, $name);
			sleep $PAUSE;
		}
		sysread($control, my $stop, 1) or last;
		$log->flush;
		print $control encode_json(\@errors), "\n";
	}
	return;
}

sub one_round
{
	my ($call, $name) = @_;
	my $i = int rand $KEYS;
	my $of_session = $i < $OF_SESSION;
	my $lock = sprintf "'%s %s', 'token of %s'", $name, $of_session ? "session $i" : $i, $name;
	my $ttl = sprintf "'%d ms'", 300 + rand 20_000;
	my $acquire = "distlock.acquire_with_token($lock, $ttl, owner => 'the load'"
	  . ($of_session ? ", scope => 'session')" : ')');

	if (rand() < 0.05)
	{
		$call->("BEGIN; SELECT $acquire; ROLLBACK");
		return;
	}
	$call->("SELECT $acquire");
	$call->("SELECT distlock.try_extend($lock, $ttl)");
	$call->("SELECT distlock.try_release($lock)") if rand() < 0.7;
	return;
}

# Read up to where the server waits for the next command; what it complained of.
sub ready
{
	my ($connection) = @_;
	my ($socket, $error) = $connection->{socket};

	while (1)
	{
		while (length $connection->{buffer} >= 5)
		{
			my ($type, $length) = unpack 'aN', $connection->{buffer};

			last if length $connection->{buffer} < 1 + $length;
			my $message = substr $connection->{buffer}, 0, 1 + $length, '';
			$error = join ' ', split /\0/, substr $message, 5 if $type eq 'E';
			return $error if $type eq 'Z';
		}
		sysread($socket, $connection->{buffer}, 65536, length $connection->{buffer})
		  or die 'the server has closed the connection' . (defined $error ? ": $error" : '');
	}
}

1;
