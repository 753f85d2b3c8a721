
=pod

=head1 NAME

DistlockJudge - find out from the changes of a lock table whether any lock was
held twice

=head1 SYNOPSIS

  my $judge = DistlockJudge->new(table => 'distlock.lock',
      forced => 'forced', own_token => 'own token');
  $judge->start($node, 'slot');     # before the first change
  ...
  $judge->read_changes;             # as often as one likes
  is_deeply([ $judge->violations ], [], 'no lock was held twice');
  note $judge->summary;

=head1 DESCRIPTION

A logical decoding slot reports all changes of the table in the order of the
commits, which no client can.  The judge knows nothing of how locks work inside;
it knows the columns of the table, and what promises follow from them:

  overlaps           a lock was granted while another grant was in force, that
                     is, before the moment it was released or had expired
  fence_regressions  a grant's fence is not greater than every earlier one of
                     that key, or than the one that a forced release left
  reused_tokens      a generated token was given out twice
  late_extends       a lease was extended when it was not held any more, or was
                     another's
  late_releases      a lock was released when it was not held any more
  wrong_deletes      the row of a lock that was not free was deleted
  misstatements      the row contradicts itself: expires_at is not acquired_at
                     plus ttl after a grant, a row appears twice or from nowhere

Two things cannot be seen in a row, so the clients have to say them by the owner
of the grant: "forced" tells that the lock was taken over by force, "own_token"
that the token was not generated.  A release that raises the fence was forced.

A lease may expire before the transaction that acquired it commits; nobody else
can have got it in between, so that needs no special treatment.

=cut

package DistlockJudge;

use strict;
use warnings;

use Time::Local qw(timegm);

# What is counted, in the order of the summary.
my @EVENTS = qw(grants takeovers extends releases forced_releases lapses
  deletes);
my @VIOLATIONS = qw(overlaps fence_regressions reused_tokens late_extends
  late_releases wrong_deletes misstatements);

# Descriptions of so many violations are kept.
my $DESCRIBED = 20;

=pod

=head1 METHODS

=head2 DistlockJudge->new(table => ..., forced => ..., own_token => ...)

=cut

sub new
{
	my ($class, %options) = @_;

	my $self = bless {
		table => $options{table},
		forced => $options{forced} // '',
		own_token => $options{own_token} // '',
		rows => {},           # by key: the row as last committed
		highest => {},        # by key: the highest fence ever
		tokens => {},         # generated ones seen
		granted => {},        # by fence: the key
		counts => { map { $_ => 0 } @EVENTS, @VIOLATIONS },
		described => [],
	}, $class;
	return $self;
}

=pod

=head2 $judge->start($node, $slot)

Make the slot.  All that is changed from now on will be judged.

=cut

sub start
{
	my ($self, $node, $slot) = @_;

	$self->{node} = $node;
	$self->{slot} = $slot;
	$node->safe_psql('postgres',
		"SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')");
	return;
}

=pod

=head2 $judge->read_changes

Judge what was committed since the last call.  Returns how many changes of the
table there were.

=cut

sub read_changes
{
	my ($self) = @_;

	my $node = $self->{node};
	my $file = $node->basedir . "/changes_$self->{slot}";
	my $count = 0;

	# By a file, because it can be a lot.
	$node->safe_psql('postgres', qq{
		SET timezone = 'UTC';
		SET datestyle = 'ISO';
		\\o $file
		SELECT data FROM pg_logical_slot_get_changes('$self->{slot}', NULL, NULL,
			'include-timestamp', 'on', 'skip-empty-xacts', 'on')});

	open my $changes, '<', $file or die "could not read $file: $!";
	while (my $line = <$changes>)
	{
		$count += $self->change($line);
	}
	close $changes;
	unlink $file;
	return $count;
}

=pod

=head2 $judge->count($what)

How often something has happened or was violated.  C<grants> are all of them,
C<takeovers> those of them that ended another by force; C<lapses> are expired
leases whose row was freed later by purge.

=cut

sub count
{
	my ($self, $what) = @_;

	die "nothing is counted as $what" unless exists $self->{counts}{$what};
	return $self->{counts}{$what};
}

=pod

=head2 $judge->violations

The names of the rules that were broken.

=cut

sub violations
{
	my ($self) = @_;

	return grep { $self->{counts}{$_} > 0 } @VIOLATIONS;
}

=pod

=head2 $judge->summary, $judge->evidence

All counts in a line; the first violations in full.

=cut

sub summary
{
	my ($self) = @_;

	return join(', ',
		map { my $name = $_; $name =~ tr/_/ /; "$self->{counts}{$_} $name" }
		  (@EVENTS, @VIOLATIONS));
}

sub evidence
{
	my ($self) = @_;

	return join("\n", @{ $self->{described} });
}

=pod

=head2 $judge->change($line)

Judge a line of test_decoding's output.  Returns whether it was a change of the
table.

=cut

sub change
{
	my ($self, $line) = @_;

	if ($line =~ /^BEGIN (\d+)/)
	{
		$self->{xid} = $1;
		return 0;
	}
	return 0
	  unless $line =~ /^table \Q$self->{table}\E: (INSERT|UPDATE|DELETE): (.*)/s;
	my ($what, $row) = ($1, parse_row($2));
	my $before = $self->{rows}{ $row->{key} };

	if ($what eq 'DELETE')
	{
		$self->deleted($row->{key}, $before);
		return 1;
	}

	$row->{xid} = $self->{xid};
	$self->violation('misstatements', "$what of a row that is there", $before, $row)
	  if $what eq 'INSERT' && defined $before;
	$self->violation('misstatements', "$what of a row that is not there", $before, $row)
	  if $what eq 'UPDATE' && !defined $before;

	if (!defined $row->{token})
	{
		$self->freed($before, $row);
	}
	elsif (defined $before
		&& defined $before->{token}
		&& $before->{token} eq $row->{token}
		&& $before->{fence} == $row->{fence})
	{
		$self->extended($before, $row);
	}
	else
	{
		$self->granted($before, $row);
	}
	$self->{rows}{ $row->{key} } = $row;
	return 1;
}

sub granted
{
	my ($self, $before, $row) = @_;
	my $counts = $self->{counts};
	my $owner = $row->{owner} // '';

	$counts->{grants}++;

	# Of a free row, expires_at is when it was released.
	if (defined $before && $before->{expires_at} > $row->{acquired_at})
	{
		if (defined $before->{token} && $owner ne '' && $owner eq $self->{forced})
		{
			$counts->{takeovers}++;
		}
		else
		{
			$self->violation('overlaps', 'granted while held', $before, $row);
		}
	}

	$self->raised($before, $row);
	$self->violation('misstatements', 'expiry is not grant plus ttl', $before, $row)
	  if $row->{acquired_at} + $row->{ttl} != $row->{expires_at};

	if ($owner eq '' || $owner ne $self->{own_token})
	{
		$self->violation('reused_tokens', 'token given out before', $before, $row)
		  if exists $self->{tokens}{ $row->{token} };
		$self->{tokens}{ $row->{token} } = 1;
	}
	return;
}

# The fence has moved on.
sub raised
{
	my ($self, $before, $row) = @_;
	my $highest = $self->{highest}{ $row->{key} };

	if (defined $highest && $row->{fence} <= $highest)
	{
		$self->violation('fence_regressions',
			"fence not above $highest", $before, $row);
	}
	elsif (exists $self->{granted}{ $row->{fence} })
	{
		$self->violation('fence_regressions',
			"fence already used for $self->{granted}{ $row->{fence} }",
			$before, $row);
	}
	else
	{
		$self->{highest}{ $row->{key} } = $row->{fence};
	}
	$self->{granted}{ $row->{fence} } = $row->{key};
	return;
}

# When a lease is extended, it expires ttl from then: that tells the moment.
sub extended
{
	my ($self, $before, $row) = @_;
	my $moment = $row->{expires_at} - $row->{ttl};

	$self->{counts}{extends}++;
	$self->violation('late_extends', 'extended after it had expired', $before, $row)
	  if $moment >= $before->{expires_at};
	$self->violation('misstatements', 'extend changed acquired_at', $before, $row)
	  if $row->{acquired_at} != $before->{acquired_at};
	return;
}

sub freed
{
	my ($self, $before, $row) = @_;
	my $counts = $self->{counts};

	if (!defined $before || !defined $before->{token})
	{
		$self->violation('late_releases', 'released when free', $before, $row);
	}
	elsif ($row->{fence} != $before->{fence})
	{
		$counts->{forced_releases}++;
		$self->raised($before, $row);
	}
	elsif ($row->{expires_at} == $before->{expires_at})
	{
		$counts->{lapses}++;
	}
	else
	{
		$counts->{releases}++;
		$self->violation('late_releases', 'released after it had expired', $before, $row)
		  if $row->{expires_at} > $before->{expires_at};
		$self->violation('late_releases', 'released before it was granted', $before, $row)
		  if $row->{expires_at} < $before->{acquired_at};
	}
	return;
}

sub deleted
{
	my ($self, $key, $before) = @_;

	$self->{counts}{deletes}++;
	if (!defined $before)
	{
		$self->violation('misstatements', 'DELETE of a row that is not there',
			undef, { key => $key, xid => $self->{xid} });
	}
	elsif (defined $before->{token})
	{
		$self->violation('wrong_deletes', 'deleted while not free',
			$before, { key => $key, xid => $self->{xid} });
	}
	delete $self->{rows}{$key};
	return;
}

sub violation
{
	my ($self, $name, $what, $before, $row) = @_;

	$self->{counts}{$name}++;
	return if @{ $self->{described} } >= $DESCRIBED;
	push @{ $self->{described} },
	  "$name: $what\n  before: " . describe($before) . "\n  after:  " . describe($row);
	return;
}

sub describe
{
	my ($row) = @_;

	return 'no row' unless defined $row;
	return join ' ', map { "$_=" . ($row->{$_} // 'NULL') } sort keys %$row;
}

=pod

=head2 parse_row($columns)

The columns that matter, from C<name[type]:value name[type]:value...>; times in
microseconds.

=cut

sub parse_row
{
	my ($columns) = @_;
	my %row;

	while ($columns =~ /\G(\w+)\[[^\]]*\]:(?:'((?:[^']|'')*)'|(\S+))\s*/gc)
	{
		my ($name, $quoted, $plain) = ($1, $2, $3);

		if (defined $quoted)
		{
			$quoted =~ s/''/'/g;
			$quoted = microseconds($quoted) if $name =~ /_at$/;
			$row{$name} = $quoted;
		}
		else
		{
			$row{$name} = $plain eq 'null' ? undef : $plain;
		}
	}
	die "cannot read \"" . substr($columns, pos($columns) // 0) . "\""
	  if (pos($columns) // 0) < length($columns) || !defined $row{key};
	delete @row{qw(role permit scope data)};
	return \%row;
}

sub microseconds
{
	my ($timestamp) = @_;

	$timestamp =~ /^(\d+)-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?\+00$/
	  or die "cannot read the time \"$timestamp\"";
	return timegm($6, $5, $4, $3, $2 - 1, $1) * 1_000_000 +
	  substr(($7 // '') . '000000', 0, 6);
}

1;
