
=pod

=head1 NAME

DistlockStorm - sessions that use locks at random, of all scopes and for all
times, and what can happen to them

=head1 SYNOPSIS

  my $storm = DistlockStorm->new($node, size => 4, keys => \@keys, seed => 1);
  while ($storm->operations < 1000) { $storm->keep_working; }
  $storm->stop;

=head1 DESCRIPTION

As L<DistlockCrew>, with other scripts: they are short, since the server may be
gone at any time, locks are held for up to a minute, by leases and by sessions,
and between operations there are pauses for the worker to do something.

A call, or a transaction with all that is in it, is one operation.

=cut

package DistlockStorm;

use strict;
use warnings;

use parent -norequire, 'DistlockCrew';

use DistlockCrew;

my $OPERATIONS = 40;     # of a script
my $LONGEST = 60_000;    # ttl in ms
my $PAUSE = 20;          # ms, between operations

# Owners that have to be written in JSON with care are among them.
my @OWNERS = ("'me'", 'NULL', "'somebody else'", q{E'a "quoted" \\\\ backslash'},
	q{E'several\nlines\tand a \u0001'}, q{'Größe 漢字 🙂'}, q{''});

# How many operations have come to an end, well or not.
sub operations
{
	my ($self) = @_;

	return $self->{operations} // 0;
}

# psql may have gone in the middle of its script, with the server.
sub keep_working
{
	my ($self) = @_;

	local $SIG{PIPE} = 'IGNORE';
	for my $i (0 .. $self->{size} - 1)
	{
		my $member = $self->{members}[$i];

		if (defined $member)
		{
			next if eval { $member->{run}->pump_nb; 1 } && $member->{run}->pumpable;
			$self->finish($member);
		}
		$self->{members}[$i] = $self->start($i);
	}
	return;
}

sub stop
{
	my ($self) = @_;

	local $SIG{PIPE} = 'IGNORE';
	return $self->SUPER::stop;
}

sub finish
{
	my ($self, $member) = @_;
	my $result = $self->SUPER::finish($member);

	$self->{operations} += () = $member->{out} =~ /^operation$/mg;
	$self->{shutdowns} += () = $member->{err} =~ /connection to server|server closed the connection/g;
	return $result;
}

sub one_of { return $_[ int rand @_ ]; }

# Short ones are as frequent as long ones.
sub ttl { return "'" . int(5 * exp(rand log $LONGEST / 5)) . " ms'"; }

sub wait_time { return one_of(("'0'") x 4, "'10 ms'", "'40 ms'"); }

# As a literal of SQL
sub literal
{
	my ($text) = @_;

	return "E'" . ($text =~ s/([\\'])/\\$1/gr =~ s/\n/\\n/gr) . "'";
}

sub script
{
	my ($self, $i, $number) = @_;
	my @lines = (
		"\\encoding UTF8",
		"\\set token none",
		"\\set other none",
		# Whoever prepared a transaction may have gone.
		"SET statement_timeout = '500 ms';",
		"SET client_min_messages = error;");

	for my $step (1 .. $OPERATIONS)
	{
		my $key = literal(one_of(@{ $self->{keys} }));

		push @lines, $self->step($key, "'storm $i $number $step'"), "\\echo operation";
		push @lines, sprintf "SELECT pg_sleep(%.3f);", rand($PAUSE) / 1000;
	}
	# Its input is not closed while it is being waited for.
	return join("\n", @lines, '\q') . "\n";
}

sub step
{
	my ($self, $key, $gid) = @_;
	my $choice = rand 100;

	return call($key) if $choice < 50;
	return transaction($self, $key, $gid) if $choice < 80;
	return DistlockCrew::in_plpgsql($key) if $choice < 85;
	return force($key) if $choice < 93;
	return one_of(
		"DISCARD ALL; SET statement_timeout = '500 ms'; SET client_min_messages = error;",
		"CALL distlock.purge();",
		DistlockCrew::clean_up(),
		"SELECT format('COMMIT PREPARED %L', gid) FROM pg_prepared_xacts "
		  . "WHERE gid LIKE 'storm %' ORDER BY random() LIMIT 1 \\gexec",
		"SELECT count(*) FROM distlock.locks;");
}

sub call
{
	my ($key) = @_;
	my $token = one_of("'none'", (":'token'") x 5, ":'other'");

	return one_of(
		(acquire($key)) x 6,
		"SELECT distlock.try_acquire_with_token($key, $token, " . ttl() . ", " . wait_time() . ");",
		"SELECT distlock.try_extend($key, $token, " . ttl() . ");",
		"SELECT distlock.try_extend($key, $token);",
		"SELECT distlock.try_ensure($key, $token, " . ttl() . ");",
		("SELECT distlock.try_release($key, $token);") x 2,
		"SELECT distlock.release($key, $token);",
		"SELECT distlock.release_all($token);",
		"SELECT distlock.extend_all($token, " . ttl() . ");",
		"SELECT distlock.try_do_exclusively($key, " . ttl() . ", 'SELECT 1');",
		"CALL distlock.run_exclusively($key, " . ttl() . ", 'SELECT pg_sleep(0.01)');");
}

sub acquire
{
	my ($key) = @_;
	my $scope = one_of(('lease') x 7, ('session') x 2, 'transaction');
	my ($variable, $owner) = (one_of('token', 'token', 'other'), one_of(@OWNERS));

	return "SELECT coalesce(distlock.try_acquire($key, " . ttl() . ", " . wait_time()
	  . ", scope => '$scope', owner => $owner), 'none') AS $variable \\gset";
}

sub transaction
{
	my ($self, $key, $gid) = @_;
	my @lines = ("BEGIN ISOLATION LEVEL "
		  . one_of(('READ COMMITTED') x 3, 'REPEATABLE READ', 'SERIALIZABLE') . ";");
	my @savepoints;

	for (0 .. int rand 5)
	{
		my $choice = rand 10;

		# Several keys at once, too
		$key = literal(one_of(@{ $self->{keys} })) if rand() < 0.3;
		if ($choice < 7)
		{
			my $call = call($key);

			push @lines, $call unless $call =~ /^CALL/;
		}
		elsif ($choice < 8 || !@savepoints)
		{
			push @savepoints, 's' . (1 + @savepoints);
			push @lines, "SAVEPOINT $savepoints[-1];";
		}
		else
		{
			my $n = int rand @savepoints;

			push @lines, one_of('ROLLBACK TO', 'ROLLBACK TO', 'RELEASE') . " $savepoints[$n];";
			splice @savepoints, $lines[-1] =~ /^RELEASE/ ? $n : $n + 1;
		}
		push @lines, sprintf "SELECT pg_sleep(%.3f);", rand 0.01 if rand() < 0.2;
	}
	push @lines, rand() < 0.02 ? 'SELECT pg_terminate_backend(pg_backend_pid());' : ();
	return @lines, one_of(
		('COMMIT;') x 5,
		('ROLLBACK;') x 3,
		"PREPARE TRANSACTION $gid;\nCOMMIT PREPARED $gid;",
		# To be ended by others
		"PREPARE TRANSACTION $gid;",
		"PREPARE TRANSACTION $gid;\nROLLBACK PREPARED $gid;");
}

sub force
{
	my ($key) = @_;
	my $acquire = "SELECT distlock.force_acquire($key, " . ttl() . ", owner => 'forced') AS token \\gset";

	return one_of(
		"SELECT distlock.force_release($key);",
		$acquire,
		"BEGIN; $acquire\n" . one_of('COMMIT;', 'ROLLBACK;'),
		"BEGIN; SELECT distlock.force_release($key);\n" . one_of('COMMIT;', 'ROLLBACK;'));
}

1;
