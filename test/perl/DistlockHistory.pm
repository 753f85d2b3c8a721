
=pod

=head1 NAME

DistlockHistory - what clients were told about locks, over all servers that the data
has lived on

=head1 SYNOPSIS

  my $history = DistlockHistory->new;
  my $place = $history->enter($server, 'postgres');
  # clients work there: see DistlockClerk; then a standby takes over
  my $next = $history->enter($standby, 'postgres', from => $place, kept => 'synchronous');
  is_deeply([ $history->problems ], [], 'nothing was lost, no fence repeated');

=head1 DESCRIPTION

A place is a database of a server, from when clients begin to use it to when that
comes to an end: by a crash, too.  Who moves on to the next place says what must have
come along:

  nothing      a dump was restored: no locks at all
  before       what was there when clients began to use the former place
  marked       that, and what was acknowledged before mark() was called
  synchronous  that, and what was acknowledged to sessions that wait for a standby
  all          that, and all that was acknowledged

The history knows the calls of all clients by their names, which the rows of the
table tell.  It checks:

  - A fence is shown for one call only, wherever; and of a call, only that one.
  - At a place, all fences are greater than the highest that any client had been shown
    anywhere when it began; after a mere restart, than those of that server.
  - To each session greater ones are shown each time.
  - What must have come along is there; nothing is there that nobody asked for.

Calls that were not answered are looked up at the next place.

In each place, a logical decoding slot tells what is committed in which order.  What
that has to look like is checked by L<DistlockVerdict>.

=cut

package DistlockHistory;

use strict;
use warnings;

use DistlockVerdict;
use List::Util qw(max);
use Test::More import => ['cmp_ok'];
use Time::HiRes qw(time);

# In the tables that clients write to
my $TABLES = <<'EOQ';
CREATE TABLE IF NOT EXISTS work (key text, fence bigint, work text);
CREATE TABLE IF NOT EXISTS elsewhere (key text PRIMARY KEY, fence bigint);
EOQ

# Answers that can be expected: not held; not granted; terminated; deadlock, of two
# who have guarded what they shared.
my %EXPECTED = map { $_ => 1 } qw(LK001 55P03 57P01 57P02 57P03 40P01);

my $DESCRIBED = 20;

=pod

=head1 METHODS

=head2 DistlockHistory->new(keys => [...], clock => sub {...})

The clock, if there is one, is asked about each moment that a server claims to have
acted at; see L<DistlockVerdict>.

=cut

sub new
{
	my ($class, %options) = @_;

	return bless {
		keys => { map { $_ => 1 } @{ $options{keys} } },
		clock => $options{clock},
		calls => {},          # by name
		fences => {},         # by fence: the name of the call
		highest => 0,         # ever shown
		places => 0,
		remembered => [],
		problems => [],
		counts => { map { $_ => 0 } qw(asked granted refused seconds acknowledged shown works lost
			  ambiguous resolved judged) },
	}, $class;
}

sub problems { return @{ $_[0]->{problems} }; }
sub count { return $_[0]->{counts}{ $_[1] } // die "nothing is counted as $_[1]"; }
sub highest { return $_[0]->{highest}; }

sub problem
{
	my ($self, @text) = @_;

	push @{ $self->{problems} }, join ' ', map { $_ // 'NULL' } @text
	  if @{ $self->{problems} } < $DESCRIBED;
	return;
}

=pod

=head2 $history->enter($server, $dbname, from => ..., kept => ..., again => ...)

A place for clients.  Nobody uses it yet, and of those at the former one all have come
to an end.  With "again", it is the same server, that has stopped and started.

Its C<lowest> and C<highest> are those of its fences.  A C<ceiling> can be set, which
they must not reach: where other clients go on at a place whose epoch is a later one.

=cut

sub enter
{
	my ($self, $server, $dbname, %options) = @_;
	my $serial = 'p' . ++$self->{places};
	my $place = {
		server => $server,
		dbname => $dbname,
		serial => $serial,
		floor => $self->{highest},
		ceiling => undef,
		lowest => undef,
		highest => 0,
		calls => [],
		forced => {},
		purged => 0,
	};

	$self->end_prepared($place);
	if (my $from = $options{from})
	{
		$self->leave($from, up => 1) if $from->{server} == $server;
		$place->{floor} = max($from->{floor}, $from->{highest}) if $options{again};
		$place->{ceiling} = $from->{ceiling} if $options{again};
	}
	$server->safe_psql($dbname, $TABLES);
	$self->read_rows($place);
	$self->check_kept($options{from}, $place, $options{kept}) if $options{from};
	$self->make_ready($place);
	push @{ $self->{remembered} }, $place;
	return $place;
}

=pod

=head2 $history->end_prepared($place)

Commit what clients have left prepared.

=cut

sub end_prepared
{
	my ($self, $place) = @_;
	my $server = $place->{server};

	$place->{prepared} =
	  { map { $_ => 1 } split /\n/, $server->safe_psql($place->{dbname}, <<'EOQ') };
SELECT gid FROM pg_prepared_xacts WHERE database = current_database()
EOQ
	$server->safe_psql($place->{dbname}, join "\n", map { "COMMIT PREPARED '$_';" } keys %{ $place->{prepared} })
	  if %{ $place->{prepared} };
	return;
}

# The rows of the locks by their keys, and which transactions have been at them.
sub read_rows
{
	my ($self, $place) = @_;
	my ($snapshot, @lines) = split /\n/, $place->{server}->safe_psql($place->{dbname}, <<'EOQ');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_current_snapshot();
SELECT key, fence, (extract(epoch FROM acquired_at) * 1000000)::bigint,
	(extract(epoch FROM expires_at) * 1000000)::bigint, ttl, coalesce(token, ''), coalesce(owner, '')
FROM distlock.lock;
COMMIT;
EOQ

	@$place{qw(snapshot rows)} = ($snapshot, {});
	for my $line (@lines)
	{
		my ($key, @values) = split /\|/, $line, -1;
		my %row = (key => $key);

		@row{qw(fence acquired_at expires_at ttl token owner)} = @values;
		$_ = $_ eq '' ? undef : $_ for @row{qw(token owner)};
		$place->{rows}{$key} = \%row;
	}
	return;
}

# A worker may be there already.
sub make_ready
{
	my ($self, $place) = @_;
	my $keys = join ', ', map { "('$_', 0)" } sort keys %{ $self->{keys} };

	$place->{server}->safe_psql($place->{dbname}, <<"EOQ");
TRUNCATE work;
INSERT INTO elsewhere VALUES $keys ON CONFLICT DO NOTHING;
EOQ
	$place->{verdict} = DistlockVerdict->new($self, $place);
	return;
}

=pod

=head2 $history->leave($place, up => ...)

All clients have come to an end there.  What the slot has told of it is judged; the
rest too, if the server is up.

=cut

sub leave
{
	my ($self, $place, %options) = @_;
	my $verdict = $place->{verdict};

	$self->{counts}{judged} += $options{up} ? $verdict->read_rest : $verdict->read;
	return;
}

=pod

=head2 $history->mark($place)

What has been acknowledged until now will have to be there.

=cut

sub mark
{
	my ($self, $place) = @_;

	for my $call (@{ $place->{calls} })
	{
		$call->{marked} = 1 if $call->{acknowledged};
		$call->{extending} = 1;    # it may be, later
		$_->{marked} = 1 for grep { $_->{acknowledged} } values %{ $call->{work} };
	}
	return;
}

=pod

=head2 $history->forget_all_but(@places)

Nobody will be at the others any more: their fences are below those of all places to
come, which is checked.  What is known of single calls there is not needed.

=cut

sub forget_all_but
{
	my ($self, @places) = @_;
	my %stay = map { $_->{serial} => 1 } @places;

	for my $place (grep { !$stay{ $_->{serial} } } @{ $self->{remembered} })
	{
		delete @{ $self->{calls} }{ map { $_->{name} } @{ $place->{calls} } };
		delete @{ $self->{fences} }{ map { $_->{fence} // () } @{ $place->{calls} } };
	}
	$self->{remembered} = [ grep { $stay{ $_->{serial} } } @{ $self->{remembered} } ];
	return;
}

=pod

=head2 $history->conclude($run)

Add what was counted to the figures of the run (L<DistlockTorture>), which has failed if
that is too little.

=cut

sub conclude
{
	my ($self, $run) = @_;
	my $counts = $self->{counts};

	$run->worked($counts->{seconds}, grants => $counts->{granted}, refusals => $counts->{refused});
	$run->did_enough;
	cmp_ok($counts->{$_}, '>', 0, "some were $_") for qw(acknowledged shown works judged);
	$run->add(map { $_ => $counts->{$_} }
		  qw(asked granted acknowledged shown works lost ambiguous resolved judged));
	return;
}

# ---------------------------------------------------------------------------
# What clerks write down
# ---------------------------------------------------------------------------

sub note
{
	my ($self, $clerk, $line) = @_;
	my ($what, $name, @more) = split / /, $line;
	my $place = $clerk->{place};
	my $counts = $self->{counts};

	if ($what eq 'ask')
	{
		my %call = (name => $name, place => $place, mode => $clerk->{mode}, since => $clerk->{read_at});

		@call{qw(kind key ttl)} = @more;
		$self->{calls}{$name} = \%call;
		push @{ $place->{calls} }, \%call;
		$counts->{asked}++;
		return;
	}
	return $place->{forced}{$name} = 1 if $what eq 'force';
	return $place->{purged} = 1 if $what eq 'purge';

	my $call = $self->{calls}{$name} or die "$name says \"$line\" without having asked";

	if ($what eq 'shown' || $what eq 'got')
	{
		$self->shown($clerk, $call, $more[0]);
		$call->{acknowledged} = 1 if $what eq 'got';
		$counts->{acknowledged}++ if $what eq 'got';
	}
	elsif ($what eq 'not' || $what eq 'refused')
	{
		$call->{undone} = 1;
		$counts->{refused}++ if $what eq 'refused';
	}
	elsif ($what eq 'prepared')
	{
		$call->{prepared} = 1;
	}
	elsif ($what eq 'extended')
	{
		$call->{until} = $more[0];
		$call->{extending} = 0 unless $call->{marked};
	}
	elsif ($what eq 'do' && $more[0] eq 'work')
	{
		$call->{work}{ $more[1] } = {};
	}
	elsif ($what eq 'do')
	{
		$call->{ $more[0] eq 'extend' ? 'extending' : 'leaving' } = 1;
	}
	elsif ($what eq 'worked')
	{
		$call->{work}{ $more[0] }{acknowledged} = 1;
		$counts->{granted}++ if $call->{kind} eq 'command';
		$counts->{works}++;
	}
	else
	{
		die "nobody says \"$line\"";
	}
	return;
}

sub said
{
	my ($self, $clerk, @errors) = @_;

	for my $error (@errors)
	{
		$self->problem('a client got', $error) unless $EXPECTED{ substr $error, 0, 5 };
	}
	return;
}

# Some have worked for so many seconds.
sub worked_for
{
	my ($self, $seconds) = @_;

	$self->{counts}{seconds} += $seconds;
	return;
}

# A fence came to the eyes of a client.
sub shown
{
	my ($self, $clerk, $call, $fence) = @_;
	my $place = $clerk->{place};

	$self->{counts}{shown}++;
	if (defined $call->{fence})
	{
		$self->problem("$call->{name} was shown $call->{fence}, then $fence")
		  if $call->{fence} != $fence;
		return;
	}
	$self->{counts}{granted}++;
	$self->belongs($call, $fence);
	$self->problem("$call->{name} was shown $fence, after $clerk->{last_fence} in the same session")
	  if $fence <= $clerk->{last_fence};
	$clerk->{last_fence} = $fence;
	return;
}

# A fence was given to a call, as its client or the slot tells.
sub belongs
{
	my ($self, $call, $fence) = @_;
	my $place = $call->{place};

	return if defined $call->{fence} && $call->{fence} == $fence;
	$self->problem("$call->{name} has the fences $call->{fence} and $fence") if defined $call->{fence};
	$self->problem("the fence $fence of $call->{name} was given to $self->{fences}{$fence}")
	  if defined $self->{fences}{$fence};
	$self->problem("$call->{name} got the fence $fence, not above $place->{floor}")
	  if $fence <= $place->{floor};
	$self->problem("$call->{name} got the fence $fence, not below $place->{ceiling}")
	  if defined $place->{ceiling} && $fence >= $place->{ceiling};
	$self->{fences}{$fence} = $call->{name};
	$call->{fence} = $fence;
	$place->{highest} = $fence if $fence > $place->{highest};
	$place->{lowest} = $fence if !defined $place->{lowest} || $fence < $place->{lowest};
	$self->{highest} = $fence if $fence > $self->{highest};
	return;
}

# ---------------------------------------------------------------------------
# What has come along
# ---------------------------------------------------------------------------

sub check_kept
{
	my ($self, $from, $to, $kept) = @_;
	my $rows = $to->{rows};
	my %works = map { $_ => 1 } split /\n/,
	  $to->{server}->safe_psql($to->{dbname}, 'SELECT work FROM work');

	if ($kept eq 'nothing')
	{
		$self->problem('after', $to->{serial}, 'was restored there are locks') if %$rows;
		return;
	}
	for my $key (keys %{ $from->{rows} })
	{
		my $before = $from->{rows}{$key};

		next if !defined $rows->{$key} && $from->{purged};
		$self->problem("$to->{serial}: the lock \"$key\" had the fence $before->{fence}, now",
			$rows->{$key}{fence})
		  if ($rows->{$key}{fence} // -1) < $before->{fence};
	}
	$self->check_call($_, $to, $kept, \%works) for @{ $from->{calls} };
	return;
}

# Must what was acknowledged be there?
sub is_promised
{
	my ($call, $what, $kept) = @_;

	return 0 unless $what->{acknowledged};
	return 1 if $kept eq 'all';
	return $what->{marked} if $kept eq 'marked';
	return $kept eq 'synchronous' && $call->{mode} =~ /^(?:on|remote_apply)$/;
}

sub check_call
{
	my ($self, $call, $to, $kept, $works) = @_;
	my $counts = $self->{counts};

	if ($call->{kind} =~ /^(?:lease|work|prepare)$/)
	{
		$self->check_grant($call, $to, is_promised($call, $call, $kept));
	}
	for my $name (keys %{ $call->{work} })
	{
		my $work = $call->{work}{$name};
		my $there = $works->{$name};

		# What clients do with synchronous_commit off is for them to lose.
		$self->problem("$to->{serial}: the work $name has gone")
		  if !$there && is_promised($call, $work, $kept) && $call->{mode} ne 'off';
		$counts->{ambiguous}++ unless $work->{acknowledged} || $call->{undone};
		$counts->{resolved}++ if !$work->{acknowledged} && $there;
	}
	return;
}

sub check_grant
{
	my ($self, $call, $to, $promised) = @_;
	my $row = $to->{rows}{ $call->{key} };
	my $counts = $self->{counts};
	my $what = "$to->{serial}: $call->{name} of \"$call->{key}\", fence " . ($call->{fence} // 'unknown');

	# What was prepared was committed there if it was there.
	if ($to->{prepared}{ $call->{name} })
	{
		$self->problem("$what: was prepared and committed, and is not there")
		  unless defined $row && defined $call->{fence} && $row->{fence} == $call->{fence};
		$counts->{resolved}++;
		return;
	}

	if (!$call->{acknowledged})
	{
		my $there = defined $row && defined $row->{owner} && $row->{owner} eq $call->{name};

		$counts->{ambiguous}++ unless $call->{undone};
		return unless $there;
		$self->problem("$what: is there, and was refused or undone") if $call->{undone};
		$counts->{resolved}++;
		$self->belongs($call, $row->{fence});
		return;
	}
	if (!defined $row || $row->{fence} < $call->{fence})
	{
		$counts->{lost}++ unless !defined $row && $call->{place}{purged};
		$self->problem("$what: has gone; the row has the fence", defined $row ? $row->{fence} : 'of none')
		  if $promised && !$self->may_be_purged($call, $row);
		return;
	}
	return if $row->{fence} > $call->{fence};

	if (defined $row->{token})
	{
		$self->problem("$what: is held by $row->{token}, $row->{owner}")
		  if $row->{token} ne $call->{name} || $row->{owner} ne $call->{name};
		$self->problem("$what: was extended to $call->{until}, not to $row->{expires_at}")
		  if $promised && defined $call->{until} && !$call->{extending} && $call->{until} != $row->{expires_at};
	}
	else
	{
		$self->problem("$what: is free, and nobody has let go of it")
		  if $promised && !$call->{leaving} && !$call->{place}{forced}{ $call->{key} } && !$self->is_over($call);
	}
	return;
}

# Only what has ended can be taken away.
sub may_be_purged
{
	my ($self, $call, $row) = @_;

	return !defined $row && $call->{place}{purged}
	  && ($call->{leaving} || $call->{place}{forced}{ $call->{key} } || $self->is_over($call));
}

# The lease may have come to its end; of a clock that was set this is not known.
sub is_over
{
	my ($self, $call) = @_;

	return $self->{clock} || time >= $call->{since} + $call->{ttl} / 1000;
}

1;
