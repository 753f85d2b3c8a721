
=pod

=head1 NAME

DistlockCrew - sessions that put locks to all uses, and come to grief in all
ways

=head1 SYNOPSIS

  my $crew = DistlockCrew->new($node, size => 4, keys => [ 'a', 'b' ], seed => 1);
  while (...) { $crew->keep_working; }
  $crew->stop;
  $crew->errors;     # { '55P03' => 812, ... }

=head1 DESCRIPTION

Each member runs psql with a script of random calls, then with another one.
What fails, fails: the next statement is run with what is left.  There are
statement and lock timeouts, cancelled and terminated backends, savepoints,
prepared transactions and force.

Grants by force have the owner C<forced>, grants under a token that was not made
for them C<own token>.

=cut

package DistlockCrew;

use strict;
use warnings;

use IPC::Run ();

my $STEPS = 150;    # of a script

sub new
{
	my ($class, $node, %options) = @_;

	my $self = bless {
		node => $node,
		keys => $options{keys},
		size => $options{size},
		seed => $options{seed},
		scripts => 0,
		members => [],
		errors => {},
	}, $class;
	return $self;
}

=pod

=head2 $crew->keep_working

Give those who have finished something new to do; does not wait.

=cut

sub keep_working
{
	my ($self) = @_;

	for my $i (0 .. $self->{size} - 1)
	{
		my $member = $self->{members}[$i];

		if (defined $member)
		{
			# It fails when psql has gone before it has read all it was to do.
			next if eval { $member->{run}->pump_nb; 1 } && $member->{run}->pumpable;
			$self->finish($member);
		}
		$self->{members}[$i] = $self->start($i);
	}
	return;
}

=pod

=head2 $crew->stop

Wait until everybody has finished.

=cut

sub stop
{
	my ($self) = @_;

	$self->finish($_) for grep { defined } @{ $self->{members} };
	$self->{members} = [];
	return;
}

=pod

=head2 $crew->errors

How often each SQLSTATE was seen.

=cut

sub errors
{
	my ($self) = @_;

	return $self->{errors};
}

sub start
{
	my ($self, $i) = @_;
	my $number = $self->{scripts}++;

	# Each script depends on the seed and its number alone.
	srand($self->{seed} * 1_000_003 + $number);
	my %member = (script => $self->script($i, $number), out => '', err => '');
	$member{run} = IPC::Run::start(
		[
			'psql', '-X', '-A', '-t', '-q', '-v', 'VERBOSITY=sqlstate', '-d',
			$self->{node}->connstr('postgres') . " application_name=crew"
		],
		'<', \$member{script},
		'>', \$member{out},
		'2>', \$member{err});
	return \%member;
}

sub finish
{
	my ($self, $member) = @_;

	# A lost connection makes psql fail.
	eval { $member->{run}->finish };

	# Who is terminated or cancelled before psql is ready is told so in words.
	$member->{err} =~ s/terminating connection due to administrator command/57P01/g;
	$member->{err} =~ s/canceling statement due to user request/57014/g;
	$self->{errors}{$1}++
	  while $member->{err} =~ /(?:ERROR|FATAL|PANIC):  (.{5}.*)/g;
	$self->{errors}{'lost connection'}++
	  if $member->{err} =~ /connection to server was lost/
	  && $member->{err} !~ /57P01/;
	return;
}

# ---------------------------------------------------------------------------
# Scripts
# ---------------------------------------------------------------------------

sub one_of { return $_[ int rand @_ ]; }
sub up_to { return int rand($_[0] + 1); }
sub ms { return "'" . (1 + int(exp(rand log $_[0]))) . " ms'"; }

sub script
{
	my ($self, $i, $number) = @_;
	my @lines = (
		"\\set token none",
		"\\set other none",
		"SET client_min_messages = error;");

	for my $step (1 .. $STEPS)
	{
		my $key = "'" . one_of(@{ $self->{keys} }) . "'";
		my $gid = "'crew $i $number $step'";

		push @lines, $self->step($key, $gid);
	}
	return join("\n", @lines) . "\n";
}

sub step
{
	my ($self, $key, $gid) = @_;
	my $choice = rand 100;

	return call($key) if $choice < 40;
	return transaction($key, $gid) if $choice < 75;
	return in_plpgsql($key) if $choice < 85;
	return force($key) if $choice < 92;
	return settings() if $choice < 97;
	return one_of(
		"CALL distlock.purge();",
		"SELECT count(*) FROM distlock.locks;",
		"SELECT count(*) FROM distlock.waiters;",
		harm_another('pg_cancel_backend'),
		harm_another('pg_cancel_backend'),
		harm_another('pg_terminate_backend'),
		clean_up());
}

# A statement that acquires, keeps or gives back; with whatever token is at
# hand, so often with a wrong one.
sub call
{
	my ($key) = @_;
	my ($try, $token) = (one_of('', 'try_'), one_of("'none'", (":'token'") x 5, ":'other'"));
	my $ttl = ms(100);

	return one_of(
		(acquire($key)) x 4,
		"SELECT distlock.${try}acquire_with_token($key, $token, $ttl, "
		  . wait_time() . ", owner => 'own token');",
		"SELECT distlock.${try}extend($key, $token, $ttl);",
		"SELECT distlock.${try}extend($key, $token);",
		"SELECT distlock.${try}ensure($key, $token, $ttl);",
		("SELECT distlock.${try}release($key, $token);") x 3,
		"SELECT distlock.release_all($token);",
		"SELECT distlock.extend_all($token, $ttl);",
		"SELECT distlock.ttl($key, $token), distlock.fence($key, $token), distlock.is_held($key);",
		"SELECT distlock.${try}release($key, distlock.acquire($key, $ttl, "
		  . wait_time() . "));");
}

sub acquire
{
	my ($key) = @_;
	my $retry = one_of(('') x 4,
		", retry => distlock.limit_retry(distlock.linear_backoff('2 ms'), 3)",
		", retry => distlock.exponential_backoff('1 ms', '8 ms')");
	my $variable = one_of('token', 'token', 'other');
	my $wait = $retry =~ /exponential/ ? "'20 ms'" : wait_time();

	return "SELECT distlock.acquire($key, " . ms(60) . ", $wait, owner => 'crew'$retry) AS $variable \\gset"
	  if rand() < 0.5;
	return "SELECT coalesce(distlock.try_acquire($key, " . ms(60) .
	  ", $wait, owner => 'crew'$retry), 'none') AS $variable \\gset";
}

sub wait_time { return one_of("'0'", "'0'", ms(40)); }

sub transaction
{
	my ($key, $gid) = @_;
	my @lines = ("BEGIN ISOLATION LEVEL "
		  . one_of('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE') . ";");
	my @savepoints;

	for (0 .. up_to(5))
	{
		my $choice = rand 10;

		if ($choice < 6)
		{
			push @lines, call($key);
		}
		elsif ($choice < 8 || !@savepoints)
		{
			push @savepoints, 's' . (1 + @savepoints);
			push @lines, "SAVEPOINT $savepoints[-1];";
		}
		else
		{
			my $n = up_to($#savepoints);

			push @lines, one_of('ROLLBACK TO', 'ROLLBACK TO', 'RELEASE') . " $savepoints[$n];";
			splice @savepoints, $lines[-1] =~ /^RELEASE/ ? $n : $n + 1;
		}
	}
	push @lines, rand() < 0.05 ? 'SELECT pg_terminate_backend(pg_backend_pid());' : ();
	push @lines, one_of(
		('COMMIT;') x 5,
		('ROLLBACK;') x 2,
		"PREPARE TRANSACTION $gid;\nCOMMIT PREPARED $gid;",
		"PREPARE TRANSACTION $gid;\nROLLBACK PREPARED $gid;");
	return @lines;
}

# Errors that are caught undo what was done, and the transaction goes on.
sub in_plpgsql
{
	my ($key) = @_;
	my $raise = one_of('', "RAISE EXCEPTION 'undo';", "PERFORM distlock.release($key, 'wrong');");
	my ($ttl, $wait) = (ms(60), wait_time());

	return qq{DO \$\$
DECLARE
	t text;
BEGIN
	BEGIN
		t := distlock.acquire($key, $ttl, $wait, owner => 'crew');
		$raise
	EXCEPTION WHEN OTHERS THEN
		PERFORM distlock.try_release($key, t) WHERE t IS NOT NULL;
	END;
	BEGIN
		PERFORM distlock.release($key, t) WHERE t IS NOT NULL;
		} . one_of('', "RAISE EXCEPTION 'undo';") . qq{
	EXCEPTION WHEN OTHERS THEN
		t := distlock.try_acquire($key, $ttl, owner => 'crew');
	END;
END \$\$;};
}

sub force
{
	my ($key) = @_;

	return one_of(
		"SELECT distlock.force_release($key);",
		"SELECT distlock.force_acquire($key, " . ms(40) . ", owner => 'forced') AS token \\gset",
		"BEGIN; SELECT distlock.force_acquire($key, " . ms(40)
		  . ", owner => 'forced') AS token \\gset\n" . one_of('COMMIT;', 'ROLLBACK;'),
		"BEGIN; SELECT distlock.force_release($key);\n" . one_of('COMMIT;', 'ROLLBACK;'));
}

sub settings
{
	return one_of(
		"SET statement_timeout = " . (1 + up_to(20)) . ";",
		"SET statement_timeout = 0;",
		"SET lock_timeout = " . (1 + up_to(20)) . ";",
		"SET lock_timeout = 0;",
		"SET distlock.durable = " . one_of('on', 'off') . ";",
		"SET synchronous_commit = " . one_of('on', 'off') . ";");
}

sub harm_another
{
	my ($function) = @_;

	return "SELECT count($function(pid)) FROM (SELECT pid FROM pg_stat_activity "
	  . "WHERE application_name = 'crew' AND pid <> pg_backend_pid() "
	  . "ORDER BY random() LIMIT 1) a;";
}

# Prepared transactions whose session did not live to end them.
sub clean_up
{
	return "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts "
	  . "WHERE gid LIKE 'crew %' AND prepared < clock_timestamp() - interval '100 ms' \\gexec";
}

1;
