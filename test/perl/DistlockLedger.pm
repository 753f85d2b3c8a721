
=pod

=head1 NAME

DistlockLedger - clients of a server that may crash at any time, and the book of
what they were told

=head1 SYNOPSIS

  my $ledger = DistlockLedger->new($node, size => 5, seed => 1);
  $ledger->start;
  while (...) { $ledger->keep_working; }
  $ledger->stop or ...;        # somebody is stuck
  $ledger->read_changes;       # from the decoding slot; the server is up
  $ledger->lost;               # what was acknowledged and is not there
  $ledger->violations;

=head1 DESCRIPTION

Each client is a psql with a script of random calls, then with another one.  What
it says tells for each grant, extension and row of work, all of which have a tag of
their own: that it was begun, what it returned, and that its COMMIT succeeded.  That
is what must survive.  When the connection was lost in between, only the server can
tell: it is counted as doubtful, and the decoding slot says whether it was
committed.

The slot reports commits in their order.  After a crash it repeats some; those are
known by their LSN.

There are four kinds of keys.  Of "L..." all locks are leases, so that
L<DistlockJudge> can judge them.  "M..." are held in all scopes, and whoever holds
one writes its fence into a table: in the order of the commits these must not go
down.  "F..." are taken over by force in all scopes.  "A..." are held for hours, so
that there is something to be seen afterwards.  For all of them:

  lost_grants        a grant, extension or work that was acknowledged is missing
  fence_changed      a grant is there with another fence than the client was shown
  fence_repeated     a fence was shown for two grants, committed or not
  fence_regressions  a grant's fence is not above all of that key before it
  late_work          somebody wrote under a lock after the next holder had
  lost_prepared      a transaction that was prepared is not there any more
  left_locked        a session that had nothing to do had a key locked, or a lock of
                     scope "session" that was never granted

=cut

package DistlockLedger;

use strict;
use warnings;

use DistlockChildren;
use DistlockJudge;
use DistlockTest;
use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

my $OPERATIONS = 20;    # of a script
my $SLOT = 'ledger';

# Class of a lock in pg_locks (src/key.h), of those that outlive a transaction.
my %SESSION_CLASS = map { $_ => 1 } 0x4c05, 0x4c06;

my @LEASES = map { "L$_" } 1 .. 4;
my @MIXED = map { "M$_" } 1 .. 3;
my @FORCED = map { "F$_" } 1 .. 2;
my @LONG = map { "A$_" } 1 .. 6;

sub new
{
	my ($class, $node, %options) = @_;

	return bless {
		node => $node,
		size => $options{size},
		seed => $options{seed},
		dir => PostgreSQL::Test::Utils::tempdir('ledger'),
		judge => DistlockJudge->new(table => 'distlock.lock', forced => 'forced',
			own_token => 'own token'),
		scripts => 0,
		clients => [],
		kind => {},         # by tag: grant, renewal, extension, work
		key => {},          # by tag
		shown => {},        # by tag: the fence, or the time of expiry
		acknowledged => {}, # by tag, until it is found
		doubtful => {},     # by tag, likewise
		prepared => {},     # by gid, of those nobody has ended
		tag_of_fence => {},
		holds => {},        # fences of locks of scope "session"
		granted => {},      # by fence
		seen => {},         # by tag, or key and time of expiry: fence
		rows => {},         # by key: as last committed
		highest => {},      # by key: fence
		worked => {},       # by key: fence of the last work
		done => '',         # LSN up to which changes have been read
		counts => {},
		errors => {},
		described => [],
	}, $class;
}

=pod

=head2 $ledger->start

Make the slot and the table of work.

=cut

sub start
{
	my ($self) = @_;

	$self->{node}->safe_psql('postgres', <<"EOQ");
CREATE TABLE work (key text, fence bigint, tag text);
CREATE PROCEDURE work_in_chunks(key text, chunks int, tag text) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1 .. chunks LOOP
		INSERT INTO work VALUES (key, distlock.current_fence(), tag || '.' || i);
		COMMIT;
	END LOOP;
END \$\$;
SELECT pg_create_logical_replication_slot('$SLOT', 'test_decoding')
EOQ
	return;
}

# What can be acquired.
sub keys_used { return (@LEASES, @MIXED, @FORCED); }

# How often something has happened: operations, acknowledged, doubtful, committed (of
# the doubtful ones), prepared (transactions that were found after a crash).
sub count { return $_[0]->{counts}{ $_[1] } // 0; }

# SQLSTATEs, and how often they were seen.
sub errors { return $_[0]->{errors}; }

# ---------------------------------------------------------------------------
# Clients
# ---------------------------------------------------------------------------

=pod

=head2 $ledger->keep_working

Give those who have finished something new to do; does not wait.

=cut

sub keep_working
{
	my ($self) = @_;

	for my $i (0 .. $self->{size} - 1)
	{
		my $client = $self->{clients}[$i];

		next if defined $client && !$self->has_finished($client);
		$self->{clients}[$i] = $self->begin;
	}
	return;
}

=pod

=head2 $ledger->stop

Wait until everybody has finished; false if somebody has not come to an end.  The
server is up.

=cut

sub stop
{
	my ($self) = @_;

	my $ended_at = 0;
	my $stopped = eval {
		await('clients to finish', sub {
			$self->{clients} = [ grep { !$self->has_finished($_) } @{ $self->{clients} } ];
			# Somebody may wait for what was prepared by one who has gone.
			if (time() - $ended_at > 0.5)
			{
				$self->end_prepared;
				$ended_at = time();
			}
			return !@{ $self->{clients} };
		});
		1;
	};
	$self->{clients} = [];
	return $stopped;
}

sub begin
{
	my ($self) = @_;
	my $file = "$self->{dir}/" . ++$self->{scripts};
	my $client = { number => $self->{scripts}, file => $file };

	PostgreSQL::Test::Utils::append_to_file("$file.sql", $self->script($self->{scripts}));
	my @psql = ('psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-f', "$file.sql", '-d',
		$self->{node}->connstr('postgres') . ' application_name=ledger');

	$client->{pid} = fork() // die "could not fork: $!";
	if ($client->{pid} == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$file.out";
		open STDERR, '>', "$file.err";
		exec {'psql'} @psql or POSIX::_exit(1);
	}
	child_started($client->{pid});
	return $client;
}

sub has_finished
{
	my ($self, $client) = @_;

	return 0 unless waitpid($client->{pid}, WNOHANG) == $client->{pid};
	child_ended($client->{pid});
	$self->book(slurp_file("$client->{file}.out"));

	my $err = slurp_file("$client->{file}.err");
	$self->{errors}{$1}++ while $err =~ /(?:ERROR|FATAL|PANIC):  (\w{5})$/mg;
	unlink map { "$client->{file}.$_" } qw(sql out err);
	return 1;
}

# What a client has said.
sub book
{
	my ($self, $out) = @_;
	my @begun;

	for my $line (grep { $_ ne '' } split /\n/, $out)
	{
		my ($word, @rest) = split / /, $line;

		if ($word eq 'begun')
		{
			@begun = @rest;
		}
		elsif ($word eq 'shown')
		{
			$self->show(@rest);
		}
		elsif ($word eq 'acknowledged')
		{
			$self->acknowledge(grep { $self->{shown}{$_} } @begun);
			@begun = ();
		}
		elsif ($word eq 'over')
		{
			@begun = ();
		}
		elsif ($word eq 'prepared')
		{
			$self->{prepared}{ $rest[0] } = 1;
		}
		elsif ($word eq 'ending')
		{
			delete $self->{prepared}{ $rest[0] };
		}
		elsif ($word eq 'holds')
		{
			my ($class, $number) = @rest;

			$self->violation('left_locked', "class $class, number $number")
			  unless $SESSION_CLASS{$class};
			$self->{holds}{$number} = 1;
		}
		elsif ($word eq 'operation')
		{
			$self->{counts}{operations}++;
		}
	}
	# It was cut off.  Without an answer there is no value to compare with.
	for my $tag (@begun)
	{
		$self->{doubtful}{$tag} = 1;
		$self->{counts}{doubtful}++;
	}
	return;
}

sub show
{
	my ($self, $tag, $value) = @_;

	return if $value eq '0';
	$self->{shown}{$tag} = $value;
	return unless $self->{kind}{$tag} eq 'grant';

	my $other = $self->{tag_of_fence}{$value};

	$self->violation('fence_repeated', "$value for $tag and $other")
	  if defined $other && $other ne $tag;
	$self->{tag_of_fence}{$value} = $tag;
	return;
}

sub acknowledge
{
	my ($self, @tags) = @_;

	for my $tag (@tags)
	{
		$self->{acknowledged}{$tag} = 1;
		$self->{counts}{acknowledged}++;
	}
	return;
}

# ---------------------------------------------------------------------------
# Scripts
# ---------------------------------------------------------------------------

sub one_of { return $_[ int rand @_ ]; }
sub ms { return "'" . (1 + int(exp(rand log $_[0]))) . " ms'"; }
sub wait_time { return one_of("'0'", "'0'", ms(150)); }
sub pause { return sprintf 'SELECT pg_sleep(%.4f);', rand($_[0]) / 1000; }

# Whatever is asked for under a tag, and the key it is for.
sub tag
{
	my ($self, $kind, $key) = @_;
	my $tag = "g$self->{script}." . ++$self->{tags};

	$self->{kind}{$tag} = $kind;
	$self->{key}{$tag} = $key;
	return $tag;
}

sub script
{
	my ($self, $number) = @_;

	# Each script depends on the seed and its number alone.
	srand($self->{seed} * 1_000_003 + $number);
	$self->{script} = $number;
	$self->{tags} = 0;
	$self->{tokens} = [ [ $LEASES[0], "'none'" ] ];

	# A grant is durable even so, other work is not.
	$self->{durable} = rand() < 0.6;
	my @lines = ("\\set ON_ERROR_STOP 0", "\\set token none", "\\pset fieldsep ' '",
		'SET client_min_messages = error;',
		# Nothing takes so long, unless somebody is stuck.
		"SET statement_timeout = '20 s';",
		$self->{durable} ? () : 'SET synchronous_commit = off;');

	push @lines, $self->step, '\echo operation', pause(4) for 1 .. $OPERATIONS;
	push @lines, "SELECT 'holds', objsubid, (classid::bigint << 32) | objid::bigint FROM pg_locks "
	  . "WHERE pid = pg_backend_pid() AND locktype = 'advisory';";
	return join("\n", @lines) . "\n";
}

sub step
{
	my ($self) = @_;
	my $choice = rand 100;

	return $self->alone($self->grant(one_of(@LEASES))) if $choice < 18;
	return $self->alone($self->extend) if $choice < 26;
	return $self->lease_call if $choice < 34;
	return $self->transaction if $choice < 52;
	return $self->in_plpgsql if $choice < 56;
	return $self->mixed if $choice < 80;
	return $self->force if $choice < 88;
	# A key that never comes again
	return $self->alone($self->grant("L$self->{script}.new$self->{tags}")) if $choice < 92;
	return $self->long if $choice < 96;
	return one_of(
		('CALL distlock.purge();') x 3,
		('SELECT FROM distlock.advance_fence();') x 2,
		'SELECT count(*) FROM distlock.locks, distlock.waiters;',
		"SELECT count(*) FROM distlock.mirror_check('1 s');",
		'DISCARD ALL; SET client_min_messages = error;');
}

# What ($tag, @lines) asks for, in a transaction of its own.
sub alone
{
	my ($self, $tag, @lines) = @_;

	return ("\\echo begun $tag", @lines, '\if :ERROR', '\echo over', '\else',
		$self->survives($tag) ? '\echo acknowledged' : '\echo over', '\endif');
}

# Work need not be flushed when the session says so.
sub survives
{
	my ($self, $tag) = @_;

	return $self->{durable} || $self->{kind}{$tag} ne 'work';
}

# The value of an expression, 0 if it is NULL.
sub ask
{
	my ($tag, $expression) = @_;

	return ("SELECT coalesce(($expression)::bigint, 0) AS value \\gset",
		'\if :ERROR', '\set value 0', '\endif', "\\echo shown $tag :value");
}

sub grant
{
	my ($self, $key, $scope) = @_;
	my $own = rand() < 0.2;
	my $tag = $self->tag($own ? 'renewal' : 'grant', $key);
	my $token = $own ? "own $self->{script}" : "token $tag";
	my $owner = $own ? 'own token' : 'crew';
	my $retry = one_of(('') x 5, ", retry => distlock.limit_retry(distlock.linear_backoff('2 ms'), 3)");
	my $arguments = ms(400) . ', ' . wait_time() . ", '" . ($scope // 'lease')
	  . "', '$owner', '$tag'$retry";

	unshift @{ $self->{tokens} }, [ $key, "'$token'" ];
	# A token that is made for it; the fence is not shown then.
	if (!$own && rand() < 0.3)
	{
		$self->{tokens}[0] = [ $key, ":'token'" ];
		$self->{kind}{$tag} = 'generated';
		return ($tag, "SELECT coalesce(distlock.try_acquire('$key', $arguments), 'none') AS token \\gset",
			'\if :ERROR', "\\echo shown $tag 0", '\else',
			"SELECT (:'token' <> 'none')::int AS value \\gset", "\\echo shown $tag :value", '\endif');
	}
	return ($tag, ask($tag, "distlock.try_acquire_with_token('$key', '$token', $arguments)"));
}

# Acquired, with the token of all, and mostly kept.
sub long
{
	my ($self) = @_;
	my $key = one_of(@LONG);
	my $tag = $self->tag('renewal', $key);

	return "SELECT distlock.try_release('$key', 'for hours');" if rand() < 0.3;
	return $self->alone($tag, ask($tag, "distlock.try_acquire_with_token('$key', 'for hours', '"
		  . (1 + int rand 9) . " h', owner => 'own token', data => '$tag')"));
}

# A key and a token of before: the last one, as a rule.
sub held
{
	my ($self) = @_;
	my $tokens = $self->{tokens};

	return @{ $tokens->[ rand() < 0.7 ? 0 : int rand @$tokens ] };
}

sub extend
{
	my ($self) = @_;
	my ($key, $token) = $self->held;
	my $tag = $self->tag('extension', $key);
	my $call = one_of('try_extend', 'try_extend', 'try_ensure');

	# Sessions' locks have no end.  What "ensure" leaves as it is need not be there.
	$self->{kind}{$tag} = 'ensured' if $call eq 'try_ensure';
	return ($tag, ask($tag, "SELECT extract(epoch FROM t) * 1000000 "
		  . "FROM distlock.$call('$key', $token, " . ms(400) . ') t WHERE isfinite(t)'));
}

sub lease_call
{
	my ($self) = @_;
	my ($key, $token) = $self->held;
	my $own = "'own $self->{script}'";

	return one_of(
		("SELECT distlock.try_release('$key', $token);") x 4,
		"SELECT distlock.release('$key', $token);",
		"SELECT distlock.try_ensure('$key', $token, '1 ms');",
		"SELECT distlock.release_all($own);",
		"SELECT distlock.extend_all($own, " . ms(200) . ');',
		"SELECT distlock.is_held('$key'), distlock.ttl('$key', $token);",
		burst(one_of(@LEASES)));
}

# Many versions of a row, made by somebody who knows where it is.
sub burst
{
	my ($key) = @_;

	return join "\n", ("SELECT distlock.try_release('$key', "
		  . "coalesce(distlock.try_acquire('$key', '1 s', owner => 'crew'), 'none'));") x 10;
}

# Several calls, with savepoints; what is rolled back is forgotten.
sub transaction
{
	my ($self) = @_;
	my @lines = ('BEGIN ISOLATION LEVEL '
		  . one_of(('READ COMMITTED') x 3, 'REPEATABLE READ', 'SERIALIZABLE') . ';');
	my @levels = ([]);      # tags, by the nesting of savepoints
	my @keys = sort(one_of(@LEASES), one_of(@LEASES));

	for (0 .. int rand 4)
	{
		my $choice = rand 10;

		if ($choice < 6)
		{
			my ($tag, @call) = $choice < 4 ? $self->grant(one_of(@keys)) : $self->extend;

			push @{ $levels[-1] }, $tag;
			push @lines, @call;
		}
		elsif ($choice < 7)
		{
			push @lines, $self->lease_call;
		}
		elsif ($choice < 9 || @levels == 1)
		{
			push @lines, "SAVEPOINT s$#levels;";
			push @levels, [];
		}
		else
		{
			my $undone = rand() < 0.6;
			my $tags = pop @levels;

			push @lines, ($undone ? 'ROLLBACK TO' : 'RELEASE') . " s$#levels;";
			# It is there still.
			$undone ? push @levels, [] : push @{ $levels[-1] }, @$tags;
		}
	}
	return (@lines, $self->end_of_transaction(map { @$_ } @levels));
}

# A transaction that has failed is rolled back by COMMIT without an error: so it is
# asked first whether it has.
sub end_of_transaction
{
	my ($self, @tags) = @_;
	my $begun = join ' ', '\echo begun', grep { $self->survives($_) } @tags;
	my $gid = "p$self->{script}.$self->{tags}";
	my $end = one_of((qq{COMMIT;}) x 5, ('ROLLBACK;') x 2, ('PREPARE') x 2);
	my @acknowledge = ('\if :ERROR', '\echo over', '\else', '\echo acknowledged', '\endif');

	return 'ROLLBACK;' if $end eq 'ROLLBACK;';
	return ('SELECT 1 AS one \gset', '\if :ERROR', 'ROLLBACK;', '\else', $begun, 'COMMIT;',
		@acknowledge, '\endif') if $end eq 'COMMIT;';

	$end = one_of('COMMIT', 'COMMIT', 'ROLLBACK');
	return ('SELECT 1 AS one \gset', '\if :ERROR', 'ROLLBACK;', '\else', $begun,
		"PREPARE TRANSACTION '$gid';", '\if :ERROR', '\echo over', '\else', "\\echo prepared $gid",
		pause(10), "\\echo ending $gid", "$end PREPARED '$gid';",
		$end eq 'COMMIT' ? @acknowledge : '\echo over', '\endif', '\endif');
}

# Errors that are caught undo what was done, and the transaction goes on.
sub in_plpgsql
{
	my ($self) = @_;
	my $key = one_of(@LEASES);
	my ($ttl, $wait) = (ms(60), wait_time());

	return qq{DO \$\$
DECLARE
	t text;
BEGIN
	BEGIN
		t := distlock.acquire('$key', $ttl, $wait, owner => 'crew');
		} . one_of('', "RAISE EXCEPTION 'undo';") . qq{
	EXCEPTION WHEN OTHERS THEN
		PERFORM distlock.try_release('$key', t) WHERE t IS NOT NULL;
	END;
	PERFORM distlock.release('$key', t) WHERE t IS NOT NULL;
EXCEPTION WHEN OTHERS THEN
	NULL;
END \$\$;};
}

# Work under a lock, if it is held.
sub work
{
	my ($self, $key, $fence) = @_;
	my $tag = $self->tag('work', $key);

	return ($tag, "INSERT INTO work SELECT '$key', f, '$tag' FROM $fence f WHERE f IS NOT NULL;",
		'\if :ERROR', "\\echo shown $tag 0", '\else', "\\echo shown $tag :ROW_COUNT", '\endif');
}

# Locks of all scopes, and work under them.
sub mixed
{
	my ($self) = @_;
	my $key = one_of(@MIXED);
	my $how = one_of('session', 'session', 'transaction', 'transaction', 'lease', 'lease', 'do', 'run');
	my $wait = one_of("'0'", ms(300));

	return $self->alone($self->under_do($key, $wait)) if $how eq 'do';
	return $self->alone($self->under_run($key, $wait)) if $how eq 'run';

	my $granted = $self->tag('grant', $key);
	my $token = "token $granted";
	my $fence = "distlock.fence('$key', '$token')";
	my @acquire = ask($granted, "distlock.try_acquire_with_token('$key', '$token', "
		  . ($how eq 'lease' ? ms(50) : "'1 ms'") . ", $wait, '$how', 'crew', '$granted')");
	my @lines;

	if ($how eq 'transaction')
	{
		# It leaves no trace of its own: only the work has to be there.
		my ($tag, @work) = $self->work($key, $fence);

		return ('BEGIN;', @acquire, @work, pause(8), $self->end_of_transaction($tag));
	}
	push @lines, $self->alone($granted, @acquire), pause(8);
	if ($how eq 'session')
	{
		push @lines, $self->alone($self->work($key, $fence)), pause(8);
		return (@lines, one_of(("SELECT distlock.try_release('$key', '$token');") x 3,
			'DISCARD ALL; SET client_min_messages = error;', 'SELECT pg_advisory_unlock_all();'));
	}

	my ($tag, @work) = $self->work($key, "distlock.guard('$key', '$token')");

	# It may expire meanwhile.
	return (@lines, 'BEGIN;', @work, pause(one_of(8, 50)), $self->end_of_transaction($tag),
		"SELECT distlock.try_release('$key', '$token');");
}

sub under_do
{
	my ($self, $key, $wait) = @_;
	my $tag = $self->tag('work', $key);

	return ($tag, ask($tag, "distlock.try_do_exclusively('$key', '1 ms', "
		  . "\$\$INSERT INTO work VALUES ('$key', distlock.current_fence(), '$tag')\$\$, $wait)"));
}

sub under_run
{
	my ($self, $key, $wait) = @_;
	my $tag = $self->tag('work', $key);

	return ($tag, "CALL distlock.run_exclusively('$key', '1 ms', "
		  . "\$\$CALL work_in_chunks('$key', 2, '$tag')\$\$, $wait);",
		'\if :ERROR', "\\echo shown $tag 0", '\else', "\\echo shown $tag 2", '\endif');
}

sub force
{
	my ($self) = @_;
	my $key = one_of(@LEASES, @FORCED, @FORCED);
	my $scope = $key =~ /^F/ ? one_of('lease', 'session') : 'lease';
	my $tag = $self->tag('generated', $key);
	my @acquire = ("SELECT distlock.force_acquire('$key', " . ms(100)
		  . ", '$scope', 'forced', '$tag') AS token \\gset",
		'\if :ERROR', "\\echo shown $tag 0", '\else', "\\echo shown $tag 1", '\endif');

	unshift @{ $self->{tokens} }, [ $key, ":'token'" ];
	return one_of(
		"SELECT distlock.force_release('$key');",
		join("\n", $self->alone($tag, @acquire)),
		join("\n", $self->alone($self->grant(one_of(@FORCED), 'session'))),
		join("\n", 'BEGIN;', @acquire, $self->end_of_transaction($tag)));
}

# ---------------------------------------------------------------------------
# What is there
# ---------------------------------------------------------------------------

=pod

=head2 $ledger->read_changes

Read what has been committed since the last call, and judge it.

=cut

sub read_changes
{
	my ($self) = @_;
	my $file = "$self->{dir}/changes";
	my @lines;

	# The first statement flushes what others did not wait for.
	$self->{node}->safe_psql('postgres', qq{
		SET timezone = 'UTC';
		SET datestyle = 'ISO';
		SELECT pg_logical_emit_message(true, 'ledger', '');
		\\o $file
		SELECT lsn - '0/0', data FROM pg_logical_slot_get_changes('$SLOT', NULL, NULL,
			'skip-empty-xacts', 'on')});

	open my $changes, '<', $file or die "could not read $file: $!";
	while (my $line = <$changes>)
	{
		my ($lsn, $data) = $line =~ /^(\d+)\|(.*)$/s or die "cannot read \"$line\"";

		push @lines, $data;
		next unless $data =~ /^COMMIT/;
		# After a crash the slot begins where it had been saved.
		if ($self->{done} eq '' || $lsn > $self->{done})
		{
			$self->change($_) foreach @lines;
			$self->{done} = $lsn;
		}
		@lines = ();
	}
	close $changes;
	unlink $file;
	return;
}

sub change
{
	my ($self, $line) = @_;

	if ($line =~ /^table public\.work: INSERT: key\[text\]:'(.*?)' fence\[bigint\]:(\d+) tag\[text\]:'(.*?)'/)
	{
		my ($key, $fence, $tag) = ($1, $2, $3);

		$self->{seen}{$tag} = $fence;
		$self->violation('late_work', "$tag, key $key: fence $fence after $self->{worked}{$key}")
		  if $fence < ($self->{worked}{$key} // 0);
		$self->{worked}{$key} = $fence;
		return;
	}
	my ($what, $columns) = $line =~ /^table distlock\.lock: (\w+): (.*)/s;

	if (!defined $what)
	{
		$self->{judge}->change($line);
		return;
	}
	my %row;
	$row{$1} = defined $2 ? $2 : $3 while $columns =~ /(\w+)\[[^\]]*\]:(?:'((?:[^']|'')*)'|(\S+))/g;
	my $key = $row{key};

	$self->{judge}->change($line) if $key =~ /^L/;
	if ($what eq 'DELETE')
	{
		delete $self->{rows}{$key};
		return;
	}

	my $before = $self->{rows}{$key};

	$self->{rows}{$key} = \%row;
	if ($row{token} ne 'null')
	{
		$self->{seen}{ $row{data} } = $row{fence};
		$self->{granted}{ $row{fence} } = 1;
		$self->{seen}{"$key " . DistlockJudge::microseconds($row{expires_at})} = $row{fence}
		  if $row{expires_at} ne 'infinity';
		$self->violation('fence_regressions', "key $key: $row{fence} after $self->{highest}{$key}")
		  if (!defined $before || $before->{token} ne $row{token} || $before->{fence} != $row{fence})
		  && $row{fence} <= ($self->{highest}{$key} // 0);
	}
	$self->{highest}{$key} = $row{fence} if $row{fence} > ($self->{highest}{$key} // 0);
	return;
}

=pod

=head2 $ledger->settle

Compare what was acknowledged with what was committed, and forget it.  The clients
have stopped, and all changes have been read.

=cut

sub settle
{
	my ($self) = @_;

	for my $tag (sort keys %{ $self->{acknowledged} })
	{
		my $kind = $self->{kind}{$tag};
		my $value = $self->{shown}{$tag};
		my @places = $kind eq 'extension' ? "$self->{key}{$tag} $value"
		  : $kind eq 'ensured' ? ()
		  : $kind eq 'work' && $value > 1 ? map { "$tag.$_" } 1 .. $value
		  : $tag;
		my $fence = $self->{seen}{ $places[0] // '' };

		$self->violation('lost_grants', "$kind $tag of key $self->{key}{$tag}, shown $value")
		  if grep { !exists $self->{seen}{$_} } @places;
		$self->violation('fence_changed', "$tag: shown $value, committed $fence")
		  if $kind =~ /^(grant|renewal)$/ && defined $fence && $fence != $value;
	}
	for my $tag (sort keys %{ $self->{doubtful} })
	{
		$self->{counts}{committed}++ if exists $self->{seen}{$tag} || exists $self->{seen}{"$tag.1"};
	}
	$self->violation('left_locked', "fence $_, never granted")
	  foreach grep { !$self->{granted}{$_} } sort keys %{ $self->{holds} };
	$self->{$_} = {} foreach qw(acknowledged doubtful seen granted holds kind key shown);
	return;
}

=pod

=head2 $ledger->end_prepared

Transactions whose session did not live to end them: see that they are there, and
end them.  Those of clients that are at work are left to them.

=cut

sub end_prepared
{
	my ($self) = @_;
	my %working = map { $_->{number} => 1 } @{ $self->{clients} };
	my %there = map { $_ => 1 } grep { /^p(\d+)\./ && !$working{$1} } split /\n/,
	  $self->{node}->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');

	for my $gid (sort keys %{ $self->{prepared} })
	{
		$self->{counts}{prepared}++;
		$self->violation('lost_prepared', $gid) unless $there{$gid};
	}
	$self->{prepared} = {};
	$self->{node}->safe_psql('postgres', join '', map { one_of('COMMIT', 'ROLLBACK') . " PREPARED '$_';\n" }
		  sort keys %there) if %there;
	return;
}

=pod

=head2 $ledger->table_differs

What the table shows and the slot does not, or the other way round; '' for nothing.

=cut

sub table_differs
{
	my ($self) = @_;
	my %rows = map { $_ => 1 } split /\n/, $self->{node}->safe_psql('postgres', <<'EOQ');
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT concat_ws(' ', key, fence, coalesce(token, 'null'), expires_at) FROM distlock.lock
EOQ
	my %seen = map { (join(' ', @$_{qw(key fence token expires_at)}) => 1) } values %{ $self->{rows} };

	return join "\n", (map { "table: $_" } grep { !$seen{$_} } sort keys %rows),
	  map { "slot: $_" } grep { !$rows{$_} } sort keys %seen;
}

=pod

=head2 $ledger->violations, $ledger->evidence

The names of the rules that were broken, those of the judge included; the first
cases in full.

=cut

sub violations
{
	my ($self) = @_;

	return (sort keys %{ $self->{broken} // {} }, $self->{judge}->violations);
}

sub evidence
{
	my ($self) = @_;

	return join "\n", @{ $self->{described} }, $self->{judge}->evidence;
}

# How often a rule was broken.
sub broken { return $_[0]->{broken}{ $_[1] } // 0; }

sub summary
{
	my ($self) = @_;

	return $self->{judge}->summary;
}

sub violation
{
	my ($self, $name, $what) = @_;

	$self->{broken}{$name}++;
	push @{ $self->{described} }, "$name: $what" if @{ $self->{described} } < 20;
	return;
}

1;
