
=pod

=head1 NAME

DistlockVerdict - judge what was committed at one place of a history

=head1 DESCRIPTION

A logical decoding slot reports what is committed in the database, in the order of
the commits.  pg_recvlogical fetches it at once, so that little is missing when the
server dies and stays dead; of a server that is up, the rest is read at the end.

The judge begins with the rows that are there.  Unlike L<DistlockJudge>, it knows
from the history who has asked for what, and what was said before at other places:

  - A lock is granted only when the lease before it was released or forced, or has
    expired by the clock read for this grant.
  - Fences of a key grow, and are those that clients were shown.
  - A lease is extended while it is held, released by its client only, and the row
    of a held lock is not deleted.
  - Rows of the table "work" are written under a guard or a lock: their fences do not
    go down, and none is below that of a grant that was committed before.
  - Nor do those of the table "elsewhere", to which clients without a guard write.

With a clock (a function that gets key and microseconds, and returns what is wrong
with that), the moments of grants, extends and releases have to be times that it showed,
in the order of the commits; and since it may have been set back, the end of a lease
that has been released says nothing.

=cut

package DistlockVerdict;

use strict;
use warnings;

use DistlockJudge;
use POSIX ();

=pod

=head1 METHODS

=head2 DistlockVerdict->new($history, $place)

Makes the slot.  Nobody is at work there yet.

=cut

sub new
{
	my ($class, $history, $place) = @_;
	my $server = $place->{server};
	my $slot = "judge_$place->{serial}";

	$server->safe_psql($place->{dbname},
		"SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')");
	# Between the two, transactions can come to an end.
	$history->read_rows($place);

	my $self = $class->without_slot($history, $place);

	@$self{qw(server slot)} = ($server, $slot);
	$self->{file} = $server->node->basedir . "/changes_$place->{serial}";
	$self->{pid} = $self->receive;
	return $self;
}

# It is told of changes in other ways.
sub without_slot
{
	my ($class, $history, $place) = @_;
	my $rows = $place->{rows};

	return bless {
		history => $history,
		place => $place,
		clock => $history->{clock},
		rows => {%$rows},
		work => { map { $_ => $rows->{$_}{fence} } keys %$rows },
		elsewhere => {},
		highest => {},
		seen => {},    # transactions
	}, $class;
}

sub receive
{
	my ($self) = @_;
	my $node = $self->{server}->node;
	my @command = ($node->installed_command('pg_recvlogical'), '--start', '--no-loop',
		'--slot', $self->{slot}, '-d', $node->connstr($self->{place}{dbname}),
		'-o', 'skip-empty-xacts=on', '-f', $self->{file});
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	open STDERR, '>', '/dev/null' or POSIX::_exit(1);
	exec @command or POSIX::_exit(1);
}

=pod

=head2 $verdict->read

Judge what was received; the server has gone.  Returns how many changes that were.

=head2 $verdict->read_rest

The server is up, or is up again: stop receiving, and judge the rest too.

=cut

sub read
{
	my ($self) = @_;

	if ($self->{pid})
	{
		kill 'INT', $self->{pid};
		waitpid $self->{pid}, 0;
		$self->{pid} = 0;
	}
	return $self->judge_file;
}

sub read_rest
{
	my ($self) = @_;
	my $count = $self->read;

	return $count if $self->{ended};
	$self->{ended} = 1;

	my ($server, $dbname) = ($self->{server}, $self->{place}{dbname});

	# It may have stayed active for a moment.
	$server->await("end of $self->{slot}", $dbname,
		"SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = '$self->{slot}' AND active");
	$server->safe_psql($dbname, <<"EOQ");
\\o $self->{file}
SELECT data FROM pg_logical_slot_get_changes('$self->{slot}', NULL, NULL, 'skip-empty-xacts', 'on');
\\o
SELECT pg_drop_replication_slot('$self->{slot}') \\g /dev/null
EOQ
	return $count + $self->judge_file;
}

# A transaction may come again, after it was received in part or in whole.
sub judge_file
{
	my ($self) = @_;
	my ($count, $xid, @lines) = (0, 0);

	open my $changes, '<', $self->{file} or return 0;
	while (my $line = <$changes>)
	{
		chomp $line;
		if ($line =~ /^BEGIN (\d+)/)
		{
			($xid, @lines) = ($1);
		}
		elsif ($line =~ /^COMMIT (\d+)/)
		{
			next if $self->{seen}{$1}++ || $1 != $xid || $self->is_in_rows($1);
			$self->change($_) for @lines;
			$count += @lines;
			@lines = ();
		}
		else
		{
			push @lines, $line;
		}
	}
	close $changes;
	unlink $self->{file};
	return $count;
}

# Had it come to an end when the rows were read?
sub is_in_rows
{
	my ($self, $xid) = @_;
	my ($xmin, $xmax, $running) = split /:/, $self->{place}{snapshot};

	return $xid < $xmin || ($xid < $xmax && !grep { $_ == $xid } split /,/, $running // '');
}

# ---------------------------------------------------------------------------
# Changes
# ---------------------------------------------------------------------------

sub change
{
	my ($self, $line) = @_;

	return unless $line =~ /^table (distlock\.lock|public\.\w+): (INSERT|UPDATE|DELETE): (.*)/;
	my ($table, $what, $columns) = ($1, $2, $3);

	return $self->worked($columns) if $table eq 'public.work' && $what eq 'INSERT';
	return $self->written($columns) if $table eq 'public.elsewhere' && $what ne 'DELETE';
	return unless $table eq 'distlock.lock';

	my $row = DistlockJudge::parse_row($columns);
	my $before = $self->{rows}{ $row->{key} };

	return $self->deleted($before, $row) if $what eq 'DELETE';
	if (!defined $row->{token})
	{
		$self->freed($before, $row, $columns =~ /scope\["char"\]:'t'/);
	}
	elsif (defined $before && ($before->{token} // '') eq $row->{token} && $before->{fence} == $row->{fence})
	{
		$self->extended($before, $row);
	}
	else
	{
		$self->granted($before, $row);
	}
	$self->{rows}{ $row->{key} } = $row;
	$self->{highest}{ $row->{key} } = $row->{fence};
	return;
}

sub granted
{
	my ($self, $before, $row) = @_;
	my $key = $row->{key};
	my $name = $row->{owner} // 'nobody';
	my $call = $self->{history}{calls}{$name};
	my $end = defined $before && !($self->{clock} && !defined $before->{token}) ? $before->{expires_at} : 0;

	$self->wrong('granted while held', $before, $row) if $end > $row->{acquired_at};
	$self->wrong("fence not above $self->{highest}{$key}", $before, $row)
	  if defined $self->{highest}{$key} && $row->{fence} <= $self->{highest}{$key};
	$self->wrong('fence not above the one before', $before, $row)
	  if defined $before && $row->{fence} <= $before->{fence};
	$self->wrong('expiry is not grant plus ttl', $before, $row)
	  if $row->{acquired_at} + $row->{ttl} != $row->{expires_at};
	$self->moment('grant', $before, $row, $row->{acquired_at});

	# Others than clerks may use other keys.
	return unless $self->{history}{keys}{$key};
	return $self->wrong('granted to who has not asked', $before, $row)
	  unless $call && $call->{key} eq $key && $row->{token} eq $name;
	$self->{history}->belongs($call, $row->{fence});
	return;
}

# A guard writes the row without changing it.
sub extended
{
	my ($self, $before, $row) = @_;
	my $moment = $row->{expires_at} - $row->{ttl};

	$self->wrong('extend changed acquired_at', $before, $row) if $row->{acquired_at} != $before->{acquired_at};
	return if $row->{expires_at} == $before->{expires_at};
	$self->wrong('extended after it had expired', $before, $row) if $moment >= $before->{expires_at};
	$self->moment('extend', $before, $row, $moment);
	return;
}

sub freed
{
	my ($self, $before, $row, $by_transaction) = @_;

	$self->wrong('fence below the one before', $before, $row)
	  if defined $before && $row->{fence} < $before->{fence};
	if (!defined $before || !defined $before->{token})
	{
		$self->wrong('released when free', $before, $row) unless $by_transaction;
	}
	elsif ($by_transaction)
	{
		$self->wrong('locked by a transaction while held', $before, $row)
		  if $row->{expires_at} != $before->{expires_at} && !$self->{clock};
	}
	elsif ($row->{fence} != $before->{fence})
	{
		$self->wrong('forced by nobody', $before, $row) unless $self->{place}{forced}{ $row->{key} };
	}
	elsif ($row->{expires_at} == $before->{expires_at})
	{
		$self->lapsed($before, $row);
	}
	else
	{
		my $call = $self->{history}{calls}{ $before->{owner} // '' };

		$self->wrong('released by who has not asked', $before, $row)
		  if $self->{history}{keys}{ $row->{key} } && !($call && $call->{leaving});
		$self->wrong('released after it had expired', $before, $row)
		  if $row->{expires_at} > $before->{expires_at};
		$self->wrong('released before it was granted', $before, $row)
		  if $row->{expires_at} < $before->{acquired_at} && !$self->{clock};
		$self->moment('release', $before, $row, $row->{expires_at});
	}
	return;
}

# Freed because it had expired
sub lapsed
{
	my ($self, $before, $row) = @_;
	my $now = $self->{clock} ? $self->{clock}->() : time * 1_000_000 + 1_000_000;

	$self->wrong('freed before it had expired', $before, $row) if $row->{expires_at} > $now;
	return;
}

sub deleted
{
	my ($self, $before, $row) = @_;

	$self->wrong('deleted while not free', $before, $row) if !defined $before || defined $before->{token};
	delete $self->{rows}{ $row->{key} };
	return;
}

sub worked
{
	my ($self, $columns) = @_;
	my $row = DistlockJudge::parse_row($columns);
	my ($key, $fence) = @$row{qw(key fence)};
	my $call = $self->{history}{calls}{ $row->{work} =~ s/w\d+$//r };
	my $lock = $self->{rows}{$key};

	return $self->wrong('work of who has not asked', $lock, $row) unless $call;
	$self->{history}->belongs($call, $fence);
	$self->wrong("work after that of fence $self->{work}{$key}", $lock, $row)
	  if defined $self->{work}{$key} && $fence < $self->{work}{$key};
	$self->wrong('work under a lock that another one has', $lock, $row)
	  if defined $lock && $fence < $lock->{fence};
	$self->{work}{$key} = $fence;
	return;
}

sub written
{
	my ($self, $columns) = @_;
	my $row = DistlockJudge::parse_row($columns);
	my $key = $row->{key};

	$self->wrong("written after fence $self->{elsewhere}{$key}", undef, $row)
	  if $row->{fence} < ($self->{elsewhere}{$key} // 0);
	$self->{elsewhere}{$key} = $row->{fence};
	return;
}

# Was it that time at all?
sub moment
{
	my ($self, $what, $before, $row, $microseconds) = @_;

	return unless $self->{clock};
	my $trouble = $self->{clock}->($row->{key}, $microseconds);
	$self->wrong("$what at a time that was not: $trouble", $before, $row) if defined $trouble;
	return;
}

sub wrong
{
	my ($self, $what, $before, $row) = @_;

	$self->{history}->problem("$self->{place}{serial}: $what: before", describe($before), 'after', describe($row));
	return;
}

sub describe
{
	my ($row) = @_;

	return 'no row' unless defined $row;
	return '(' . join(' ', map { "$_=" . ($row->{$_} // 'NULL') } sort keys %$row) . ')';
}

1;
