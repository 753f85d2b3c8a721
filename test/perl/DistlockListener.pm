# Listens to what distlock announces, and notes to the microsecond when that
# came.
#
# psql shows notifications only when it is asked something, so this speaks the
# protocol of PostgreSQL itself, over a Unix-domain socket, as a user who needs
# no password.  It uses nothing but core Perl, so that test/bench can use it too.

package DistlockListener;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

my $PROTOCOL = 3 << 16;

# Parameters: host (a directory), port, user, dbname, timeout in seconds.
sub new
{
	my ($class, %where) = @_;
	my $path = "$where{host}/.s.PGSQL.$where{port}";
	my $socket = IO::Socket::UNIX->new(Peer => $path) or die "could not connect to $path: $!";
	my $self = bless {
		socket => $socket, select => IO::Select->new($socket), buffer => '',
		events => [], ready => 0, mark => 0, timeout => $where{timeout} // 180 }, $class;
	my $startup = pack 'NZ*Z*Z*Z*Z*Z*x', $PROTOCOL, user => $where{user},
	  database => $where{dbname}, application_name => 'listener';

	syswrite($socket, pack('N', 4 + length $startup) . $startup) or die "could not send: $!";
	$self->receive until $self->{ready};
	$self->query('LISTEN distlock');
	return $self;
}

# Execute something whose result does not matter.
sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	$self->receive until $self->{ready};
	return;
}

sub send
{
	my ($self, $sql) = @_;

	$self->{ready} = 0;
	syswrite($self->{socket}, pack 'aNZ*', 'Q', 5 + length $sql, $sql) or die "could not send: $!";
	return;
}

# Wait for something to come, at most so many seconds; false when nothing did.
sub receive
{
	my ($self, $timeout) = @_;

	unless ($self->{select}->can_read($timeout // $self->{timeout}))
	{
		die 'timed out: nothing received' unless defined $timeout;
		return 0;
	}
	sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer})
	  or die 'the server has closed the connection';
	# Not before, since what comes meanwhile is read, too.
	my $received = time();

	while (length $self->{buffer} >= 5)
	{
		my ($type, $length) = unpack 'aN', $self->{buffer};

		last if length $self->{buffer} < 1 + $length;
		my $message = substr $self->{buffer}, 0, 1 + $length, '';
		substr $message, 0, 5, '';
		$self->message($type, $message, $received);
	}
	return 1;
}

sub message
{
	my ($self, $type, $message, $received) = @_;

	$self->{ready} = 1 if $type eq 'Z';
	die "the server says: $message" if $type eq 'E';
	die 'the server wants a password' if $type eq 'R' && unpack('N', $message) != 0;
	if ($type eq 'A')
	{
		my ($pid, $channel, $payload) = unpack 'NZ*Z*', $message;

		push @{ $self->{events} }, { pid => $pid, payload => $payload, received => $received };
	}
	return;
}

# All that was announced by transactions that had committed before this call
# and not returned before: notifications come in the order of the commits, and
# this waits for one of its own.
#	payload		as received, in the encoding of the database
#	pid			of the process that announced it
#	received	when, in seconds
#	event, key, fence, owner, at, version
#	at_time		"at" in microseconds
sub events
{
	my ($self) = @_;
	my $mark = 'mark ' . ++$self->{mark} . " of $$";
	my @events;

	$self->send("NOTIFY distlock, '$mark'");
	until (@events && $events[-1]{payload} eq $mark)
	{
		$self->receive until @{ $self->{events} };
		push @events, shift @{ $self->{events} };
	}
	$self->receive until $self->{ready};
	pop @events;
	return map { decode($_) } @events;
}

# The next one, waiting for it.
sub next_event
{
	my ($self) = @_;

	$self->receive until @{ $self->{events} };
	return decode(shift @{ $self->{events} });
}

sub decode
{
	my ($event) = @_;
	my $json = JSON::PP->new->utf8->decode($event->{payload});

	return { %$event, %$json, at_time => microseconds($json->{at}) };
}

# Microseconds since 1970 of a time in UTC as ISO 8601 has it.
sub microseconds
{
	my ($time) = @_;
	my ($year, $month, $day, $hour, $minute, $second, $fraction) =
	  $time =~ /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,6})?\+00:00$/
	  or die "\"$time\" is no time in UTC";

	return 1_000_000 * timegm($second, $minute, $hour, $day, $month - 1, $year)
	  + int 0.5 + 1_000_000 * ($fraction // 0);
}

sub quit
{
	my ($self) = @_;

	syswrite $self->{socket}, pack 'aN', 'X', 4;
	close $self->{socket};
	return;
}

1;
