# Something that answers as the scripts of the mirror in Redis do, and to some
# commands otherwise, as told.  It keeps nothing.
#
#	my $fake = DistlockFakeRedis->new;
#	$fake->answer(sweep => ":1\r\n");
#	$fake->answer(compare => sub { my ($keys) = @_; ... });
#	$fake->answer;				# as it should again
#	$fake->url;
#
# What can be told apart:
#	auth, select, script, claim, write, sweep, compare, list, ask (HGET), count (HLEN)
# An answer is a text, or code that gets the number of keys and returns one.

package DistlockFakeRedis;

use strict;
use warnings;

use DistlockChildren;
use IO::Socket::INET;
use POSIX ();

our $CLAIM = join ' ', '0' x 18 . '1', '0' x 15 . '1', '0' x 16;

my @SCRIPTS = qw(claim write sweep compare list);

my %USUAL = (
	auth => "+OK\r\n",
	select => "+OK\r\n",
	claim => array(text($CLAIM), text('')),
	write => sub { my ($keys) = @_; return array(text('k' x $keys), text('')) },
	sweep => text('0'),
	compare => sub { my ($keys) = @_; return array((text('m0')) x $keys) },
	list => array(text('0'), array()),
	ask => text($CLAIM),
	count => ":1\r\n");

# As Redis would send them.
sub text { return '$' . length($_[0]) . "\r\n$_[0]\r\n"; }
sub array { return '*' . @_ . "\r\n" . join '', @_; }

sub new
{
	my ($class) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die "could not listen: $!";

	return bless { listener => $listener }, $class;
}

sub url { return 'redis://127.0.0.1:' . $_[0]{listener}->sockport; }

# Connections that are there end.
sub answer
{
	my ($self, %answers) = @_;

	$self->stop;
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP CHLD __DIE__ __WARN__);
		$SIG{PIPE} = 'IGNORE';
		while (my $client = $self->{listener}->accept)
		{
			talk($client, { %USUAL, %answers });
		}
		POSIX::_exit(0);
	}
	$self->{pid} = $pid;
	child_started($pid);
	return;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;

	kill('KILL', $pid);
	waitpid $pid, 0;
	child_ended($pid);
	return;
}

# Until the client has gone.
sub talk
{
	my ($client, $answers) = @_;
	my $scripts = 0;

	while (my @command = command($client))
	{
		my $name = lc $command[0];
		my $answer;

		if ($name eq 'script')
		{
			$answer = $answers->{script} // text($scripts x 40);
			$scripts++;
		}
		elsif ($name eq 'evalsha')
		{
			$answer = $answers->{ $SCRIPTS[ substr $command[1], 0, 1 ] };
			# The first key is that of the book.
			$answer = $answer->($command[2] - 1) if ref $answer;
		}
		else
		{
			my %others = (hget => 'ask', hlen => 'count');

			$answer = $answers->{ $others{$name} // $name } // "-ERR what is $name?\r\n";
		}
		print $client $answer;
	}
	close $client;
	return;
}

sub command
{
	my ($client) = @_;
	my ($count) = (readline($client) // '') =~ /^\*(\d+)/ or return;
	my @words;

	for (1 .. $count)
	{
		my ($length) = (readline($client) // '') =~ /^\$(\d+)/ or return;

		read($client, my $word, $length + 2) or return;
		push @words, substr $word, 0, $length;
	}
	return @words;
}

1;
