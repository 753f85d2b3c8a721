
=pod

=head1 NAME

DistlockWire - a client of PostgreSQL's protocol that sends many statements at
once

=head1 SYNOPSIS

  my $wire = DistlockWire->new($node, dbname => 'postgres', user => 'postgres');
  my @results = $wire->run(DistlockWire::simple("SELECT 1"),
      DistlockWire::extended('SELECT $1::text', "any bytes"));
  $results[0]{sqlstate};    # '' when it went well

=head1 DESCRIPTION

psql takes a round trip for every statement and as much processor time as the
server.  This client sends hundreds of statements and then reads what became of each;
a statement that fails stops none of those after it.  And it can send what libpq's
users cannot: bytes that are no text.

It knows as much of the protocol as is needed for servers that trust it: no
passwords, no TLS, no COPY.

=cut

package DistlockWire;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

=pod

=head1 FUNCTIONS

=head2 simple($sql), extended($sql, @parameters)

The messages of one statement: a simple query (which may be several statements),
or one with parameters in text format, undef for NULL.

=cut

sub simple { return message('Q', "$_[0]\0"); }

sub extended
{
	my ($sql, @parameters) = @_;

	return join '', message('P', "\0$sql\0" . pack('n', 0)),
	  message(
		'B',
		"\0\0"
		  . pack('n n', 0, scalar @parameters)
		  . join('', map { defined $_ ? pack('N', length $_) . $_ : "\xff\xff\xff\xff" } @parameters)
		  . pack('n', 0)),
	  message('E', "\0" . pack('N', 0)),
	  message('S', '');
}

sub message
{
	my ($type, $body) = @_;

	return $type . pack('N', 4 + length $body) . $body;
}

=pod

=head1 METHODS

=head2 DistlockWire->new($node, dbname => ..., user => ..., options => ...)

Connect.  The options are those of libpq.

=cut

sub new
{
	my ($class, $node, %options) = @_;
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $socket = IO::Socket::UNIX->new(Peer => $path) or die "could not connect to $path: $!";
	my $self = bless { socket => $socket, buffer => '' }, $class;
	my $startup = pack('N', 196608)
	  . join('',
		map { "$_\0" } 'user', $options{user} // 'postgres', 'database',
		$options{dbname} // 'postgres', 'application_name', 'wire',
		'client_encoding', 'UTF8', 'options',
		$options{options} // '', '');

	$socket->blocking(0);
	my ($result) = $self->exchange(pack('N', 4 + length $startup) . $startup, 1);
	die "could not connect: $result->{sqlstate} $result->{message}" if $result->{sqlstate} ne '';
	return $self;
}

# Process id of the server's side.
sub pid { return $_[0]->{pid}; }

=pod

=head2 $wire->run(@statements)

Have the server execute them, and return what became of each: a hash with

  sqlstate     '' when it went well
  message      message, detail, hint and context of the error, a line each
  values       the first columns of the first 100 rows

Dies when the connection is lost.

=cut

sub run
{
	my ($self, @statements) = @_;

	return $self->exchange(join('', @statements), scalar @statements);
}

# The first value of a query that must not fail.
sub value
{
	my ($self, $sql) = @_;
	my ($result) = $self->run(simple($sql));

	die "\"$sql\" failed: $result->{sqlstate} $result->{message}" if $result->{sqlstate} ne '';
	return $result->{values}[0];
}

# Send, and read until the server was ready so many times.  Both at once: each side
# may have more to say than the other wants to keep.
sub exchange
{
	my ($self, $out, $count) = @_;
	my $socket = $self->{socket};
	my $select = IO::Select->new($socket);
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;
	my @results;
	my $current = { sqlstate => '', values => [] };

	while (@results < $count)
	{
		if (length $out)
		{
			my $sent = syswrite($socket, $out, 1 << 16);

			substr($out, 0, $sent, '') if $sent;
			die "connection lost: $!\n" if !defined $sent && !($!{EAGAIN} || $!{EINTR});
		}
		my $got = sysread($socket, $self->{buffer}, 1 << 17, length $self->{buffer});

		if (defined $got)
		{
			die 'connection lost: ' . ($current->{message} // '') . "\n" if $got == 0;
			$current = $self->read_messages($current, \@results);
			next;
		}
		die "connection lost: $!\n" unless $!{EAGAIN} || $!{EINTR};
		die "timed out: no answer to a statement\n" if time() > $until;
		IO::Select->select($select, length $out ? $select : undef, undef, 10);
	}
	return @results;
}

# All messages that are complete.
sub read_messages
{
	my ($self, $current, $results) = @_;
	my $at = 0;
	my $end = length $self->{buffer};

	while ($end - $at >= 5)
	{
		my $type = substr($self->{buffer}, $at, 1);
		my $length = unpack('N', substr($self->{buffer}, $at + 1, 4));

		last if $end - $at < 1 + $length;
		if ($type eq 'Z')
		{
			push @$results, $current;
			$current = { sqlstate => '', values => [] };
		}
		elsif ($type eq 'D')
		{
			my $size = unpack('l>', substr($self->{buffer}, $at + 7, 4));

			push @{ $current->{values} }, $size < 0 ? undef : substr($self->{buffer}, $at + 11, $size)
			  if @{ $current->{values} } < 100;
		}
		elsif ($type eq 'E')
		{
			my %field = map { (substr($_, 0, 1), substr($_, 1)) }
			  grep { length } split /\0/, substr($self->{buffer}, $at + 5, $length - 4);

			$current->{sqlstate} = $field{C};
			$current->{message} = join "\n", map { $field{$_} // () } qw(M D H W);
		}
		elsif ($type eq 'K')
		{
			$self->{pid} = unpack('N', substr($self->{buffer}, $at + 5, 4));
		}
		elsif ($type eq 'R' && unpack('N', substr($self->{buffer}, $at + 5, 4)) != 0)
		{
			die "the server wants a password\n";
		}
		$at += 1 + $length;
	}
	substr($self->{buffer}, 0, $at, '');
	return $current;
}

sub close
{
	my ($self) = @_;

	$self->{socket}->blocking(1);
	syswrite($self->{socket}, message('X', ''));
	CORE::close($self->{socket});
	return;
}

1;
