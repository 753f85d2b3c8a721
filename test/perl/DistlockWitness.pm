
=pod

=head1 NAME

DistlockWitness - compare what clients got with each other and with what was
committed

=head1 SYNOPSIS

  my $witness = DistlockWitness->new;
  ...
  $judge->read_changes;
  $witness->hear($clients->logs);
  $witness->compare($judge->take_sight);
  is_deeply([ $witness->violations ], [], 'the clients agree');

=head1 DESCRIPTION

The clients (test/torture/client.c) write down what they asked and got, with the
time by the monotonic clock, which is the same for all of them.  From that follows,
without a look at the server:

  held_twice        when a lock was surely held: from the moment when the client
                    knew until it asked to give it back, or asked for it plus ttl.
                    These times of two tokens overlap.
  repeated_fences   two holders were shown the same fence of a key, whatever has
                    become of their transactions
  fence_order       who asked after another had got the lock was given a lower
                    fence
  wrong_tokens      something was done for a wrong token

Compared with the changes of the table (L<DistlockJudge>):

  lost_grants       what a client knew as granted and committed is not there
  ghost_grants      what was rolled back or refused is there, or nobody asked for it
  false_answers     token, fence or key are not what the client was told
  ghost_releases    a lock was given back by nobody
  lost_releases     what a client knew as given back was not
  ghost_extends     a lease was extended by nobody
  lost_works        a line that a client knew as committed is not in the ledger
  ghost_works       one is there that was rolled back

When the connection was lost while a transaction was being committed, the client
does not know; then both are right, and it is counted as resolved: C<committed> or
C<undone>.  Nothing is guessed.

=cut

package DistlockWitness;

use strict;
use warnings;

my @VIOLATIONS = qw(held_twice repeated_fences fence_order wrong_tokens lost_grants
  ghost_grants false_answers ghost_releases lost_releases ghost_extends lost_works
  ghost_works);
my @EVENTS = qw(records acknowledged intervals fences committed undone);

# Descriptions of so many violations are kept.
my $DESCRIBED = 20;

# The columns of the logs
my ($ASKED, $ANSWERED, $VERB, $SCOPE, $KEY, $TOKEN, $OWNER, $TTL, $OUTCOME, $VALUE, $STATE) =
  (0 .. 10);

=pod

=head1 METHODS

=head2 DistlockWitness->new

=cut

sub new
{
	my ($class) = @_;

	return bless {
		records => [],
		ends => {},       # by key: until when it was surely held, and by whom
		highest => {},    # by key: the highest fence shown
		counts => { map { $_ => 0 } @EVENTS, @VIOLATIONS },
		described => [],
	}, $class;
}

=pod

=head2 $witness->hear($file, ...)

Read what the clients have written in a round; before the next one it has to be
compared.

=cut

sub hear
{
	my ($self, @files) = @_;

	foreach my $file (@files)
	{
		open my $log, '<', $file or die "could not read $file: $!";
		while (my $line = <$log>)
		{
			chomp $line;
			my @record = split /\t/, $line, -1;

			# The clients were killed while they wrote.
			next if @record != 11;
			push @{ $self->{records} }, \@record;
		}
		close $log;
	}
	$self->{counts}{records} += @{ $self->{records} };
	return;
}

=pod

=head2 $witness->compare($sight, crashed => ...)

Find contradictions in what was heard last.  $sight is what the judge saw in the
same time.  With C<crashed>, releases may have been lost, which need not survive a
crash, and lines of those who had switched C<synchronous_commit> off.

=cut

sub compare
{
	my ($self, $sight, %options) = @_;
	my $records = $self->{records};
	my $taken = $sight->{taken};

	$self->{records} = [];
	$self->exclude($records, $taken);
	$self->order_fences($records);
	$self->find_grants($records, $sight, $options{crashed});
	$self->find_changes($records, $sight, $options{crashed});
	return;
}

=pod

=head2 $witness->count($what), $witness->violations, $witness->summary, $witness->evidence

As of L<DistlockJudge>.  C<acknowledged> are the grants that clients knew as
committed, C<intervals> the times in which a lock was surely held, C<fences> those
shown.

=cut

sub count
{
	my ($self, $what) = @_;

	die "nothing is counted as $what" unless exists $self->{counts}{$what};
	return $self->{counts}{$what};
}

sub violations
{
	my ($self) = @_;

	return grep { $self->{counts}{$_} > 0 } @VIOLATIONS;
}

sub summary
{
	my ($self) = @_;

	return join(', ',
		map { my $name = $_; $name =~ tr/_/ /; "$self->{counts}{$_} $name" }
		  (@EVENTS, grep { $self->{counts}{$_} } @VIOLATIONS));
}

sub evidence
{
	my ($self) = @_;

	return join("\n", @{ $self->{described} });
}

sub violation
{
	my ($self, $name, $what, @of) = @_;

	$self->{counts}{$name}++;
	return if @{ $self->{described} } >= $DESCRIBED;
	push @{ $self->{described} }, "$name: $what\n" . join('',
		map { '  ' . (ref $_ eq 'ARRAY' ? join(' ', @$_)
			  : join(' ', map { "$_=" . ($of[1]{$_} // 'NULL') } sort keys %$_)) . "\n" } @of);
	return;
}

# ---------------------------------------------------------------------------
# What follows from the clients' own words
# ---------------------------------------------------------------------------

sub is_ok { return $_[0][$OUTCOME] eq 'ok'; }

# When which token surely held a key, for each that is not shared.
sub intervals
{
	my ($self, $records, $taken) = @_;
	my (%of, @intervals);

	foreach my $r (@$records)
	{
		next if $r->[$KEY] =~ /^s/ || $r->[$TOKEN] eq '-' || !is_ok($r);
		push @{ $of{"$r->[$KEY]\t$r->[$TOKEN]"} }, $r;
	}
	while (my ($name, $steps) = each %of)
	{
		my ($key, $token) = split /\t/, $name;

		next if $taken->{$token};
		my ($client) = $steps->[0][$OWNER] =~ /^(\d+\.\d+)\./;

		push @intervals, map { [ $key, $token, @$_[ 0, 1 ], $client // '', $_->[2] // '' ] } held(@$steps);
	}
	return @intervals;
}

# The same of one token: what was done with it, in its order.
sub held
{
	my @steps = @_;
	my ($from, $until, $ttl, @held, $guarded);
	my $acquire = $steps[0];

	return () if $acquire->[$VERB] ne 'a';
	my $scope = $acquire->[$SCOPE];
	foreach my $step (@steps)
	{
		my $verb = $step->[$VERB];

		if ($verb eq 'g')
		{
			$guarded //= $step->[$ANSWERED];
		}
		elsif ($verb eq 'e')
		{
			# Until then by the guard or by the scope
			push @held, [ $scope eq 't' ? $acquire->[$ANSWERED] : $guarded, $step->[$ASKED], 'pinned' ]
			  if $scope eq 't' || defined $guarded;
			$guarded = undef;
		}
		elsif ($scope eq 's')
		{
			# The session lived when it was asked for something that it did.
			push @held, [ $acquire->[$ANSWERED], $step->[$ASKED] ] if $verb ne 'a';
			last if $verb =~ /[rd]/;
		}
		elsif ($scope eq 'l' && $acquire->[$STATE] eq 'C')
		{
			if ($verb eq 'a')
			{
				($from, $ttl) = ($step->[$ANSWERED], $step->[$TTL]);
				$until = $step->[$ASKED] + $ttl;
			}
			elsif ($verb eq 'x' && $step->[$STATE] ne 'R' && defined $until)
			{
				my $end = $step->[$ASKED] + ($step->[$TTL] || $ttl);

				# Until the new end from when it was told on, and until the old one if
				# nobody knows
				push @held, [ $from, $step->[$ASKED] < $until ? $step->[$ASKED] : $until ];
				$from = $step->[$ANSWERED] if $until < $step->[$ANSWERED];
				$until = $step->[$STATE] eq 'C' || $end < $until ? $end : $until;
				$ttl = $step->[$TTL] || $ttl;
			}
			elsif ($verb eq 'r' && defined $until)
			{
				$until = $step->[$ASKED] if $step->[$ASKED] < $until;
				push @held, [ $from, $until ];
				$until = undef;
			}
		}
	}
	push @held, [ $from, $until ] if defined $until;
	return grep { $_->[0] < $_->[1] } @held;
}

# No two tokens at once.
sub exclude
{
	my ($self, $records, $taken) = @_;
	my $ends = $self->{ends};
	my @intervals = sort { $a->[2] <=> $b->[2] } $self->intervals($records, $taken);

	$self->{counts}{intervals} += @intervals;
	foreach my $interval (@intervals)
	{
		my ($key, $token, $from, $until) = @$interval;
		my $before = $ends->{$key};

		if (defined $before)
		{
			# A transaction keeps off others from a lease of its own that has expired, not
			# itself.
			$self->violation('held_twice', 'at the same time', $before, $interval)
			  if $before->[3] > $from && $before->[1] ne $token
			  && !($before->[5] eq 'pinned' && $before->[4] eq $interval->[4]);
			next if $before->[3] >= $until;
		}
		$ends->{$key} = $interval;
	}

	# The others are over when the next round begins.
	my $last = @intervals ? $intervals[-1][2] : 0;
	delete @$ends{ grep { $ends->{$_}[3] < $last } keys %$ends };
	return;
}

# Each fence for one holder, and those who come later have higher ones.
sub order_fences
{
	my ($self, $records) = @_;
	my $highest = $self->{highest};
	my (%holder, %of);

	foreach my $r (@$records)
	{
		my ($key, $value) = @$r[ $KEY, $VALUE ];

		next unless $r->[$VERB] =~ /[agl]/ && is_ok($r) && $value =~ /^\d+$/;
		my $other = $holder{"$value $key"} //= $r;

		$self->{counts}{fences}++;
		$self->violation('repeated_fences', 'for another holder', $other, $r)
		  if $other->[$TOKEN] ne $r->[$TOKEN];
		push @{ $of{$key} }, $r if $r->[$VERB] eq 'a' && $key !~ /^s/;
	}
	foreach my $key (keys %of)
	{
		my @asked = sort { $a->[$ASKED] <=> $b->[$ASKED] } @{ $of{$key} };
		my @answered = sort { $a->[$ANSWERED] <=> $b->[$ANSWERED] } @{ $of{$key} };
		my $lowest = $highest->{$key};

		foreach my $r (@asked)
		{
			while (@answered && $answered[0][$ANSWERED] < $r->[$ASKED])
			{
				my $before = shift @answered;

				$lowest = $before if !defined $lowest || $before->[$VALUE] > $lowest->[$VALUE];
			}
			$self->violation('fence_order', 'a lower one later', $lowest, $r)
			  if defined $lowest && $r->[$VALUE] <= $lowest->[$VALUE]
			  && $r->[$TOKEN] ne $lowest->[$TOKEN];
		}
		foreach my $r (@answered)
		{
			$lowest = $r if !defined $lowest || $r->[$VALUE] > $lowest->[$VALUE];
		}
		$highest->{$key} = $lowest;
	}
	return;
}

# ---------------------------------------------------------------------------
# Compared with what was committed
# ---------------------------------------------------------------------------

sub find_grants
{
	my ($self, $records, $sight, $crashed) = @_;
	my $counts = $self->{counts};
	my (%asked, %worked);

	foreach my $r (@$records)
	{
		my ($verb, $owner, $state) = @$r[ $VERB, $OWNER, $STATE ];

		$self->violation('wrong_tokens', 'it did something', $r) if $verb eq '!' && is_ok($r);
		if ($verb eq 'w')
		{
			my $there = exists $sight->{works}{$owner};

			$worked{$owner} = 1;
			$self->violation('lost_works', 'not in the ledger', $r)
			  if $state eq 'C' && is_ok($r) && !$there && !$crashed;
			$self->violation('ghost_works', 'in the ledger', $r)
			  if $there && ($state eq 'R' || ($state eq 'C' && !is_ok($r)));
		}
		next if $owner eq '-' || $verb !~ /[aw]/;
		$asked{$owner} = $r;
		next if $verb ne 'a' || $r->[$SCOPE] eq 't';

		my $grant = $sight->{grants}{$owner};
		if ($state eq 'U')
		{
			$counts->{ defined $grant ? 'committed' : 'undone' }++;
		}
		elsif ($state eq 'R' || !is_ok($r))
		{
			$self->violation('ghost_grants', 'it was not to be', $r, $grant) if defined $grant;
		}
		elsif (!defined $grant)
		{
			$self->violation('lost_grants', 'it is not there', $r);
		}
		else
		{
			$counts->{acknowledged}++;
			$self->violation('false_answers', 'it is not what was granted', $r, $grant)
			  if $grant->{key} ne $r->[$KEY] || $grant->{token} ne $r->[$TOKEN]
			  || ($r->[$VALUE] =~ /^\d+$/ && $grant->{fence} != $r->[$VALUE]);
		}
	}
	while (my ($owner, $grant) = each %{ $sight->{grants} })
	{
		$self->violation('ghost_grants', 'nobody asked for it', [], $grant)
		  if $owner =~ /^\d+\.\d+\.\d+$/ && !exists $asked{$owner};
	}
	foreach my $owner (keys %{ $sight->{works} })
	{
		$self->violation('ghost_works', "nobody wrote it: $owner")
		  if $owner =~ /^\d+\.\d+\.\d+$/ && !exists $worked{$owner};
	}
	return;
}

sub find_changes
{
	my ($self, $records, $sight, $crashed) = @_;
	my (%released, %extended);

	foreach my $r (@$records)
	{
		my ($verb, $token, $state) = @$r[ $VERB, $TOKEN, $STATE ];

		next if $state eq 'R' || $verb !~ /[rxa]/;
		next if $state eq 'C' && !is_ok($r);
		if ($verb eq 'r')
		{
			$released{$token} = 1;
			# A session may have held it, and then it can be the worker who frees it.
			$self->violation('lost_releases', 'it was not released', $r)
			  if $state eq 'C' && $r->[$SCOPE] eq 'l' && !$crashed
			  && !exists $sight->{released}{$token};
		}
		else
		{
			$extended{$token} = 1;
		}
	}
	foreach my $token (keys %{ $sight->{released} })
	{
		$self->violation('ghost_releases', "nobody released $token")
		  if $sight->{released}{$token} eq 'l' && !exists $released{$token};
	}
	foreach my $token (keys %{ $sight->{extended} })
	{
		$self->violation('ghost_extends', "nobody extended $token")
		  unless exists $extended{$token};
	}
	return;
}

1;
