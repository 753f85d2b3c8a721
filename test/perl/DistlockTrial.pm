
=pod

=head1 NAME

DistlockTrial - clients at work, and the judgement on what they did

=head1 SYNOPSIS

  my $trial = DistlockTrial->new($run, $node, clients => 8, sabotage => 20);
  while ($run->go_on)
  {
      $trial->round(meanwhile => sub { ... });
  }
  $trial->conclude;

=head1 DESCRIPTION

A trial is rounds of work by clients (L<DistlockClients>), each followed by a
judgement: by the changes of the table in the order of their commits
(L<DistlockJudge>), and by what the clients wrote down (L<DistlockWitness>).  The
figures of the run (L<DistlockTorture>) come from there.

=cut

package DistlockTrial;

use strict;
use warnings;

use DistlockClients;
use DistlockJudge;
use DistlockTest;
use DistlockWitness;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $ROUND = 20;           # seconds, at most

# Those that the clients use
my $KEYS = qr/^[kfs]/;

# What the node of a trial needs.
our $CONF = <<'EOC';
shared_preload_libraries = 'distlock'
max_prepared_transactions = 40
deadlock_timeout = 50ms
log_statement = none
distlock.purge_after = 2s
EOC

=pod

=head1 METHODS

=head2 DistlockTrial->new($run, $node, expected => [...], ...)

The SQLSTATEs are errors that clients can meet besides those of always.  More arguments
are those of C<< DistlockClients->new >>.

=cut

sub new
{
	my ($class, $run, $node, %options) = @_;
	my $expected = delete $options{expected} // [];
	my $self = bless {
		run => $run,
		node => $node,
		clients => DistlockClients->new(%options),
		judge => DistlockJudge->new(table => 'distlock.lock', ledger => 'public.ledger',
			forced => 'forced', own_token => 'shared', keys => $KEYS),
		witness => DistlockWitness->new,
		expected => $expected,
		errors => {},
		rounds => 0,
	}, $class;

	$self->{clients}->prepare($node);
	$self->{judge}->start($node, 'judge');
	return $self;
}

=pod

=head2 $trial->round(meanwhile => ..., crashed => ...)

Let the clients work for the rest of the time, or 20 seconds if it is longer; judge.
C<meanwhile> is called again and again while they work, with the seconds that are
left to them, and returns when something was done.  C<crashed>: whether the server
may have lost what need not be durable.

=cut

sub round
{
	my ($self, %options) = @_;
	my $run = $self->{run};
	my $left = $run->seconds - $run->elapsed;
	my $until = time + ($left < 1 || $left > $ROUND ? $ROUND : $left);

	$self->begin($until - time);
	if (defined $options{meanwhile})
	{
		while (time < $until && $self->{clients}->working)
		{
			$options{meanwhile}->($until - time);
		}
	}
	$self->end(crashed => $options{crashed});
	return;
}

=pod

=head2 $trial->begin($seconds), $trial->stop, $trial->end(crashed => ...)

A round for who has more to do meanwhile than can be called: it takes so many seconds at
most, or until they are told to stop.

=cut

sub begin
{
	my ($self, $seconds) = @_;

	$self->{clients}->start($self->{node}, seed => $self->{run}->seed,
		round => ++$self->{rounds}, seconds => $seconds);
	return;
}

sub stop { return $_[0]->{clients}->stop; }

sub end
{
	my ($self, %options) = @_;
	my ($run, $node, $clients, $judge, $witness) = @$self{qw(run node clients judge witness)};
	my $counts = $clients->finish;
	my $round = $self->{rounds};

	# Nobody is left to end these.
	$node->safe_psql('postgres', q{SELECT format('ROLLBACK PREPARED %L', gid)
		FROM pg_prepared_xacts WHERE gid ~ '^[0-9]+[.]' \gexec});
	await('the sessions to end, with all that they left', sub { traces($node) eq '' });
	$judge->read_changes;
	$witness->hear($clients->logs);
	$witness->compare($judge->take_sight, crashed => $options{crashed});

	$run->add(map { $_ => $counts->{$_} } qw(operations grants refusals waits lost interrupts));
	$run->worked($counts->{seconds}, map { $_ => $counts->{$_} } qw(grants refusals waits));
	$self->{errors}{$_} += $counts->{errors}{$_} foreach keys %{ $counts->{errors} };
	is_deeply([ $judge->violations ], [], "round $round: no lock was held twice, no fence went back")
	  or diag $judge->evidence;
	is_deeply([ $witness->violations ], [], "round $round: it is as the clients know it")
	  or diag $witness->evidence;
	is_deeply([ DistlockClients::unexpected($counts, @{ $self->{expected} }) ], [],
		"round $round: no unexpected errors");
	is($counts->{stuck}, 0, "round $round: nobody got stuck while waiting");
	return;
}

=pod

=head2 $trial->judge, $trial->witness, $trial->errors

The judge, the witness, and how often each error was met.

=cut

sub judge { return $_[0]->{judge}; }
sub witness { return $_[0]->{witness}; }
sub errors { return $_[0]->{errors}; }

=pod

=head2 $trial->conclude

Add the figures of the judgement; it has failed if too little was done.

=cut

sub conclude
{
	my ($self) = @_;
	my ($run, $judge, $witness, $errors) = @$self{qw(run judge witness errors)};

	note $judge->summary;
	note $witness->summary;
	note 'errors: ' . join ', ', map { "$_ $errors->{$_}" } sort keys %$errors;
	$run->did_enough;
	cmp_ok($judge->count($_), '>', 0, "there were $_")
	  foreach qw(takeovers extends releases forced_releases lapses deletes touches
	  ended_sessions lapsed_takeovers works);
	cmp_ok($witness->count($_), '>', 0, "there were $_")
	  foreach qw(acknowledged intervals fences);
	unlike(slurp_file($self->{node}->logfile), qr/PANIC:|TRAP:|XX000/,
		'no internal error');

	$run->add(
		acknowledged => $witness->count('acknowledged'),
		lost_acknowledgements => $witness->count('lost_grants'),
		resolved_as_committed => $witness->count('committed'),
		resolved_as_undone => $witness->count('undone'),
		overlaps => $judge->count('overlaps') + $witness->count('held_twice'),
		fence_regressions => $judge->count('fence_regressions')
		  + $witness->count('fence_order') + $witness->count('repeated_fences'));
	return;
}

1;
