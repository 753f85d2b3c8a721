
=pod

=head1 NAME

DistlockTorture - the frame of a scenario of tools/torture: seed, time, figures

=head1 SYNOPSIS

  my $run = DistlockTorture->new('crash', seconds => 30,
      goals => { recoveries => 300 });
  while ($run->go_on)
  {
      ...
      $run->add(recoveries => 1);
  }
  $run->finish;     # instead of done_testing

=head1 DESCRIPTION

A scenario is a script in test/torture that speaks TAP.  It draws all that it
decides from rand(), which is seeded here, so the same seed makes the same
decisions again; what comes of them depends on the timing as well.

What it counts are its figures.  They are printed at the end, for tools/torture
to put into a table:

  # figure crash recoveries 17

Settings in the environment, which tools/torture makes of its options:

  DISTLOCK_TORTURE_SECONDS   go on for so long; else what the scenario says
  DISTLOCK_TORTURE_SEED      repeat the decisions of an earlier run
  DISTLOCK_TORTURE_FULL      1: and until all goals are reached
  DISTLOCK_SLOWNESS          how many times as long everything may take on this server

=cut

package DistlockTorture;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

my $GRANTS = 500;         # a second, at least; on servers that watch memory, less
my $CONTENTION = 5;       # per cent of the attempts, at least

=pod

=head1 METHODS

=head2 DistlockTorture->new($scenario, seconds => ..., goals => { figure => count })

Seeds rand() and says with what.  The goals are what a long run has to reach.

=cut

sub new
{
	my ($class, $scenario, %options) = @_;

	my $self = bless {
		scenario => $scenario,
		seconds => $ENV{DISTLOCK_TORTURE_SECONDS} // $options{seconds},
		seed => $ENV{DISTLOCK_TORTURE_SEED} // int(rand(1_000_000)),
		goals => $options{goals} // {},
		full => $ENV{DISTLOCK_TORTURE_FULL} // 0,
		slowness => $ENV{DISTLOCK_SLOWNESS} // 1,
		figures => {},
		order => [],
	}, $class;

	srand($self->{seed});
	note "$scenario: seed $self->{seed}";
	return $self;
}

=pod

=head2 $run->seed, $run->seconds, $run->full, $run->slowness

The seed; how long the run takes at least, in seconds; whether it goes on until
all goals are reached; by what limits of time are multiplied, and what has to happen
in a second is divided: 1 but for servers that watch memory.

=cut

sub seed { return $_[0]->{seed}; }
sub seconds { return $_[0]->{seconds}; }
sub full { return $_[0]->{full}; }
sub slowness { return $_[0]->{slowness}; }

# Seconds since the first question whether to go on; what was set up before does not
# count.
sub elapsed { return time - ($_[0]->{began} //= time); }

=pod

=head2 $run->go_on

Whether there is time left, or a goal to reach.  False once a test has failed:
what is found out first is what matters.

=cut

sub go_on
{
	my ($self) = @_;

	return 0 unless Test::More->builder->is_passing;
	return 1 if $self->elapsed < $self->{seconds};
	return $self->{full} && !!$self->missed;
}

# The goals that are not reached yet.
sub missed
{
	my ($self) = @_;

	return grep { $self->figure($_) < $self->{goals}{$_} } sort keys %{ $self->{goals} };
}

=pod

=head2 $run->add(figure => count, ...), $run->figure($name)

Add to figures, and what one has come to.  They are shown in the order in which
they came up.

=cut

sub add
{
	my ($self, @counts) = @_;

	while (my ($name, $count) = splice @counts, 0, 2)
	{
		push @{ $self->{order} }, $name unless exists $self->{figures}{$name};
		$self->{figures}{$name} += $count;
	}
	return;
}

sub figure { return $_[0]->{figures}{ $_[1] } // 0; }

=pod

=head2 $run->worked($seconds, grants => ..., refusals => ..., waits => ...)

In so many seconds, clients were granted so many locks, some of them (C<waits>) after
they had to wait, and refused so many.  What was set up or awaited before and after
does not count.

=head2 $run->did_enough

A run in which too little of that happened has failed: fewer than 500 grants a second,
contention (refusals and waits among the attempts) below 5 %.

=cut

sub worked
{
	my ($self, $seconds, %counts) = @_;

	$self->{worked}{seconds} += $seconds;
	$self->{worked}{$_} += $counts{$_} for keys %counts;
	return;
}

sub did_enough
{
	my ($self) = @_;
	my ($seconds, $grants, $refusals, $waits) =
	  map { $self->{worked}{$_} // 0 } qw(seconds grants refusals waits);
	my $rate = $grants / ($seconds || 1);
	my $contention = 100 * ($refusals + $waits) / (($grants + $refusals) || 1);
	my $least = $GRANTS / $self->{slowness};

	note sprintf '%d grants in %.1f s, %.1f a second, contention %.1f %%', $grants, $seconds, $rate, $contention;
	$self->add(grants_a_second => int $rate, contention_in_per_cent => int $contention);
	cmp_ok($rate, '>=', $least, "at least $least grants a second");
	cmp_ok($contention, '>=', $CONTENTION, "at least $CONTENTION % contention");
	return;
}

=pod

=head2 $run->finish

Print the figures; in a full run, a goal that was missed is a failure.

=cut

sub finish
{
	my ($self) = @_;
	my $name = $self->{scenario};

	if ($self->{full})
	{
		cmp_ok($self->figure($_), '>=', $self->{goals}{$_}, "$name: the goal of $_")
		  for sort keys %{ $self->{goals} };
	}
	note "figure $name $_ $self->{figures}{$_}" for @{ $self->{order} };
	note sprintf 'figure %s seconds %d', $name, $self->elapsed;
	note "figure $name seed $self->{seed}";
	done_testing();
	return;
}

1;
