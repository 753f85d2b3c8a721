
=pod

=head1 NAME

DistlockClients - run the clients of test/torture/client.c

=head1 SYNOPSIS

  my $clients = DistlockClients->new(clients => 8, sabotage => 20);
  $clients->prepare($node);                   # once for each database
  $clients->start($node, seconds => 5, seed => 1, round => 1);
  ...
  my $counts = $clients->finish;              # { operations => ..., ... }
  foreach my $log ($clients->logs) { ... }

=cut

package DistlockClients;

use strict;
use warnings;

use DistlockTest qw(situation);
use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;

# What is an answer to what they do; class 08 and 57P are of lost connections.
our @EXPECTED = (
	'55P03',             # not granted; lock_timeout
	'LK001',             # not held
	'40001', '40P01',    # serialisation; sessions and transactions in a circle
	'57014',             # cancelled, statement_timeout
	'57P01', '57P02', '57P03', 'lost',
	'57P05', '25P03');   # sessions that were idle for too long

=pod

=head1 METHODS

=head2 DistlockClients->new(clients => ..., keys => ..., sabotage => ..., slow => ...)

How many clients (8), how many keys that all of them want (8), how often a second
one of them is disturbed (not at all), and 1 for nothing in batches.

=cut

sub new
{
	my ($class, %options) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $program = "$directory/client";
	my @sources = map { "$FindBin::RealBin/../torture/$_.c" } qw(client client_talk);
	my $config = $ENV{PG_CONFIG} // 'pg_config';

	chomp(my $include = `$config --includedir`);
	chomp(my $lib = `$config --libdir`);
	system($ENV{CC} // 'cc', '-O2', "-I$include", '-o', $program, @sources,
		"-L$lib", '-lpq', '-pthread') == 0
	  or die 'could not compile client.c';

	return bless {
		clients => 8, keys => 8, sabotage => 0, slow => 0, %options,
		program => $program,
		directory => $directory,
	}, $class;
}

=pod

=head2 $clients->prepare($node)

Make the ledger in the database "postgres".

=cut

sub prepare
{
	my ($self, $node) = @_;

	$node->safe_psql('postgres', q{
		CREATE TABLE ledger (key text NOT NULL, line bigint NOT NULL, fence bigint, owner text);
		CREATE INDEX ON ledger (key, line)});
	return;
}

=pod

=head2 $clients->start($node, seconds => ..., seed => ..., round => ...)

Let them work for so long.  The number of the round is in the names of the owners;
each round needs one of its own.

=cut

sub start
{
	my ($self, $node, %options) = @_;

	$self->{node} = $node;
	$self->{out} = $self->{err} = '';
	$self->{patience} = $options{seconds} + 60;
	$self->{timeout} = IPC::Run::timeout($self->{patience});
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	local $ENV{PGCONNECT_TIMEOUT} = 10;
	$self->{run} = IPC::Run::start(
		[
			$self->{program},
			'--clients', $self->{clients},
			'--keys', $self->{keys},
			'--sabotage', $self->{sabotage},
			'--seconds', $options{seconds},
			'--seed', $options{seed},
			'--round', $options{round},
			'--log', $self->{directory},
			$self->{slow} ? '--slow' : ()
		],
		'>', \$self->{out},
		'2>', \$self->{err},
		$self->{timeout});
	return;
}

=pod

=head2 $clients->working, $clients->stop, $clients->finish

Whether they are at it; tell them that the time is over; wait until they have finished,
and get what they counted:
C<operations>, C<grants>, C<refusals>, C<waits>, C<interrupts>, C<lost>, C<stuck>,
C<seconds>, and C<errors>, a hash by SQLSTATE.  Who is at it a minute later than he
should is stuck, too.

=cut

sub working
{
	my ($self) = @_;

	return eval { $self->{run}->pump_nb; 1 } && $self->{run}->pumpable;
}

sub stop
{
	my ($self) = @_;

	eval { $self->{run}->signal('TERM') };
	return;
}

sub finish
{
	my ($self) = @_;
	my %counts = (errors => {});

	$self->{timeout}->start($self->{patience});
	eval { $self->{run}->finish; 1 }
	  or die "the clients do not come to an end: $@", eval { situation($self->{node}, 'postgres') } // $@;
	$self->{run}->result == 0 or die "the clients have failed: $self->{err}";
	foreach my $line (split /\n/, $self->{out})
	{
		my ($what, @values) = split / /, $line;

		if ($what eq 'error')
		{
			$counts{errors}{ $values[0] } += $values[1];
		}
		else
		{
			$counts{$what} = $values[0];
		}
	}
	return \%counts;
}

=pod

=head2 $clients->logs

The files in which they wrote what they asked and got.

=cut

sub logs
{
	my ($self) = @_;

	return map { "$self->{directory}/client-$_.log" } 0 .. $self->{clients} - 1;
}

=pod

=head2 unexpected($counts, ...)

The errors that are no answer to what they do, but for others that are expected.

=cut

sub unexpected
{
	my ($counts, @more) = @_;
	my %expected = map { $_ => 1 } @EXPECTED, @more;

	return grep { !$expected{$_} && !/^08/ } sort keys %{ $counts->{errors} };
}

1;
