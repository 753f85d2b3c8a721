
=pod

=head1 NAME

DistlockProxy - stands between a client and a Redis server, and misbehaves as
told

=head1 SYNOPSIS

  my $proxy = DistlockProxy->new(port => 6379);      # or path => '/tmp/redis.sock'
  ... let the client connect to 127.0.0.1, $proxy->port ...
  $proxy->mode('black hole');
  $proxy->mode('reset', after => 10);
  $proxy->mode('pass');
  $proxy->counts->{connections};
  $proxy->stop;

=head1 DESCRIPTION

The proxy is a process of its own, so it goes on while the test waits for
something.  It ends when told to, and when the process that made it has gone.

A mode is for the connections that are there and for new ones.

=over

=item pass

Everything is passed on.

=item black hole

Connections are accepted, and nothing is passed on in either direction.
Afterwards it all goes on where it was held up, as it does when a cable is
plugged in again; with C<dead =E<gt> 1> those connections stay dead.

=item hang

Nothing is passed on, and the queue of the listening socket is full: who
connects waits for an answer to his first packet.

=item refuse

Connections are accepted and closed.

=item no port

There is no listening socket: connections are refused by the system.

=item reset

Each connection is reset when C<after> more bytes of replies have been passed on
in it; with 0, at once.

=item half close

After C<after> more bytes of replies the proxy says that it will send nothing any
more, but goes on reading.

=item slow

One byte a second in each direction, or every C<every> seconds.

=item say

Nothing reaches Redis any more.  What the client sends next is answered by C<text>,
and nothing after that; with C<then>, that other text is then sent for ever.

=item replace

Each reply of Redis is replaced by the C<text>, but for the first C<skip> of a
connection.

=item extra

Each reply of Redis is followed by the C<text>, which nobody has asked for, but for
the first C<skip> of a connection; and what is connected gets one at once.

=back

=cut

package DistlockProxy;

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use IO::Handle;
use JSON::PP;
use POSIX ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

my $MOST_HELD = 256 * 1024;    # of a connection, in each direction
my $QUEUE = 64;                # of the listening socket
my $LONGEST_SLEEP = 0.2;       # until it looks whether its parent is there

# Parameters: port (on 127.0.0.1) or path of the server behind.
sub new
{
	my ($class, %behind) = @_;
	my $self = bless { behind => \%behind, mode => 'pass', options => {}, connections => {},
		counts => { connections => 0, up => 0, down => 0, replies => 0 } }, $class;

	$self->listen_at(0);
	$self->{port} = (sockaddr_in(getsockname $self->{listener}))[0];
	socketpair(my $ours, my $its, AF_UNIX, SOCK_STREAM, 0) or die "could not make sockets: $!";
	$_->autoflush foreach $ours, $its;

	my $parent = $$;
	$self->{pid} = fork // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		# Nothing of what the test wants done when it ends is for this process.
		$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP CHLD __DIE__ __WARN__);
		$SIG{PIPE} = 'IGNORE';
		close $ours;
		@$self{qw(control parent)} = ($its, $parent);
		eval { $self->run; 1 } or print STDERR "proxy: $@";
		POSIX::_exit(0);
	}
	close $its;
	close delete $self->{listener};
	$self->{control} = $ours;
	return $self;
}

sub port { return $_[0]{port}; }
sub pid { return $_[0]{pid}; }

# From when this returns, connections are treated in another way.
sub mode
{
	my ($self, $mode, %options) = @_;

	$self->ask({ mode => $mode, options => \%options });
	return;
}

# Reset all connections that are there; returns how many.
sub reset_all
{
	my ($self) = @_;

	return $self->ask({ reset => 1 })->{reset};
}

# Since the start:
#	connections		accepted
#	open			that are there now
#	up, down		bytes passed on to Redis, and to the client
#	replies			counted only in the modes that look at them
sub counts
{
	my ($self) = @_;

	return $self->ask({})->{counts};
}

sub stop
{
	my ($self) = @_;

	return unless $self->{control};
	# Closing it is not enough: other processes may have inherited our end.
	eval { $self->ask({ stop => 1 }) };
	close delete $self->{control};
	waitpid $self->{pid}, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	# This is no test's result.
	local ($?, $!, $@);

	$self->stop unless $self->{parent};
	return;
}

sub ask
{
	my ($self, $question) = @_;

	print { $self->{control} } encode_json($question), "\n" or die "the proxy has gone: $!";
	my $answer = readline($self->{control}) // die 'the proxy has gone';
	$answer = decode_json($answer);
	die "proxy: $answer->{error}" if $answer->{error};
	return $answer;
}

# ---------------------------------------------------------------------------
# From here on, what the process does.
#
# A connection has:
#	client, server		its sockets; no server yet in a black hole, none ever for
#						what was spoilt
#	up, down			read and not yet written
#	raw					read from the server, and not yet looked at
#	left				bytes of replies until the reset
#	skip				replies until they are replaced
#	next				of each direction, when it may write the next byte
#	spoilt				cannot go on in another mode
# ---------------------------------------------------------------------------

my %TREAT = (
	'pass' => sub { },
	'black hole' => sub { },
	'hang' => sub { },
	'slow' => sub { },
	'refuse' => sub { my ($self, $c) = @_; $self->end($c); },
	'no port' => sub { my ($self, $c) = @_; $self->end($c, 1); },
	'reset' => \&begin_count,
	'half close' => \&begin_count,
	'say' => sub
	{
		my ($self, $c) = @_;
		close delete $c->{server} if $c->{server};
		@$c{qw(spoilt raw up down)} = (1, '', '', '');
	},
	'replace' => sub { my ($self, $c) = @_; $c->{skip} = $self->{options}{skip} // 0; },
	'extra' => sub
	{
		my ($self, $c) = @_;
		$c->{skip} = $self->{options}{skip} // 0;
		$c->{down} .= $self->{options}{text} unless $c->{skip};
	},
);

sub run
{
	my ($self) = @_;

	while (getppid() == $self->{parent})
	{
		my ($readable, $writable) = $self->await_something;
		my $control = fileno $self->{control};

		if (vec($readable, $control, 1))
		{
			my $question = readline($self->{control}) // last;
			my $answer = eval { $self->obey(decode_json($question)) } // { error => $@ };

			print { $self->{control} } encode_json($answer), "\n";
			last if $answer->{stop};
			# Some sockets may have gone.
			next;
		}
		$self->accept_one if $self->{listener} && vec($readable, fileno $self->{listener}, 1);
		foreach my $c (values %{ $self->{connections} })
		{
			# Any of these may end the connection.
			$self->read_client($c) if $c->{client} && vec($readable, fileno $c->{client}, 1);
			$self->read_server($c) if $c->{server} && vec($readable, fileno $c->{server}, 1);
			$self->work_on($c) if $c->{client};
			$self->write_some($c, 'up') if $c->{server} && vec($writable, fileno $c->{server}, 1);
			$self->write_some($c, 'down') if $c->{client} && vec($writable, fileno $c->{client}, 1);
			# What is endless goes on.
			$self->work_on($c) if $c->{client};
		}
	}
	return;
}

sub await_something
{
	my ($self) = @_;
	my ($readable, $writable) = ('', '');
	my $mode = $self->{mode};
	my $timeout = $LONGEST_SLEEP;

	vec($readable, fileno $self->{control}, 1) = 1;
	vec($readable, fileno $self->{listener}, 1) = 1 if $self->{listener} && $mode ne 'hang';
	foreach my $c (values %{ $self->{connections} })
	{
		next if $mode eq 'black hole' || $mode eq 'hang' || $c->{dead};

		vec($readable, fileno $c->{client}, 1) = 1 if length $c->{up} < $MOST_HELD;
		vec($readable, fileno $c->{server}, 1) = 1
		  if $c->{server} && length($c->{down}) + length($c->{raw}) < $MOST_HELD;
		foreach my $way ([ 'up', 'server' ], [ 'down', 'client' ])
		{
			my ($buffer, $socket) = @$way;

			next unless $c->{$socket} && length $c->{$buffer};
			if ($mode eq 'slow' && ($c->{next}{$buffer} // 0) > time())
			{
				my $left = $c->{next}{$buffer} - time();

				$timeout = $left > 0 ? $left : 0 if $left < $timeout;
				next;
			}
			vec($writable, fileno $c->{$socket}, 1) = 1;
		}
	}
	my $found = select($readable, $writable, undef, $timeout);
	($readable, $writable) = ('', '') unless $found > 0;
	return ($readable, $writable);
}

sub obey
{
	my ($self, $question) = @_;

	if ($question->{mode})
	{
		my ($former, $mode) = ($self->{mode}, $question->{mode});

		die "no such mode: $mode" unless $TREAT{$mode};
		@$self{qw(mode options)} = ($mode, $question->{options});
		if ($former eq 'hang')
		{
			close $_ foreach @{ delete $self->{fillers} };
			listen($self->{listener}, $QUEUE) or die "could not listen: $!";
		}
		if ($mode eq 'no port')
		{
			close delete $self->{listener};
		}
		elsif (!$self->{listener})
		{
			$self->listen_at($self->{port});
		}
		foreach my $c (values %{ $self->{connections} })
		{
			# In a black hole it was not noticed when the client went away.
			if ($c->{spoilt} && $mode ne 'say' || gone($c->{client}))
			{
				$self->end($c);
				next;
			}
			$c->{dead} = 1 if $former eq 'black hole' && $self->{dead};
			next if $c->{dead};
			delete $c->{left};
			$TREAT{$mode}->($self, $c);
			$self->connect_behind($c)
			  if $c->{client} && !$c->{server} && $mode !~ /^(?:black hole|hang|say)$/;
		}
		$self->{dead} = $self->{options}{dead};
		$self->fill_queue if $mode eq 'hang';
	}
	my $reset = 0;
	if ($question->{reset})
	{
		foreach my $c (values %{ $self->{connections} })
		{
			$self->end($c, 1);
			$reset++;
		}
	}
	return { reset => $reset, stop => $question->{stop}, counts => { %{ $self->{counts} }, open => scalar keys %{ $self->{connections} } } };
}

sub listen_at
{
	my ($self, $port) = @_;

	socket(my $listener, PF_INET, SOCK_STREAM, 0) or die "could not make a socket: $!";
	setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
	bind($listener, sockaddr_in($port, INADDR_LOOPBACK)) or die "could not bind: $!";
	listen($listener, $QUEUE) or die "could not listen: $!";
	nonblocking($listener);
	$self->{listener} = $listener;
	return;
}

# With a queue that is full, the system drops what comes.
sub fill_queue
{
	my ($self) = @_;
	my $address = getsockname $self->{listener};

	listen($self->{listener}, 0) or die "could not listen: $!";
	for my $attempt (1 .. 4)
	{
		socket(my $filler, PF_INET, SOCK_STREAM, 0) or die "could not make a socket: $!";
		nonblocking($filler);
		die "could not connect: $!" unless connect($filler, $address) || $! == EINPROGRESS;
		push @{ $self->{fillers} }, $filler;
	}
	return;
}

sub accept_one
{
	my ($self) = @_;

	accept(my $client, $self->{listener}) or return;
	nonblocking($client);
	setsockopt($client, IPPROTO_TCP, TCP_NODELAY, 1);
	my $c = { client => $client, up => '', down => '', raw => '', next => {} };
	$self->{counts}{connections}++;
	$self->{connections}{$c} = $c;
	$TREAT{ $self->{mode} }->($self, $c);
	$self->connect_behind($c) if $c->{client} && !$c->{spoilt} && $self->{mode} ne 'black hole';
	return;
}

sub connect_behind
{
	my ($self, $c) = @_;
	my $path = $self->{behind}{path};

	socket(my $server, defined $path ? PF_UNIX : PF_INET, SOCK_STREAM, 0)
	  or die "could not make a socket: $!";
	unless (connect($server, defined $path ? sockaddr_un($path)
		  : sockaddr_in($self->{behind}{port}, INADDR_LOOPBACK)))
	{
		$self->end($c, 1);
		return;
	}
	nonblocking($server);
	setsockopt($server, IPPROTO_TCP, TCP_NODELAY, 1) unless defined $path;
	$c->{server} = $server;
	return;
}

# With a reset, what was not yet read by the other side is lost to it.
sub end
{
	my ($self, $c, $reset) = @_;

	delete $self->{connections}{$c};
	setsockopt($c->{client}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $reset;
	foreach my $socket (qw(client server))
	{
		close delete $c->{$socket} if $c->{$socket};
	}
	return;
}

sub read_client
{
	my ($self, $c) = @_;
	my $before = length $c->{up};

	unless (read_some($c->{client}, \$c->{up}))
	{
		$self->end($c);
		return;
	}
	if ($c->{spoilt})
	{
		$c->{up} = '';
		$c->{down} = $self->{options}{text} unless $c->{said}++;
	}
	return;
}

sub read_server
{
	my ($self, $c) = @_;

	$self->end($c) unless read_some($c->{server}, \$c->{raw});
	return;
}

# Make of what the server has said what the client gets.
sub work_on
{
	my ($self, $c) = @_;
	my ($mode, $options) = @$self{qw(mode options)};

	if ($c->{spoilt})
	{
		$c->{down} .= $options->{then}
		  while defined $options->{then} && $c->{said} && length $c->{down} < 65536;
		return;
	}
	if ($mode ne 'replace' && $mode ne 'extra')
	{
		$c->{down} .= $c->{raw};
		$c->{raw} = '';
		return;
	}
	while (my $length = reply_length($c->{raw}, 0))
	{
		my $reply = substr $c->{raw}, 0, $length, '';

		$self->{counts}{replies}++;
		if ($c->{skip} > 0)
		{
			$c->{skip}--;
			$c->{down} .= $reply;
			next;
		}
		$c->{down} .= $reply if $mode eq 'extra';
		$c->{down} .= $options->{text};
	}
	return;
}

sub write_some
{
	my ($self, $c, $way) = @_;
	my $mode = $self->{mode};
	my $most = length $c->{$way};

	if ($mode eq 'slow')
	{
		$most = 1;
		$c->{next}{$way} = time() + ($self->{options}{every} // 1);
	}
	$most = $c->{left} if $way eq 'down' && defined $c->{left} && $c->{left} < $most;
	my $written = syswrite($c->{ $way eq 'up' ? 'server' : 'client' }, $c->{$way}, $most);
	unless (defined $written)
	{
		return if $! == EAGAIN || $! == EINTR;
		$self->end($c);
		return;
	}
	substr($c->{$way}, 0, $written, '');
	$self->{counts}{$way} += $written;
	if ($way eq 'down' && defined $c->{left})
	{
		$c->{left} -= $written;
		$self->count_is_up($c) if $c->{left} <= 0;
	}
	return;
}

sub begin_count
{
	my ($self, $c) = @_;

	$c->{left} = $self->{options}{after} // 0;
	$self->count_is_up($c) if $c->{left} <= 0;
	return;
}

sub count_is_up
{
	my ($self, $c) = @_;

	if ($self->{mode} eq 'reset')
	{
		$self->end($c, 1);
		return;
	}
	delete $c->{left};
	close delete $c->{server} if $c->{server};
	@$c{qw(spoilt said raw up down)} = (1, 1, '', '', '');
	shutdown($c->{client}, 1);
	return;
}

sub nonblocking
{
	my ($socket) = @_;

	fcntl($socket, F_SETFL, fcntl($socket, F_GETFL, 0) | O_NONBLOCK) or die "fcntl failed: $!";
	return;
}

# Has the other side closed it?  If there is something to be read before that,
# it is noticed later.
sub gone
{
	my ($socket) = @_;
	my $byte = '';

	return $! != EAGAIN && $! != EINTR unless defined recv($socket, $byte, 1, MSG_PEEK);
	return $byte eq '';
}

# False when nothing will come any more.
sub read_some
{
	my ($socket, $buffer) = @_;
	my $got = sysread($socket, $$buffer, 65536, length $$buffer);

	return $got if defined $got;
	return $! == EAGAIN || $! == EINTR;
}

# The length of the reply that begins there, 0 if not all of it is there.
sub reply_length
{
	my ($buffer, $from) = @_;
	my $end = index $buffer, "\r\n", $from;

	return 0 if $end < 0;
	my ($type, $number) = (substr($buffer, $from, 1), substr($buffer, $from + 1, $end - $from - 1));
	my $length = $end + 2 - $from;
	if ($type eq '$' && $number >= 0)
	{
		$length += $number + 2;
	}
	elsif ($type eq '*')
	{
		for my $element (1 .. $number)
		{
			my $more = reply_length($buffer, $from + $length) or return 0;

			$length += $more;
		}
	}
	return $from + $length <= length $buffer ? $length : 0;
}

1;
