
=pod

=head1 NAME

DistlockClerk - a client that writes down what it asks, is told and has got

=head1 SYNOPSIS

  my $clerk = DistlockClerk->new($history, $place, keys => [ 'a', 'b' ],
      synchronous_commit => 'on');
  $clerk->read;      # as often as one likes
  $clerk->end;       # once its server has gone, or has ended its session

=head1 DESCRIPTION

A clerk is a psql with a script of random calls.  Each call has a name of its own,
which is its token and its owner too, so that a row of distlock.lock tells to whom it
belongs.  What the script prints says what was asked, and what the server answered;
psql stops where it loses its connection:

  ask CALL KIND KEY TTL  it is going to be asked for (kind: lease, work, prepare,
                         transaction, command); ttl in ms
  shown CALL FENCE       this fence was shown: may be undone yet
  got CALL FENCE         the grant is committed, as its client knows
  refused CALL           it was
  not CALL               it was undone
  prepared CALL          likewise, as a prepared transaction
  do CALL WHAT           the next thing that is asked: extend, release
  extended CALL UNTIL    the end of the lease, in microseconds
  do CALL work WORK      a row of the table "work" is going to be written
  worked CALL WORK       it is committed
  force KEY, purge       what ends locks and takes rows away

=cut

package DistlockClerk;

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time);

my $CALLS = 1000;    # of a script
my $made = 0;

# How long locks are held for, in ms.
my @TTLS = ((20 .. 200) x 6, (1000) x 300, (20_000) x 60);

=pod

=head1 METHODS

=head2 DistlockClerk->new($history, $place, keys => [...], ...)

Starts it at a place (see L<DistlockHistory>).  Further options:

  synchronous_commit  as set in its session
  calls               how many; else enough for seconds
  ttls                how long it asks for, in ms
  abandons            it may leave a prepared transaction behind
  quiet               it does nothing that is waited for on a disk

=cut

sub new
{
	my ($class, $history, $place, %options) = @_;
	my $server = $place->{server};
	my $name = 'c' . ++$made;
	my $base = $server->node->basedir . "/$name";

	my $self = bless {
		history => $history,
		place => $place,
		name => $name,
		keys => $options{keys},
		ttls => $options{ttls} // \@TTLS,
		abandons => $options{abandons},
		quiet => $options{quiet},
		mode => $options{quiet} ? 'off' : $options{synchronous_commit} // 'on',
		files => { map { $_ => "$base.$_" } qw(in out err) },
		offset => 0,
		rest => '',
		count => 0,
		last_fence => 0,
		read_at => time,
	}, $class;

	write_file($self->{files}{in}, $self->script($options{calls} // $CALLS));
	$self->{pid} = $self->start($server->node, $place->{dbname});
	return $self;
}

sub write_file
{
	my ($file, $text) = @_;

	open my $handle, '>', $file or die "could not write $file: $!";
	print $handle $text;
	close $handle;
	return;
}

sub start
{
	my ($self, $node, $dbname) = @_;
	my @command = ($node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=verbose',
		'-d', $node->connstr($dbname) . ' application_name=clerk');
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	open STDIN, '<', $self->{files}{in} or POSIX::_exit(1);
	open STDOUT, '>', $self->{files}{out} or POSIX::_exit(1);
	open STDERR, '>', $self->{files}{err} or POSIX::_exit(1);
	exec @command or POSIX::_exit(1);
}

=pod

=head2 $clerk->read

Tell the history what was written down since the last time.

=cut

sub read
{
	my ($self) = @_;
	my $began = time;
	my $text = '';

	if (open my $out, '<', $self->{files}{out})
	{
		seek $out, $self->{offset}, 0;
		local $/;
		$text = <$out> // '';
		$self->{offset} += length $text;
		close $out;
	}
	$text = $self->{rest} . $text;
	$self->{rest} = $text =~ s/([^\n]*)\z// ? $1 : '';
	$self->{history}->note($self, $_) for split /\n/, $text;
	$self->{read_at} = $began;
	return;
}

=pod

=head2 $clerk->is_done, $clerk->end

Whether it has come to the end of its script or connection; wait for that, and
read the rest.

=cut

sub is_done
{
	my ($self) = @_;

	$self->{pid} = 0 if $self->{pid} && waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
	return !$self->{pid};
}

sub end
{
	my ($self) = @_;

	waitpid $self->{pid}, 0 if $self->{pid};
	$self->{pid} = 0;
	$self->read;
	$self->{history}->said($self, $self->errors);
	unlink values %{ $self->{files} };
	return;
}

# The SQLSTATEs that it has met, as often as it met them.
sub errors
{
	my ($self) = @_;

	open my $err, '<', $self->{files}{err} or return;
	my @lines = <$err>;
	close $err;
	return map { /(?:ERROR|PANIC):\s+(\w{5}:.*)/ ? $1 : () } @lines;
}

=pod

=head1 GROUPS

=head2 DistlockClerk::Group->new($history, $place, size => ..., keys => [...], ...)

So many clerks at a place, for each of whom another one comes when it has done; by
turns with other settings of synchronous_commit.

=head2 $group->keep_working, $group->send_home, $group->at_an_end, $group->end,
$group->acknowledged

Read what was written down, without waiting; end their sessions, and wait for all to
end; their server is going to be stopped or killed now; wait for all to end then; how
many grants and works they know to be committed.

=cut

package DistlockClerk::Group;

use DistlockTest qw(await);
use Time::HiRes qw(time);

my @MODES = qw(on on remote_apply on local off);

sub new
{
	my ($class, $history, $place, %options) = @_;
	my $self = bless {
		history => $history, place => $place, size => delete $options{size}, began => time,
		options => \%options, clerks => [], acknowledged => 0, turn => int rand @MODES }, $class;

	# Nobody gets what has been left to a prepared transaction.
	$self->{clerks} = [ map { $self->another } 1 .. $self->{size} ];
	$self->{options}{abandons} = 0;
	return $self;
}

sub keep_working
{
	my ($self) = @_;
	my $before = $self->total;

	for my $i (0 .. $self->{size} - 1)
	{
		my $clerk = $self->{clerks}[$i];

		$clerk->read;
		next unless $clerk->is_done;
		$clerk->end;
		$self->{clerks}[$i] = $self->another;
	}
	$self->{acknowledged} += $self->total - $before;
	return;
}

sub another
{
	my ($self) = @_;

	return DistlockClerk->new($self->{history}, $self->{place},
		synchronous_commit => $MODES[ $self->{turn}++ % @MODES ], %{ $self->{options} });
}

# One that was about to connect would come to all of its script.
sub send_home
{
	my ($self) = @_;
	my ($server, $dbname) = @{ $self->{place} }{qw(server dbname)};

	$self->at_an_end;
	await('clerks to go home', sub {
		return 1 unless grep { !$_->is_done } @{ $self->{clerks} };
		$server->safe_psql($dbname, <<'EOQ');
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'clerk' AND datname = current_database()
EOQ
		return 0;
	});
	$self->end;
	return;
}

sub at_an_end
{
	my ($self) = @_;

	$self->{ended} = time;
	return;
}

sub end
{
	my ($self) = @_;
	my $before = $self->total;

	$_->end for @{ $self->{clerks} };
	$self->{clerks} = [];
	$self->{acknowledged} += $self->total - $before;
	$self->{history}->worked_for(($self->{ended} // time) - $self->{began});
	return;
}

sub acknowledged { return $_[0]->{acknowledged}; }
sub total { return $_[0]->{history}->count('acknowledged') + $_[0]->{history}->count('works'); }

package DistlockClerk;

# ---------------------------------------------------------------------------
# Scripts
# ---------------------------------------------------------------------------

sub one_of { return $_[ int rand @_ ]; }

sub script
{
	my ($self, $calls) = @_;

	return join("\n",
		'SET client_min_messages = error;',
		"SET synchronous_commit = $self->{mode};",
		(map { $self->call } 1 .. $calls),
		'\q') . "\n";
}

# A lock that is taken, used and mostly given back.
sub call
{
	my ($self) = @_;
	my ($key, $ttl) = (one_of(@{ $self->{keys} }), one_of(@{ $self->{ttls} }));
	my $call = "$self->{place}{serial}$self->{name}n" . ++$self->{count};
	my $choice = rand 100;
	my %call = (call => $call, key => $key, ttl => $ttl);

	return in_transaction(%call, quiet => 1, rand() < 0.5 ? 'transaction' : 'work') if $self->{quiet};
	return (lease(%call), (map { use_of(%call) } 1 .. rand 4), leave(%call),
		'\else', "\\echo refused $call", '\endif')
	  if $choice < 55;
	if ($choice < 90)
	{
		my $kind = one_of('work', 'work', 'prepare', 'transaction', 'transaction');
		my $abandon = $kind eq 'prepare' && $self->{abandons} && rand() < 0.2;

		$self->{abandons} = 0 if $abandon;
		return in_transaction(%call, abandon => $abandon, $kind);
	}
	return command(%call) if $choice < 97;
	return ("\\echo force $key", "SELECT distlock.force_release('$key') AS forced \\gset") if $choice < 99.5;
	return ('\echo purge', 'CALL distlock.purge();');
}

sub acquire
{
	my ($scope, %call) = @_;
	my $wait = one_of(0, 0, 1 + int rand 40);

	return "SELECT distlock.try_acquire_with_token('$call{key}', '$call{call}', '$call{ttl} ms', "
	  . "'$wait ms', scope => '$scope', owner => '$call{call}') AS fence \\gset";
}

sub lease
{
	my (%call) = @_;

	return ("\\echo ask $call{call} lease $call{key} $call{ttl}", '\unset fence',
		acquire('lease', %call), '\if :{?fence}', "\\echo got $call{call} :fence");
}

# Mostly by a release.
sub leave
{
	my (%call) = @_;

	return () if rand() < ($call{ttl} > 200 ? 0.1 : 0.5);
	return ("\\echo do $call{call} release",
		"SELECT distlock.try_release('$call{key}', '$call{call}') AS released \\gset");
}

# A fence is written "elsewhere" without a guard, if none there is higher.
sub use_of
{
	my (%call) = @_;
	my $choice = rand 100;

	if ($choice < 25)
	{
		return ("\\echo do $call{call} extend", '\unset until',
			"SELECT (extract(epoch FROM distlock.try_extend('$call{key}', '$call{call}', "
			  . "'$call{ttl} ms')) * 1000000)::bigint AS until \\gset",
			'\if :{?until}', "\\echo extended $call{call} :until", '\endif');
	}
	if ($choice < 45)
	{
		return ('\unset again',
			"SELECT distlock.fence('$call{key}', '$call{call}') AS again \\gset",
			'\if :{?again}', "\\echo shown $call{call} :again", '\endif');
	}
	if ($choice < 55)
	{
		return ("UPDATE elsewhere SET fence = :fence WHERE key = '$call{key}' AND fence <= :fence;");
	}

	my $guard = "SELECT distlock.guard('$call{key}', '$call{call}') AS again \\gset";

	return ('BEGIN;', '\unset again', $guard, '\if :{?again}',
		"\\echo shown $call{call} :again", work(%call, slowly => rand() < 0.05), '\else', 'ROLLBACK;', '\endif');
}

# Write into the table, and end the transaction; what else is to be said once it
# has committed.
sub work
{
	my (%call) = @_;
	my $work = "$call{call}w" . ++$made;
	# It may last longer than the lease.
	my @pause = $call{slowly} ? sprintf("\\! sleep %.3f", rand 0.03) : ();

	return ("\\echo do $call{call} work $work", @pause,
		"INSERT INTO work VALUES ('$call{key}', :fence, '$work');",
		'\if :ERROR', 'ROLLBACK;', '\else', 'COMMIT;',
		'\if :ERROR', '\else', "\\echo worked $call{call} $work", @{ $call{also} // [] },
		'\endif', '\endif');
}

sub in_transaction
{
	my ($kind) = pop;
	my (%call) = @_;
	my $scope = $kind eq 'transaction' ? 'transaction' : 'lease';
	my $got = "\\echo got $call{call} :fence";
	my @not = ('ROLLBACK;', "\\echo not $call{call}");
	my @end;

	if (rand() < 0.2 || ($call{quiet} && $scope eq 'lease'))
	{
		@end = @not;
	}
	elsif ($kind eq 'prepare')
	{
		@end = ("PREPARE TRANSACTION '$call{call}';", '\if :ERROR', '\else',
			"\\echo prepared $call{call}");
		push @end, "COMMIT PREPARED '$call{call}';", '\if :ERROR', '\else', $got, leave(%call), '\endif'
		  unless $call{abandon};
		push @end, '\endif';
	}
	else
	{
		@end = work(%call, also => [ $kind eq 'work' ? ($got, leave(%call)) : () ]);
	}
	return ("\\echo ask $call{call} $kind $call{key} $call{ttl}", 'BEGIN;', '\unset fence',
		acquire($scope, %call), '\if :{?fence}', "\\echo shown $call{call} :fence", @end,
		'\else', 'ROLLBACK;', "\\echo refused $call{call}", '\endif');
}

sub command
{
	my (%call) = @_;
	my $work = "$call{call}w" . ++$made;

	return ("\\echo ask $call{call} command $call{key} $call{ttl}",
		"\\echo do $call{call} work $work", '\unset done',
		"SELECT distlock.try_do_exclusively('$call{key}', '$call{ttl} ms', "
		  . "\$\$INSERT INTO work VALUES ('$call{key}', distlock.current_fence(), '$work')\$\$) AS done \\gset",
		'\if :{?done}', "\\echo worked $call{call} $work",
		'\else', "\\echo refused $call{call}", '\endif');
}

1;
