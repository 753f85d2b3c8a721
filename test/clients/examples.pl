# The programs of examples/ do the same job, in the same words, whatever happens
# to their lock: each of them is run on a database of its own, through every
# scenario, and its transcript is compared with examples.out.  At the end all
# of them contend for one key.
#
# DISTLOCK_CLIENTS names the programs to run, separated by blanks; by default
# all.  NODE_PATH must lead Node.js to pg if it does not find that by itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use File::Basename;
use File::Temp ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my $built = File::Temp::tempdir('distlock-examples-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# The system's own Python, which has the system's packages.
my %command = (
	c => ["$built/interest-c"],
	go => ["$built/interest-go"],
	java => [ 'java', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto',
		'-cp', "$built:/usr/share/java/postgresql.jar", 'Interest' ],
	node => [ 'node', "$examples/interest.js" ],
	psql => [ 'bash', "$examples/interest.sh" ],
	psycopg => [ '/usr/bin/python3', "$examples/interest_psycopg.py" ],
	psycopg2 => [ '/usr/bin/python3', "$examples/interest_psycopg2.py" ],
	ruby => [ 'ruby', "$examples/interest.rb" ],
	sqlalchemy => [ '/usr/bin/python3', "$examples/interest_sqlalchemy.py" ],
);
my %build = (
	c => 'cc -Wall -Wextra -Werror -I"$(pg_config --includedir)" -L"$(pg_config --libdir)"'
	  . " -o $built/interest-c $examples/interest.c $examples/lease.c $examples/lease_run.c"
	  . ' -lpq -pthread',
	go => "export GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$built/cache GOFLAGS=;"
	  . " cd $examples && go vet interest.go lease.go"
	  . " && go build -o $built/interest-go interest.go lease.go",
	java => "javac -Xlint:all,-serial -Werror -cp /usr/share/java/postgresql.jar -d $built"
	  . " $examples/Interest.java $examples/Lease.java $examples/LockLostException.java",
);

my @programs = split ' ', $ENV{DISTLOCK_CLIENTS} // '';
@programs = sort keys %command unless @programs;
foreach (@programs)
{
	BAIL_OUT("there is no program \"$_\" in examples") unless $command{$_};
}

# (psycopg 3 gives bytes, not text, where the encoding is SQL_ASCII.)
my $node = new_node('main', extra => ['--encoding=UTF8'], conf => <<'EOC');
# JDBC has no other way
listen_addresses = '127.0.0.1'
max_connections = 150
# statements that fail are logged all the same
log_statement = none
EOC
my %expected = expected("$FindBin::RealBin/examples.out");
my (%admin, %token, @outputs);

# ---------------------------------------------------------------------------
# The programs
# ---------------------------------------------------------------------------

# Transcripts by scenario.
sub expected
{
	my ($file) = @_;
	my %text;
	my $scenario;

	foreach (split /^/, slurp_file($file))
	{
		if (/^-- (\w+)$/) { $scenario = $1; }
		elsif (/^[^#\n]/) { $text{$scenario} .= $_; }
	}
	return %text;
}

# Begin to run a program, in a database, by default as the role of that name;
# followed by transcript().
sub start
{
	my ($program, $dbname, $ttl, $wait, $role) = @_;
	my $files = "$built/run" . @outputs;

	$role //= $dbname;
	push @outputs, "$files.out", "$files.err";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$files.out";
		open STDERR, '>', "$files.err";
		$ENV{PGHOST} = $node->host;
		$ENV{PGPORT} = $node->port;
		$ENV{PGUSER} = $role;
		$ENV{PGDATABASE} = $dbname;
		my @url = $program ne 'java' ? () : sprintf 'jdbc:postgresql://127.0.0.1:%d/%s?user=%s',
		  $node->port, $dbname, $role;
		# A group of its own, so that all of it can be stopped.
		setpgrp;
		exec @{ $command{$program} }, @url, $ttl, $wait or POSIX::_exit(127);
	}
	return { program => $program, dbname => $dbname, pid => $pid, files => $files };
}

sub has_ended
{
	my ($run) = @_;

	$run->{status} = $? if !defined $run->{status} && waitpid($run->{pid}, POSIX::WNOHANG) != 0;
	return defined $run->{status};
}

# Wait for the end of a program, and return what it said.
sub transcript
{
	my ($run) = @_;
	my $in_time = eval { await("end of $run->{program}", sub { has_ended($run) }); 1; };
	my $status = $run->{status};

	unless ($in_time)
	{
		kill 'KILL', -$run->{pid};
		waitpid $run->{pid}, 0;
	}
	my $text = slurp_file("$run->{files}.out");
	# (libpq passes on what the server said when it ended a connection.)
	my @errors = grep { !/^FATAL:  terminating connection/ } split /\n/,
	  slurp_file("$run->{files}.err");
	my ($expected) = grep { /division by zero/ } @errors;

	$text =~ s/fence \d+$/fence N/mg;
	# An error that is none of the lock's is told in each language's own way.
	$text .= 'error: ' . (defined $expected ? 'division by zero' : $errors[-1]) . "\n" if @errors;
	return $text . ($in_time ? 'exit ' . ($status >> 8 || $status) : 'does not end') . "\n";
}

# ---------------------------------------------------------------------------
# The bank
# ---------------------------------------------------------------------------

# A database with the bank in it, which belongs to the role that runs the program.
sub make_bank
{
	my ($program) = @_;

	$node->safe_psql('postgres', "CREATE ROLE $program LOGIN");
	$node->safe_psql('postgres', "CREATE DATABASE $program OWNER $program");
	$node->command_ok(
		[
			'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr($program) . " user=$program", '-f', "$examples/setup.sql"
		],
		"setup.sql for $program");

	# The slow part of branch 2 takes as long as the gate is closed.
	$admin{$program} = session($node, $program);
	$admin{$program}->query(<<'EOQ');
CREATE TABLE mode AS SELECT false AS broken;
GRANT SELECT ON mode TO PUBLIC;
CREATE OR REPLACE FUNCTION interest_rate(branch int) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
	IF branch = 2 THEN
		PERFORM pg_advisory_xact_lock_shared(1);
		IF (SELECT broken FROM mode) THEN
			RAISE division_by_zero USING MESSAGE = 'division by zero';
		END IF;
		RETURN 0.02;
	END IF;
	RETURN 0.01;
END
$$;
EOQ
	return;
}

# As if nothing had been paid, with the gate open or closed.
sub prepare
{
	my ($dbname, %how) = @_;

	$admin{$dbname}->query(<<EOQ);
SELECT pg_advisory_unlock_all();
SELECT distlock.force_release('interest');
UPDATE account SET balance = 100, paid_until = '2025-12-01';
UPDATE mode SET broken = @{[ $how{broken} ? 'true' : 'false' ]};
EOQ
	$admin{$dbname}->query('SELECT pg_advisory_lock(1)') if $how{closed};
	return;
}

sub open_gate
{
	my ($dbname) = @_;

	$admin{$dbname}->query('SELECT pg_advisory_unlock(1)');
	return;
}

# Wait until the program stands at the gate, and take down its token.
sub at_gate
{
	my ($run) = @_;
	my $dbname = $run->{dbname};

	await_while($run, 'the program to be at the gate', <<'EOQ');
SELECT count(*) > 0 FROM pg_stat_activity
WHERE datname = current_database() AND query ~ 'pay_interest' AND wait_event = 'advisory'
EOQ
	$token{ $admin{$dbname}->query("SELECT token FROM distlock.lock WHERE key = 'interest'") } = 1;
	return;
}

sub await_sql
{
	my ($dbname, $what, $sql) = @_;

	await($what, sub { $admin{$dbname}->query($sql) eq 't' });
	return;
}

# The same in the program's database, as long as it runs.
sub await_while
{
	my ($run, $what, $sql) = @_;

	await($what, sub {
		die "$run->{program} has ended while waiting for $what\n" if has_ended($run);
		return $admin{ $run->{dbname} }->query($sql) eq 't';
	});
	return;
}

# What a program has said and done is what all of them should.
sub is_expected
{
	my ($scenario, $run, $after) = @_;
	my $text = transcript($run);

	$after->($run) if $after;
	# The server may still be at a statement of a client that has gone.
	await_sql($run->{dbname}, 'the end of all statements', <<'EOQ');
SELECT count(*) = 0 FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
	AND backend_type = 'client backend'
EOQ
	is($text . state_of($run->{dbname}), $expected{$scenario}, "$scenario: $run->{program}")
	  or diag(slurp_file("$run->{files}.err"));
	return;
}

# What has been paid, and whether the lock is held.
sub state_of
{
	my ($dbname) = @_;

	return $admin{$dbname}->query(<<'EOQ') . "\n";
SELECT format('branch %s: %s accounts with %s', branch, count(*), balance)
FROM account WHERE paid_until = '2026-01-01' GROUP BY branch, balance ORDER BY branch;
SELECT CASE WHEN distlock.is_held('interest') THEN 'held' ELSE 'free' END;
EOQ
}

# One program after the other would take long, so they go side by side.
#	ttl, wait			in seconds
#	broken, closed		see prepare()
#	before				called with the database before the program is started
#	during				several, each called with the run of every program
#	after				called with the run when it has ended
sub scenario
{
	my ($name, %part) = @_;
	my @runs;

	foreach (@programs)
	{
		prepare($_, %part);
		$part{before}->($_) if $part{before};
	}
	@runs = map { start($_, $_, $part{ttl}, $part{wait}) } @programs;
	foreach my $step (@{ $part{during} // [] })
	{
		foreach my $run (@runs)
		{
			# What has gone wrong shows in the transcript.
			eval { $step->($run); 1 } or diag("$name, $run->{program}: $@");
		}
	}
	is_expected($name, $_, $part{after}) foreach @runs;
	return;
}

# ---------------------------------------------------------------------------
# The scenarios
# ---------------------------------------------------------------------------

# The lock is somebody else's.
sub hold
{
	my ($dbname) = @_;

	$admin{$dbname}->query("SELECT distlock.acquire('interest', '1 h')");
	return;
}

sub take_away
{
	my ($run) = @_;

	$admin{ $run->{dbname} }->query("SELECT distlock.force_release('interest')") eq 't'
	  or die 'the lock was not held';
	return;
}

sub opened { open_gate($_[0]->{dbname}) }

# A program that is to be read and copied is short, and not by long lines.
{
	my @files = glob "$examples/*.{c,go,h,java,js,py,rb,sh}";
	my @long;

	foreach my $file (@files)
	{
		my @lines = split /\n/, slurp_file($file), -1;

		push @long, sprintf '%s: %d lines', basename($file), $#lines if $#lines > 60;
		push @long, basename($file) . ": $_" foreach grep { length > 100 } @lines;
	}
	cmp_ok(scalar @files, '>=', keys %command, 'there are files for all programs');
	is(join("\n", @long), '', 'no file has more than 60 lines, no line more than 100 characters');
}

# The compilers are at work while the banks are made.
my %compiler;
foreach my $program (grep { $build{$_} } @programs)
{
	my $pid = fork() // die "fork: $!";

	exec "($build{$program}) >$built/$program.log 2>&1" or POSIX::_exit(127) if $pid == 0;
	$compiler{$program} = $pid;
}
make_bank($_) foreach @programs;
foreach my $program (sort keys %compiler)
{
	waitpid $compiler{$program}, 0;
	ok($? == 0, "$program compiles") or diag(slurp_file("$built/$program.log"));
}

scenario('granted', ttl => 60, wait => 0);

scenario('refused', ttl => 60, wait => 1, before => \&hold);

# It waits, and is woken by the release.
scenario(
	'waited',
	ttl => 60,
	wait => 60,
	before => \&hold,
	during => [
		sub {
			my ($run) = @_;

			await_while($run, 'a waiter', 'SELECT count(*) = 1 FROM distlock.waiters');
			take_away($run);
		}
	]);

# The work takes longer than the ttl.
scenario(
	'long',
	ttl => 12,
	wait => 0,
	closed => 1,
	during => [
		\&at_gate,
		sub {
			my ($run) = @_;

			await_while($run, 'the ttl to be over', <<'EOQ');
SELECT clock_timestamp() > acquired_at + '12 s' FROM distlock.locks
EOQ
		},
		\&opened
	]);

# Somebody takes the lock away: the program stops before its statement is over,
# and what it had not written by then is not written.
scenario(
	'forced',
	ttl => 4,
	wait => 0,
	closed => 1,
	during => [ \&at_gate, \&take_away ],
	after => \&opened);

# The heart-beat gets no answer, since somebody is about to take the lock away:
# the program cannot know, but it knows when its ttl is over.
my %taker;
scenario(
	'deaf',
	ttl => 4,
	wait => 0,
	closed => 1,
	during => [
		\&at_gate,
		sub {
			my ($run) = @_;

			$taker{ $run->{dbname} } = session($node, $run->{dbname});
			$taker{ $run->{dbname} }->query("BEGIN; SELECT distlock.force_release('interest')");
		}
	],
	after => sub {
		my ($run) = @_;

		# A heart-beat under way would be good once more.
		await_sql($run->{dbname}, 'the lease to end',
			"SELECT expires_at < clock_timestamp() FROM distlock.lock WHERE key = 'interest'");
		$taker{ $run->{dbname} }->query('ROLLBACK');
		$taker{ $run->{dbname} }->quit;
		opened($run);
	});

# The heart-beat's connection breaks, and for a while there is no other.
scenario(
	'outage',
	ttl => 15,
	wait => 0,
	closed => 1,
	during => [
		\&at_gate,
		sub {
			my ($run) = @_;
			my $role = $run->{program};

			$run->{logged} = -s $node->logfile;
			$admin{ $run->{dbname} }->query(<<EOQ);
ALTER ROLE $role NOLOGIN;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE usename = '$role' AND query !~ 'pay_interest';
EOQ
		},
		sub {
			my ($run) = @_;
			my $role = $run->{program};

			await("$role to be turned away", sub {
				die "$role has ended\n" if has_ended($run);
				return slurp_file($node->logfile, $run->{logged}) =~ /role "$role" is not permitted to log in/;
			});
			$run->{expiry} = $admin{ $run->{dbname} }->query(<<EOQ);
ALTER ROLE $role LOGIN;
SELECT expires_at FROM distlock.locks;
EOQ
		},
		sub {
			my ($run) = @_;

			await_while($run, 'a heart-beat',
				"SELECT expires_at > '$run->{expiry}' FROM distlock.locks");
			opened($run);
		}
	]);

# An error in the work: the lock is given back at once.
scenario(
	'broken',
	ttl => 600,
	wait => 0,
	closed => 1,
	broken => 1,
	during => [ \&at_gate, \&opened ]);

# The program is stopped for so long that the lock has become another's: when it
# goes on it cannot write any more, and learns that from guard.
scenario(
	'stalled',
	ttl => 600,
	wait => 0,
	closed => 1,
	during => [
		\&at_gate,
		sub {
			my ($run) = @_;

			kill 'STOP', -$run->{pid};
			take_away($run);
			hold($run->{dbname});
			opened($run);
			kill 'CONT', -$run->{pid};
		}
	]);

# A program is killed, and one in another language takes over after the ttl.
# The statement of the first is still running then, and comes too late.
{
	my @next = (@programs[ 1 .. $#programs ], $programs[0]);
	my @killed;

	prepare($_, closed => 1) foreach @programs;
	@killed = map { start($_, $_, 4, 0) } @programs;
	foreach my $run (@killed)
	{
		eval { at_gate($run); 1 } or diag("taken_over, $run->{program}: $@");
		$run->{fence} = $admin{ $run->{dbname} }->query('SELECT max(fence) FROM distlock.lock');
		kill 'KILL', $run->{pid};
		waitpid $run->{pid}, 0;
		$run->{heir} = start(shift @next, $run->{dbname}, 60, 60);
	}
	foreach my $run (@killed)
	{
		eval {
			await_while($run->{heir}, 'the next to have the lock',
				"SELECT max(fence) > $run->{fence} FROM distlock.lock");
			1;
		} or diag("taken_over, $run->{program}: $@");
		opened($run);
	}
	is_expected('taken_over', $_->{heir}) foreach @killed;
}

# ---------------------------------------------------------------------------
# All at the same time
# ---------------------------------------------------------------------------

# Every role has its own bank, in a schema of its own, and all have one lock.
$node->safe_psql('postgres', 'CREATE DATABASE mixed');
$admin{mixed} = session($node, 'mixed');
$admin{mixed}->query(<<'EOQ');
CREATE EXTENSION distlock;
CREATE TABLE history (n bigserial, role text DEFAULT current_user, fence bigint);
GRANT INSERT ON history TO PUBLIC;
GRANT USAGE ON SEQUENCE history_n_seq TO PUBLIC;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.history (fence) SELECT DISTINCT fence FROM written;
	RETURN NULL;
END
$$;
EOQ
foreach my $program (@programs)
{
	$admin{mixed}->query(<<"EOQ");
CREATE SCHEMA $program AUTHORIZATION $program;
ALTER ROLE $program IN DATABASE mixed SET search_path = $program;
SET search_path = $program;
SET ROLE $program;
\\i $examples/setup.sql
CREATE TRIGGER note AFTER UPDATE ON account REFERENCING NEW TABLE AS written
	FOR EACH STATEMENT EXECUTE FUNCTION public.note();
-- Who is at work while somebody else is, is told so.
CREATE OR REPLACE FUNCTION interest_rate(branch int) RETURNS numeric LANGUAGE plpgsql AS \$\$
BEGIN
	IF NOT pg_try_advisory_xact_lock(1) THEN
		RAISE 'two are at work';
	END IF;
	RETURN 0.01;
END
\$\$;
RESET ROLE;
RESET search_path;
EOQ
}
hold('mixed');
{
	my @runs = map { start($_, 'mixed', 60, 60, $_) } @programs;
	my $count = @programs;

	await('all to wait', sub {
		my $running = grep { !has_ended($_) } @runs;

		return $admin{mixed}->query('SELECT count(*) FROM distlock.waiters') == $running;
	});
	take_away($runs[0]);
	foreach my $run (@runs)
	{
		is(transcript($run), $expected{mixed}, "mixed: $run->{program}")
		  or diag(slurp_file("$run->{files}.err"));
	}
	is( $admin{mixed}->query(<<'EOQ'),
SELECT count(*), count(DISTINCT role), count(DISTINCT fence),
	count(*) FILTER (WHERE role IS DISTINCT FROM before),
	count(*) FILTER (WHERE fence < previous)
FROM (SELECT role, fence, lag(role) OVER w AS before, lag(fence) OVER w AS previous
	  FROM history WINDOW w AS (ORDER BY n)) AS h
EOQ
		join('|', 3 * $count, $count, $count, $count, 0),
		'mixed: three branches each, one after the other, with growing fences');
}

# ---------------------------------------------------------------------------
# Secrets
# ---------------------------------------------------------------------------

# Statements failed and were cancelled above, and the server's log says which.
{
	my @tokens = grep { length } keys %token;
	my @leaks;

	foreach my $file (@outputs, $node->logfile)
	{
		my $text = slurp_file($file);

		push @leaks, map { "$_ in $file" } grep { index($text, $_) >= 0 } @tokens;
	}
	cmp_ok(scalar @tokens, '>', 5, 'tokens are known');
	is("@leaks", '', 'no token is in the output of a program or in the log');
}

$_->quit foreach values %admin;
$node->stop;
done_testing();
