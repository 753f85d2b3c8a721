
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
  early_lapses       a lease was ended by others before it had expired, by the
                     time of the commit
  stale_works        a line was written into the ledger that is not the one after
                     the last: its writer did not see that
  late_works         a line was written with a lower fence than the one before

Two things cannot be seen in a row, so the clients have to say them by the owner
of the grant: "forced" tells that the lock was taken over by force, "own_token"
that the token may come again.  Either is a string or a pattern.  A release that
raises the fence was forced.

A lock of scope transaction writes no row when it is granted; the transaction
touches the row, free, at its end.

Whether a session lives cannot be seen either: that a lock of its scope was granted
to somebody else is counted as an ended session.  Who worked when tell the ledger,
and what the clients know themselves (L<DistlockWitness>).

The ledger is a table with the columns key, line and fence, if the clients have
one.

A lease may expire before the transaction that acquired it commits; nobody else
can have got it in between, so that needs no special treatment.

=cut

package DistlockJudge;

use strict;
use warnings;

use Time::Local qw(timegm);

# What is counted, in the order of the summary.
my @EVENTS = qw(grants takeovers extends releases forced_releases lapses
  deletes touches ended_sessions lapsed_takeovers works);
my @VIOLATIONS = qw(overlaps fence_regressions reused_tokens late_extends
  late_releases wrong_deletes misstatements early_lapses stale_works late_works);

# Descriptions of so many violations are kept.
my $DESCRIBED = 20;

=pod

=head1 METHODS

=head2 DistlockJudge->new(table => ..., forced => ..., own_token => ..., ledger => ..., keys => qr/.../)

The ledger is the name of a table, with its schema.  Locks of other keys, if a pattern is
given, are somebody else's to judge.

=cut

sub new
{
	my ($class, %options) = @_;

	my $self = bless {
		table => $options{table},
		forced => pattern($options{forced}),
		own_token => pattern($options{own_token}),
		ledger => $options{ledger} // '',
		keys => $options{keys} // qr/^/,
		pattern => undef,
		rows => {},           # by key: the row as last committed
		lines => {},          # by key: the last line of the ledger and its fence
		position => 0,        # the end of the last commit that was judged
		skip => 0,            # the transaction was judged before
		pending => [],        # ends to compare with the time of the commit
		seen => new_sight(),
		highest => {},        # by key: the highest fence ever
		tokens => {},         # generated ones seen
		granted => {},        # by fence: the key
		counts => { map { $_ => 0 } @EVENTS, @VIOLATIONS },
		described => [],
	}, $class;
	return $self;
}

sub pattern
{
	my ($owner) = @_;

	return qr/(?!)/ if !defined $owner || $owner eq '';
	return ref $owner ? $owner : qr/^\Q$owner\E$/;
}

sub new_sight
{
	return { grants => {}, extended => {}, released => {}, taken => {}, works => {} };
}

=pod

=head2 $judge->start($node, $slot)

Make the slot.  All that is changed from now on will be judged.  Of another server
that has taken over, what is known of the keys stays: the table has to agree with
it, but for releases, which need not be durable.

=cut

sub start
{
	my ($self, $node, $slot) = @_;

	$self->{node} = $node;
	$self->{slot} = $slot;
	$self->{position} = 0;
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

	# Releases need not be flushed when they commit, and the slot has only what was;
	# the message is a commit that is.  By a file, because it can be a lot.
	$node->safe_psql('postgres', qq{
		SET synchronous_commit = local;
		SELECT pg_logical_emit_message(true, 'judge', '');
		SET timezone = 'UTC';
		SET datestyle = 'ISO';
		\\pset fieldsep ' '
		\\o $file
		SELECT lsn - '0/0'::pg_lsn, data FROM pg_logical_slot_get_changes('$self->{slot}', NULL, NULL,
			'include-timestamp', 'on', 'skip-empty-xacts', 'on')});

	# A commit has the position of its end.  After a crash, what was read since the
	# last checkpoint comes again.
	my @transaction;
	open my $changes, '<', $file or die "could not read $file: $!";
	while (my $line = <$changes>)
	{
		$line =~ s/^(\d+) // or die "cannot read \"$line\"";
		my $position = $1;

		push @transaction, $line;
		next unless $line =~ /^COMMIT /;
		if ($position > $self->{position})
		{
			$self->{position} = $position;
			$count += $self->change($_) foreach @transaction;
		}
		@transaction = ();
	}
	close $changes;
	unlink $file;
	return $count;
}

=pod

=head2 $judge->count($what)

How often something has happened or was violated.  C<grants> are all of them,
C<takeovers> those of them that ended another by force; C<lapsed_takeovers> those whose lock had
expired in other hands; C<lapses> are expired leases whose row was freed.

=cut

sub count
{
	my ($self, $what) = @_;

	die "nothing is counted as $what" unless exists $self->{counts}{$what};
	return $self->{counts}{$what};
}

=pod

=head2 $judge->take_sight

What was seen since the last call, for others to compare with what they know:
hashes by the name of what was committed: C<grants> by owner, with key, token and
fence; C<extended>, C<released> and C<taken> (by force) by token; C<works> by the
owner of the line.

=cut

sub take_sight
{
	my ($self) = @_;
	my $seen = $self->{seen};

	$self->{seen} = new_sight();
	return $seen;
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
	if (@{ $self->{pending} } && $line =~ /^COMMIT \d+ \(at ([^)]+)\)/)
	{
		$self->lapsed(microseconds($1));
		return 0;
	}
	$self->{pattern} //= qr/^table (\Q$self->{table}\E|\Q$self->{ledger}\E): (INSERT|UPDATE|DELETE): (.*)/s;
	return 0 unless $line =~ $self->{pattern};
	my ($table, $what, $columns) = ($1, $2, $3);
	my $row = parse_row($columns);

	if ($table ne $self->{table})
	{
		$self->worked($row) if $what eq 'INSERT';
		return 0;
	}
	return 0 if $row->{key} !~ $self->{keys};
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
		$self->{seen}{extended}{ $row->{token} } = 1;
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
	$self->{seen}{grants}{$owner} = $row if $owner ne '';

	# Of a free row, expires_at is when it was released.
	if (defined $before && $before->{expires_at} > $row->{acquired_at})
	{
		if (defined $before->{token} && $owner =~ $self->{forced})
		{
			$counts->{takeovers}++;
			$self->{seen}{taken}{ $before->{token} } = 1;
		}
		elsif (defined $before->{token} && $before->{scope} eq 's')
		{
			$counts->{ended_sessions}++;
		}
		else
		{
			$self->violation('overlaps', 'granted while held', $before, $row);
		}
	}

	elsif (defined $before && defined $before->{token})
	{
		$counts->{lapsed_takeovers}++;
	}

	$self->raised($before, $row);
	$self->violation('misstatements', 'expiry is not grant plus ttl', $before, $row)
	  if $row->{expires_at} != ($row->{scope} eq 's' ? 'inf' : $row->{acquired_at} + $row->{ttl});

	if ($owner !~ $self->{own_token})
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
	$self->violation('misstatements', 'an extend changed the scope', $before, $row)
	  if $row->{scope} ne $before->{scope};
	return if $row->{scope} eq 's';
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

	if ($row->{scope} eq 't')
	{
		$self->touched($before, $row);
	}
	elsif (!defined $before || !defined $before->{token})
	{
		$self->violation('late_releases', 'released when free', $before, $row);
	}
	elsif ($row->{fence} != $before->{fence})
	{
		$counts->{forced_releases}++;
		$self->{seen}{taken}{ $before->{token} } = 1;
		$self->raised($before, $row);
	}
	elsif ($row->{expires_at} == $before->{expires_at})
	{
		$counts->{lapses}++;
		push @{ $self->{pending} }, [ $before, $row ] if $before->{scope} ne 's';
	}
	else
	{
		$counts->{releases}++;
		$self->{seen}{released}{ $before->{token} } = $before->{scope};
		$self->violation('late_releases', 'released after it had expired', $before, $row)
		  if $row->{expires_at} > $before->{expires_at};
		$self->violation('late_releases', 'released before it was granted', $before, $row)
		  if $row->{expires_at} < $before->{acquired_at};
	}
	return;
}

# Held by a transaction until now: nobody else can have held it at its end.
sub touched
{
	my ($self, $before, $row) = @_;

	$self->{counts}{touches}++;
	# Who asks for no fence gets none.
	$self->raised($before, $row)
	  if $row->{fence} != (defined $before ? $before->{fence} : 0);
	return if !defined $before || !defined $before->{token};
	if ($before->{scope} eq 's')
	{
		$self->{counts}{ended_sessions}++;
	}
	else
	{
		push @{ $self->{pending} }, [ $before, $row ];
	}
	return;
}

# Those which the transaction ended had to be over when it committed.
sub lapsed
{
	my ($self, $moment) = @_;

	foreach my $pending (@{ $self->{pending} })
	{
		my ($before, $row) = @$pending;

		$self->violation('early_lapses', "ended at $moment", $before, $row)
		  if $moment < $before->{expires_at};
	}
	$self->{pending} = [];
	return;
}

# A line of the ledger.
sub worked
{
	my ($self, $row) = @_;
	my $before = $self->{lines}{ $row->{key} };

	$self->{counts}{works}++;
	$self->{seen}{works}{ $row->{owner} } = 1 if defined $row->{owner};
	$self->violation('stale_works', 'not the next line', $before, $row)
	  if $row->{line} != (defined $before ? $before->{line} : 0) + 1;
	$self->violation('late_works', 'a lower fence', $before, $row)
	  if defined $before && $row->{fence} < $before->{fence};
	$self->{lines}{ $row->{key} } = $row;
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

# A row of the lock table without quotes in its texts
my $LOCK_ROW = qr/^fence\[bigint\]:(\d+)\ acquired_at\[[^\]]*\]:'([^']*)'\ expires_at\[[^\]]*\]:'([^']*)'
	\ ttl\[bigint\]:(\d+)\ pid\[integer\]:\d+\ role\[oid\]:\d+\ permit\[smallint\]:(\d+)
	\ scope\["char"\]:'(.)'\ key\[text\]:'([^']*)'\ token\[text\]:(?:null|'([^']*)')
	\ owner\[text\]:(?:null|'([^']*)')\ data\[text\]:null\ incarnation\[/x;

=pod

=head2 parse_row($columns)

The columns that matter, from C<name[type]:value name[type]:value...>; times in
microseconds.

=cut

sub parse_row
{
	my ($columns) = @_;
	my %row;

	# Most of what there is to read: the columns of the lock table, in their order
	if ($columns =~ $LOCK_ROW)
	{
		@row{qw(fence acquired_at expires_at ttl permit scope key token owner)} =
		  ($1, microseconds($2), microseconds($3), $4, $5, $6, $7, $8, $9);
		return \%row;
	}
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
	delete @row{qw(role permit data incarnation pid)};
	return \%row;
}

# Minutes that were converted before; most times are of the same few.
my %minutes;

sub microseconds
{
	my ($timestamp) = @_;

	return 'inf' if $timestamp eq 'infinity';
	$timestamp =~ /^(\d+-\d\d-\d\d \d\d:\d\d):(\d\d)(?:\.(\d{1,6}))?\+00$/
	  or die "cannot read the time \"$timestamp\"";
	my ($minute, $second, $fraction) = ($1, $2, $3 // '');

	return ($minutes{$minute} //= start_of($minute)) + $second * 1_000_000 +
	  substr("${fraction}000000", 0, 6);
}

sub start_of
{
	my ($minute) = @_;
	my ($year, $month, $day, $hour, $min) = split /[^0-9]/, $minute;

	return timegm(0, $min, $hour, $day, $month - 1, $year) * 1_000_000;
}

1;
