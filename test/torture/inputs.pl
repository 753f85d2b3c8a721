# Calls of every function with arguments of every kind, from everywhere.
#
# Several sessions call what the catalog has (see DistlockCalls), as a superuser, as an
# administrator of locks, as a user, and as nobody; in transactions of all kinds, after
# errors, in parallel queries, indexes, defaults, CHECK constraints, triggers, cursors and
# PL/pgSQL; and they ask the views odd questions.  In a second database, which is mirrored
# into Redis, the extension is dropped and created again meanwhile.
#
# Each SQLSTATE that comes back must be documented for the function.  None may be an
# internal error, no connection is lost, no error shows a token, the lock table has
# kept its promises (see DistlockJudge), no key stays locked, and a session that goes
# on calling does not grow.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockCalls;
use DistlockJudge;
use DistlockRedis;
use DistlockTest;
use DistlockTorture;
use DistlockWire;
use DistlockWorker;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Storable qw(store retrieve);
use Test::More;
use Time::HiRes qw(time);

my $ROUND = 15;            # seconds
my $BATCH = 60;            # units that are sent at once
my $LEAK_CALLS = 200_000;
my $UNSTEADY = 4 << 20;    # bytes
my $MOST_GROWTH = 16;      # bytes for each call
my @ROLES = ('postgres', 'torture_user', 'postgres', 'torture_admin', 'postgres', 'torture_user');

my $run = DistlockTorture->new('inputs', seconds => 20, goals => { calls => 1_000_000 });
my $TIMEOUT = 40 * $run->slowness;    # of a statement, in milliseconds
my $redis = $ENV{DISTLOCK_WITHOUT_REDIS} ? undef : DistlockRedis->new('inputs');

# Errors are read where they arrive; the log has what nobody is told.
my $node = new_node('main', allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--locale=C' ],
	conf => preloaded(<<'EOC'));
max_connections = 40
max_parallel_workers = 4
deadlock_timeout = 10ms
log_min_messages = log
log_statement = none
log_min_error_statement = panic
track_functions = all
distlock.purge_after = 100ms
autovacuum = on
autovacuum_naptime = 1s
EOC

# ---------------------------------------------------------------------------
# The surroundings
# ---------------------------------------------------------------------------

my $major = $node->safe_psql('postgres', 'SHOW server_version_num') / 10000;

# The rest of a cursor that is held, which COMMIT executes, must not roll a subtransaction
# back: an assertion in PostgreSQL's xact.c has forgotten TBLOCK_END.  EXCEPTION in
# PL/pgSQL is enough for it; without assertions all is well.
my $may_hold = $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'off';

sub furnish
{
	my ($database) = @_;

	$node->safe_psql($database, <<"EOQ");
CREATE SCHEMA torture;
GRANT USAGE ON SCHEMA torture TO PUBLIC;
CREATE TABLE torture.plain (a int);
CREATE TABLE torture.guarded (a int);
CREATE TRIGGER lock BEFORE INSERT ON torture.guarded EXECUTE FUNCTION distlock.require_lock('lease 1');

-- executes a statement; what it says of itself is not true
CREATE FUNCTION torture.run(statement text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS \$\$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN coalesce(result, '');
END \$\$;
CREATE FUNCTION torture.run_parallel(statement text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS \$\$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
END \$\$;
CREATE FUNCTION torture.run_all(statements text[]) RETURNS SETOF text LANGUAGE plpgsql AS \$\$
DECLARE
	statement text;
	state text;
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		BEGIN
			EXECUTE statement;
			RETURN NEXT '';
		EXCEPTION WHEN others THEN
			GET STACKED DIAGNOSTICS state = MESSAGE_TEXT;
			RETURN NEXT SQLSTATE || ' ' || state;
		END;
	END LOOP;
END \$\$;
CREATE FUNCTION torture.at_row() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	NEW.result := torture.run(NEW.statement);
	RETURN NEW;
END \$\$;
CREATE TABLE torture.by_index (statement text);
CREATE INDEX ON torture.by_index (md5(torture.run(statement)));
CREATE TABLE torture.by_check (statement text CHECK (torture.run(statement) IS NOT NULL));
CREATE TABLE torture.by_default (result text DEFAULT torture.run(current_setting('torture.statement')));
CREATE TABLE torture.by_column (statement text, result text GENERATED ALWAYS AS (torture.run(statement)) STORED);
CREATE TABLE torture.by_trigger (statement text, result text);
CREATE TRIGGER at_row BEFORE INSERT ON torture.by_trigger FOR EACH ROW EXECUTE FUNCTION torture.at_row();
CREATE TABLE torture.deferred (statement text, result text);
CREATE CONSTRAINT TRIGGER at_row AFTER INSERT ON torture.deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION torture.at_row();
GRANT ALL ON ALL TABLES IN SCHEMA torture TO PUBLIC;

REVOKE USAGE ON SCHEMA distlock FROM PUBLIC;
GRANT USAGE ON SCHEMA distlock TO torture_user, torture_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA distlock TO torture_admin;
GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA distlock TO torture_admin;
EOQ
	return;
}

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE torture_user LOGIN;
CREATE ROLE torture_admin LOGIN IN ROLE pg_monitor;
CREATE ROLE torture_nobody LOGIN;
-- which takes any bytes for text
CREATE DATABASE second ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
EOQ
$node->safe_psql('second', 'CREATE EXTENSION distlock');
furnish($_) foreach 'postgres', 'second';
if (defined $redis)
{
	my $url = $redis->url;

	$node->safe_psql('second', "ALTER DATABASE second SET distlock.redis_url = '$url'");
	$node->safe_psql('second', 'SELECT distlock.stop_worker(), distlock.start_worker()');
}

my $calls = DistlockCalls->new($node);
my @functions = $calls->functions;
my %function = map { $_->{name} => $_ } @functions;

# The reference must know what the comments name.
my %documented =
  map { $_ => 1 } slurp_file("$FindBin::RealBin/../../docs/reference.md") =~ /^\| ([0-9A-Z]{5})\b/mg;
is_deeply([ grep { !$documented{$_} } map { @{ $_->{documented} } } @functions ],
	[], 'the reference has all errors that comments name');
is_deeply([ grep { !$documented{$_} } @DistlockCalls::ALWAYS ],
	[], 'the reference has all errors of every function');

# The columns of the views, by view
my %views;
foreach (split /\n/, $node->safe_psql('postgres', <<'EOQ'))
SELECT c.relname, quote_ident(a.attname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'distlock'::regnamespace AND c.relkind = 'v' ORDER BY 1, a.attnum
EOQ
{
	my ($view, $column) = split /\|/;

	push @{ $views{$view} }, $column;
}

# ---------------------------------------------------------------------------
# Where calls are made from: each returns statements, as arrays of the message, the call
# (or undef), and other errors that the statement may have.
# ---------------------------------------------------------------------------

my $prepared = 0;

sub one_of { return $_[ int rand @_ ]; }
sub also
{
	return map { [ DistlockWire::simple($_) ] } @_;
}
sub quoted { return DistlockCalls::literal($_[0]); }

# After an error in a transaction; or BEGIN itself has taken too long.
my @FAILED = qw(25P02 25P01);

sub statement
{
	my ($call, @others) = @_;

	return [
		$call->{parameters}
		? DistlockWire::extended($call->{sql}, @{ $call->{parameters} })
		: DistlockWire::simple($call->{sql}),
		$call, @others ];
}

# A call of a function, not a procedure, without parameters
sub expression
{
	my $call;

	do { $call = $calls->draw(literal => 1) } while ($call->{function}{procedure});
	return $call;
}

sub by_itself
{
	return map { statement($calls->draw) } 1 .. 5;
}

sub in_transaction
{
	my ($begin) = @_;
	# Its snapshot is older than what it does.
	my @statements = also($begin, 'SELECT 1');

	for (0 .. int rand 5)
	{
		my $call = $calls->draw;
		my $savepoint = rand() < 0.5;

		push @statements, [ DistlockWire::simple('SAVEPOINT s'), undef, @FAILED ] if $savepoint;
		# A procedure that commits is refused here.
		push @statements, statement($call, '40001', '2D000', @FAILED);
		# It goes on as if nothing had happened; or what has happened is undone.
		push @statements,
		  [ DistlockWire::simple(one_of('RELEASE s', 'ROLLBACK TO s')), undef, '3B001', @FAILED ],
		  [ DistlockWire::simple('ROLLBACK TO s'), undef, '3B001', @FAILED ]
		  if $savepoint;
	}
	my $choice = rand;

	if ($choice < 0.05)
	{
		my $gid = "inputs $$ " . $prepared++;

		return @statements,
		  [ DistlockWire::simple("PREPARE TRANSACTION '$gid'"), undef, '0A000', '40001' ],
		  [ DistlockWire::simple(one_of('COMMIT', 'ROLLBACK') . " PREPARED '$gid'"),
			undef, '42704', '55000', @FAILED ],
		  also('ROLLBACK');
	}
	return @statements,
	  [ DistlockWire::simple($choice < 0.6 ? 'COMMIT' : 'ROLLBACK'), undef, '40001' ],
	  also('ROLLBACK');
}

sub transaction { return in_transaction('BEGIN'); }
sub read_only { return in_transaction('BEGIN READ ONLY'); }
sub repeatable_read { return in_transaction('BEGIN ISOLATION LEVEL REPEATABLE READ'); }
sub serializable { return in_transaction('BEGIN ISOLATION LEVEL SERIALIZABLE'); }

# Several statements in a string are a transaction.
sub one_string
{
	my $call = $calls->draw(literal => 1);
	my $sql = one_of("SELECT 1; $call->{sql}", "$call->{sql}; SELECT 1", "BEGIN; $call->{sql}; COMMIT");

	# After an error the block is still open.
	return [ DistlockWire::simple($sql), $call, '2D000', '40001' ], also('ROLLBACK');
}

# A call under another name
sub as_another
{
	my $role = one_of('torture_nobody', 'torture_nobody', 'torture_user', 'torture_admin');
	my $call = $calls->draw;

	# A user may be nobody else: then it is his own call.
	return [ DistlockWire::simple("SET ROLE $role"), undef, '42501' ], statement($call),
	  also('RESET ROLE');
}

# Without a subtransaction for it, nothing is gained by sending many at once.
sub in_plpgsql
{
	my @calls = map { $calls->draw(literal => 1) } 1 .. 20;
	my $list = join ', ', map { quoted($_->{sql}) } @calls;

	# Of texts that are none, the whole is refused.
	return [
		DistlockWire::simple("SELECT torture.run_all(ARRAY[$list])"), \@calls,
		# what a handler for others does not catch, too
		'22021', '40001', 'P0004' ];
}

sub in_parallel
{
	my $setting = $major >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
	my $call = expression();

	return also("SET $setting = on"), [
		DistlockWire::simple('SELECT torture.run_parallel(' . quoted($call->{sql}) . ')'), $call,
		# no subtransactions, no notifications, no changes in a parallel worker
		'25000' ],
	  also("RESET $setting");
}

sub in_table
{
	my $call = expression();
	my $literal = quoted($call->{sql});
	my $sql = one_of(
		(map { "INSERT INTO torture.$_ VALUES ($literal)" } qw(by_index by_check by_column by_trigger)),
		"SET torture.statement = $literal; INSERT INTO torture.by_default VALUES (DEFAULT)",
		"INSERT INTO torture.deferred VALUES ($literal)");
	# What was called in an index is not wanted there.
	my $end = one_of('', '', '; ROLLBACK');

	$sql = "BEGIN; $sql$end" if $end;
	return [ DistlockWire::simple($sql), $call, '40001', '2D000', '54000' ], also('ROLLBACK');
}

sub in_cursor
{
	my $call = expression();
	my $hold = one_of('', '', $may_hold ? 'WITH HOLD' : '');

	return also('BEGIN'),
	  [ DistlockWire::simple(
			"DECLARE c CURSOR $hold FOR SELECT $call->{expression} FROM generate_series(1, 3)"),
		$call, @FAILED ],
	  [ DistlockWire::simple(one_of('FETCH 1 FROM c', 'FETCH ALL FROM c', 'MOVE 2 FROM c')),
		$call, '34000', '40001', @FAILED ],
	  [ DistlockWire::simple(one_of('CLOSE c', 'FETCH ALL FROM c', 'SELECT 1')),
		$call, '34000', '40001', '24000', @FAILED ],
	  # A cursor that is held executes the rest here.
	  [ DistlockWire::simple(one_of('COMMIT', 'ROLLBACK')), $call, '40001' ],
	  also('ROLLBACK', 'CLOSE ALL');
}

# As an argument, in a condition, in a set, twice in a row
sub in_query
{
	my ($one, $other) = (expression(), expression());
	my $call = {
		function => $one->{function},
		errors => { %{ $one->{errors} }, %{ $other->{errors} }, %{ $other->{function}{errors} } } };

	return [
		DistlockWire::simple(
			one_of(
				"SELECT $one->{expression}, $other->{expression}",
				"SELECT 1 WHERE ($one->{expression})::text = '' OR ($other->{expression})::text <> ''",
				"SELECT * FROM $one->{expression} a, $other->{expression} b",
				"SELECT count(*) FROM generate_series(1, 3) WHERE ($one->{expression})::text IS NULL",
				"WITH a AS (SELECT $one->{expression}) SELECT (SELECT ($other->{expression})::text LIMIT 1) FROM a",
				"SELECT CASE WHEN random() < 0.5 THEN ($one->{expression})::text ELSE ($other->{expression})::text END"
			)),
		# a set where one value is expected, a procedure's result, a void
		$call, '40001', '0A000', '42846', '42804',
		'21000' ];
}

my @ODD = (
	'%s IS NOT NULL',
	'%s::text LIKE \'%%\\\'',
	'%s::text ~ \'(\'',
	'1 / length(%s::text) > 0',
	'%s IS DISTINCT FROM NULL',
	'%s = ANY (NULL)',
	'%s::text > repeat(\'x\', 1000)',
	'%s::text = \'\'',
	'random() < 0.5 OR %s IS NULL',
	'md5(%s::text) < \'8\'',
	'%s::text::int > 0',
	'hashtext(%s::text) %% 2 = 0',
	'%s IN (SELECT %s FROM distlock.%s)',
	'EXISTS (SELECT FROM distlock.%3$s v WHERE v.%1$s::text = %2$s::text)',
	'pg_typeof(%s) IS NULL',
	'%s::text SIMILAR TO \'%%(a|b)*\'',
	'true',
	'false',
	'NULL',
	'%s = %s');
my @AROUND = (
	'SELECT * FROM (%s) q',
	'SELECT count(*) FROM (%s) q',
	'SELECT q FROM (%s) q ORDER BY q',
	'SELECT row_to_json(q) FROM (%s) q',
	'%s FOR UPDATE',
	'%s LIMIT 1 OFFSET 1',
	'SELECT * FROM (%s) q ORDER BY random() LIMIT 3',
	'EXPLAIN (ANALYZE, COSTS OFF) %s',
	'CREATE TEMP TABLE tt ON COMMIT DROP AS %s',
	'DECLARE vc CURSOR WITH HOLD FOR %s',
	'SELECT DISTINCT ON (1) q::text FROM (%s) q',
	'SELECT q::text FROM (%s) q UNION SELECT NULL',
	'SELECT (q).* FROM (%s) q',
	'SELECT array_agg(q) FROM (%s) q');

sub in_view
{
	my $view = one_of(sort keys %views);
	my @columns = map { one_of(@{ $views{$view} }) } 1, 2;
	my $where = do { no warnings 'redundant', 'missing'; sprintf one_of(@ODD), @columns, $view };
	my $sql = sprintf one_of(@AROUND), "SELECT * FROM distlock.$view WHERE $where";

	$sql = one_of("UPDATE distlock.$view SET $columns[0] = NULL", "DELETE FROM distlock.$view")
	  if rand() < 0.02;
	return [
		DistlockWire::simple($sql), $view, '42501',
		# what becomes of odd conditions
		qw(22025 2201B 22012 22P02 22003 0A000 55000 42809 42804 42883 42725 42846 42P07 42P03
		  57014 25P02 40001 42P01 42P10 42601)
	  ],
	  also('CLOSE ALL');
}

# In a database of its own
sub with_ddl
{
	my $choice = rand;
	my @gone = qw(3F000 42P01 42883 42704 42710 42P06 2BP01 55000 55006 40P01 57014 42501 22023);
	my $key = 'any gone ' . int rand 5;
	my $drop = one_of(
		'DROP EXTENSION distlock CASCADE',
		'DROP EXTENSION distlock CASCADE',
		'DROP EXTENSION distlock',
		"SELECT distlock.do_exclusively('$key', '1 s', 'DROP EXTENSION distlock CASCADE')",
		"CALL distlock.run_exclusively('$key', '1 s', 'DROP EXTENSION distlock CASCADE')",
		"SELECT distlock.do_exclusively('$key', '1 s', 'DROP EXTENSION distlock CASCADE; CREATE EXTENSION distlock')",
		"BEGIN; SELECT distlock.acquire('$key', '1 s', scope => 'session'); DROP EXTENSION distlock CASCADE; ROLLBACK",
		"BEGIN; SELECT distlock.acquire('$key', '1 s'); DROP EXTENSION distlock CASCADE; COMMIT",
		'DROP SCHEMA distlock CASCADE',
		'ALTER EXTENSION distlock UPDATE',
		'ALTER EXTENSION distlock SET SCHEMA public');

	return map {
		ref $_
		  ? [ @$_, @gone ]
		  : [ DistlockWire::simple($_), undef, @gone, '0A000', '40001', 'LK001', '55P03' ]
	  } q{SET statement_timeout = '10s'}, $drop, 'ROLLBACK',
	  (map { statement($calls->draw) } 1 .. 3),
	  'CREATE EXTENSION IF NOT EXISTS distlock', 'RESET statement_timeout';
}

my @CONTEXTS = (
	[ 30, \&by_itself ],
	[ 25, \&in_plpgsql ],
	[ 12, \&transaction ],
	[ 2, \&read_only ],
	[ 3, \&repeatable_read ],
	[ 2, \&serializable ],
	[ 4, \&one_string ],
	[ 4, \&as_another ],
	[ 0.3, \&in_parallel ],
	[ 5, \&in_table ],
	[ 4, \&in_cursor ],
	[ 5, \&in_query ],
	[ 2, \&in_view ]);

# ---------------------------------------------------------------------------
# A session, in a process of its own
# ---------------------------------------------------------------------------

my %INTERNAL = map { $_ => 1 } qw(XX 58 08);
my $TOKEN = qr/tok~|\b[0-9a-f]{32}\b/;

# What a statement was answered is documented; else it is described.
sub judge_answer
{
	my ($found, $what, $call, $sqlstate, $message, @others) = @_;

	$found->{states}{$sqlstate}++;
	$message //= '';
	# Where PL/pgSQL was, it quotes the statement.
	push @{ $found->{leaks} }, "$what: $sqlstate $message"
	  if $message =~ s/^SQL statement ".*//msr =~ $TOKEN && @{ $found->{leaks} } < 10;
	return
	  if !$INTERNAL{ substr $sqlstate, 0, 2 }
	  && ( (defined $call && $calls->allows($call, $sqlstate))
		|| $sqlstate eq '57014'
		|| grep { $_ eq $sqlstate } @others);
	push @{ $found->{unexpected} }, substr("$sqlstate $message: $what", 0, 1500)
	  if @{ $found->{unexpected} } < 20;
	$found->{wrong}++;
	return;
}

sub count_call
{
	my ($found, $call, $sqlstate) = @_;

	$found->{calls}++;
	$found->{ $sqlstate eq '' ? 'well' : 'failed' }{ $call->{function}{name} }++;
	return;
}

sub read_answer
{
	my ($found, $statement, $result) = @_;
	my ($message, $call, @others) = @$statement;
	my $sqlstate = $result->{sqlstate};

	if (ref $call eq 'ARRAY')
	{
		# Calls in PL/pgSQL; if it was cancelled or refused, only some were made.
		my @values = @{ $result->{values} };

		judge_answer($found, 'a block', undef, $sqlstate, $result->{message}, @others)
		  if $sqlstate ne '';
		for my $i (0 .. $#values)
		{
			my ($state, $text) = split / /, $values[$i], 2;

			count_call($found, $call->[$i], $state // '');
			judge_answer($found, $call->[$i]{sql}, $call->[$i], $state, $text, '2D000', '40001')
			  if $values[$i] ne '';
		}
	}
	elsif (ref $call)
	{
		count_call($found, $call, $sqlstate) unless $sqlstate eq '25P02';
		$calls->result($call, $result->{values}[0]) if $sqlstate eq '';
		judge_answer($found, $call->{sql} // 'a query', $call, $sqlstate, $result->{message}, @others)
		  if $sqlstate ne '';
	}
	else
	{
		$found->{views}++ if defined $call;
		judge_answer($found, substr($message, 5, 300), undef, $sqlstate, $result->{message}, @others)
		  if $sqlstate ne '';
	}
	return;
}

sub draw_context
{
	my $total = 0;
	my @contexts = @_;

	$total += $_->[0] foreach @contexts;
	my $at = rand $total;
	foreach (@contexts)
	{
		return $_->[1] if ($at -= $_->[0]) < 0;
	}
	return $contexts[0][1];
}

my $FREE = 'SELECT distlock.force_release(key) FROM distlock.locks '
  . 'WHERE key IS NOT NULL AND expires_at > now() + interval \'2 s\'';

sub work
{
	my ($number, $round, $until, $file) = @_;
	my %found = (
		calls => 0,
		views => 0,
		wrong => 0,
		unexpected => [],
		leaks => [],
		states => {},
		well => {},
		failed => {});
	my $second = $number == @ROLES;
	my @contexts = $second ? (@CONTEXTS, [ 0.3, \&with_ddl ]) : @CONTEXTS;

	srand($run->seed * 1_000_003 + $round * 101 + $number);
	$calls->{id} = "$round.$number";
	eval {
		my $wire = DistlockWire->new(
			$node,
			dbname => $second ? 'second' : 'postgres',
			user => $ROLES[$number] // 'postgres',
			# What a command resets comes back to this.
			options => "-c statement_timeout=${TIMEOUT}ms");

		while (time < $until)
		{
			my @statements = map { draw_context(@contexts)->() } 1 .. $BATCH;

			push @statements,
			  map { [ DistlockWire::simple($_), undef, '25001' ] }
			  rand() < 0.1 ? 'DISCARD ALL' : 'SELECT pg_advisory_unlock_all()';
			# What is held for long, and nobody knows the token of, would be refused from then on.
			push @statements, [ DistlockWire::simple($FREE), undef, qw(42501 55P03 54000 40P01 LK001) ]
			  if rand() < 0.05;
			push @statements,
			  [ DistlockWire::simple('SET distlock.max_keys_per_transaction = ' . one_of(1, 3)),
				undef, '42501' ]
			  if rand() < 0.02;

			my @results = $wire->run(map { $_->[0] } @statements);

			read_answer(\%found, $statements[$_], $results[$_]) foreach 0 .. $#statements;
		}
		$wire->close;
		1;
	} or push @{ $found{unexpected} }, "session $number: $@" and $found{wrong}++;
	store(\%found, $file);
	return;
}

# All sessions for a time; adds up what they have found.
my %total = (wrong => 0, unexpected => [], leaks => []);

sub one_round
{
	my ($round, $seconds) = @_;
	my $until = time + $seconds;
	my %files;

	for my $number (0 .. @ROLES)
	{
		my $file = $node->basedir . "/found_$number";
		my $pid = fork() // die "could not fork: $!";

		if ($pid == 0)
		{
			eval { work($number, $round, $until, $file); 1 } or print STDERR $@;
			POSIX::_exit(0);
		}
		$files{$pid} = $file;
	}
	while (my ($pid, $file) = each %files)
	{
		waitpid($pid, 0);
		add_up(eval { retrieve($file) }
			  // { unexpected => ["a session has not come back: $@"], wrong => 1 });
		unlink $file;
	}
	return;
}

sub add_up
{
	my ($found) = @_;

	$run->add(calls => $found->{calls} // 0, view_queries => $found->{views} // 0);
	foreach my $kind ('states', 'well', 'failed')
	{
		$total{$kind}{$_} += $found->{$kind}{$_} foreach keys %{ $found->{$kind} // {} };
	}
	$total{wrong} += $found->{wrong};
	push @{ $total{$_} }, @{ $found->{$_} // [] } foreach 'unexpected', 'leaks';
	return;
}

# ---------------------------------------------------------------------------
# What is left afterwards
# ---------------------------------------------------------------------------

# Texts that were given to it look otherwise than tokens that were drawn.
package TokenJudge;

use parent -norequire, 'DistlockJudge';

sub granted
{
	my ($self, $before, $row) = @_;

	$row->{owner} = 'own token' if $row->{token} !~ /^[0-9a-f]{32}$/;
	return $self->SUPER::granted($before, $row);
}

package main;

my $judge = TokenJudge->new(table => 'distlock.lock', forced => 'forced', own_token => 'own token');

# Keys can have line breaks in them: a line is a change, in hexadecimal digits.
sub read_changes
{
	my $file = $node->basedir . '/changes';

	$node->safe_psql(
		'postgres', qq{
		SET synchronous_commit = local;
		SELECT pg_logical_emit_message(true, 'judge', '');
		SET timezone = 'UTC'; SET datestyle = 'ISO';
		\\o $file
		SELECT encode(convert_to(data, 'UTF8'), 'hex')
		FROM pg_logical_slot_get_changes('inputs', NULL, NULL, 'include-timestamp', 'on', 'skip-empty-xacts', 'on')
		WHERE data ~ '^(BEGIN|COMMIT|table distlock\\.lock:)'});
	open my $lines, '<', $file or die "could not read $file: $!";
	while (my $line = <$lines>)
	{
		chomp $line;
		$judge->change(pack 'H*', $line);
	}
	close $lines;
	unlink $file;
	return;
}

# Returns what is left in the lock manager once the sessions have gone, and what cannot be
# had again then: nothing.
sub left_over
{
	my $left;

	foreach my $dbname ('postgres', 'second')
	{
		$node->safe_psql($dbname,
			"SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = '$dbname' \\gexec"
		);
	}
	# Autovacuum calls functions, too: what an index is made of.  It ends by itself.
	eval {
		await('the sessions to end', sub { ($left = $node->safe_psql('postgres', <<'EOQ')) eq '' }); 1;
SELECT key, distlock.force_release(key) FROM distlock.locks WHERE key IS NOT NULL \g /dev/null
SELECT 'advisory lock', l.pid, l.objsubid, l.mode, a.backend_type, a.state, a.query
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND a.backend_type IS DISTINCT FROM 'distlock worker';
SELECT 'lock', * FROM distlock.locks;
EOQ
	};
	return $left;
}

# ---------------------------------------------------------------------------
# A session that goes on for long
# ---------------------------------------------------------------------------

sub memory_of
{
	my ($wire) = @_;
	my ($anonymous) = slurp_file('/proc/' . $wire->pid . '/status') =~ /^RssAnon:\s+(\d+) kB/m;
	my $contexts = $wire->value('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');

	return ($anonymous * 1024, $contexts);
}

# Returns the bytes that a session has grown by for each call, by the system's account, which
# varies by some MB (undef if that has valgrind's own in it), and by PostgreSQL's.  Who
# leaks grows all the time; so when it has grown, it is given as many calls again.
sub growth
{
	my ($count) = @_;
	my $wire = DistlockWire->new($node, options => "-c statement_timeout=${TIMEOUT}ms");
	my %found = (calls => 0, wrong => 0, unexpected => [], leaks => []);
	my $call = sub {
		my $until = $found{calls} + $_[0];

		while ($found{calls} < $until)
		{
			# Keys do not pile up, nor do what sessions hold.
			my @statements = map { draw_context(@CONTEXTS[ 0, 2, 6, 10 ])->() } 1 .. $BATCH;

			push @statements, also('SELECT pg_advisory_unlock_all()');
			my @results = $wire->run(map { $_->[0] } @statements);
			read_answer(\%found, $statements[$_], $results[$_]) foreach 0 .. $#statements;
		}
	};
	my $valgrind = readlink('/proc/' . $wire->pid . '/exe') =~ /valgrind/;
	my @growth;

	srand($run->seed + 17);
	$calls->{id} = 'leak';
	$call->(10_000);
	for (1 .. 4)
	{
		my @before = memory_of($wire);
		my $warm = $found{calls};

		$call->($count);
		my @after = memory_of($wire);
		note sprintf
		  'memory of a session: %d kB (contexts %d kB) after %d calls, %d kB (contexts %d kB) after %d',
		  $before[0] / 1024, $before[1] / 1024, $warm, $after[0] / 1024, $after[1] / 1024, $found{calls};
		$after[0] -= $UNSTEADY;
		@growth = map { ($after[$_] - $before[$_]) / ($found{calls} - $warm) } 0, 1;
		last if $growth[0] < $MOST_GROWTH;
	}
	$wire->close;
	add_up(\%found);
	return ($valgrind ? undef : $growth[0], $growth[1]);
}

# ---------------------------------------------------------------------------

$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('inputs', 'test_decoding')");
my $round = 0;
while ($run->go_on)
{
	my $left = $run->seconds - $run->elapsed;

	one_round($round++, $left < 5 ? 5 : $left < $ROUND ? $left : $ROUND);
	is(left_over(), '', "round $round: no key is left locked") or last;
	read_changes();
	last if $total{wrong} || $judge->violations;
}

# Functions that have not come to a good end, or a bad one, by chance do so now, at
# leisure.
my %well = %{ $total{well} };
my %failed = %{ $total{failed} };
my $calm = DistlockWire->new($node, dbname => 'second');
$calm->value('CREATE EXTENSION IF NOT EXISTS distlock');
# An extension that was created again is the successor of itself only with a new epoch.
$calm->value('SELECT distlock.advance_fence()');
$calm->run(DistlockWire::simple('SELECT distlock.start_worker()'));
await_connected(session($node, 'second')) if defined $redis;
foreach my $function (grep { $_->{name} ne 'require_lock' } @functions)
{
	my $name = $function->{name};

	for (1 .. 200)
	{
		last if $well{$name};
		my ($result) = $calm->run(statement($calls->draw(function => $function, sensible => 1))->[0]);
		$well{$name}++ if $result->{sqlstate} eq '';
	}
	next if $failed{$name};
	# If nothing else, nobody may call it.
	my @results = $calm->run(
		DistlockWire::simple('SET ROLE torture_nobody'),
		statement($calls->draw(function => $function, sensible => 1))->[0],
		DistlockWire::simple('RESET ROLE'));
	$failed{$name}++ if $results[1]{sqlstate} eq '42501';
}
$calm->close;
# As a trigger it has been called by the insert under the lock.
$well{require_lock} = $node->safe_psql('postgres', <<'EOQ');
SELECT distlock.do_exclusively('lease 1', '1 s', 'INSERT INTO torture.guarded VALUES (1)', wait => '1 min');
EOQ

my ($by_system, $by_postgres) =
  growth($run->full && !$total{wrong} && Test::More->builder->is_passing ? $LEAK_CALLS : 20_000);

note 'answers: ' . join ', ',
  map { "$_ $total{states}{$_}" }
  sort { $total{states}{$b} <=> $total{states}{$a} } keys %{ $total{states} };
note 'judged: ' . $judge->summary;
is($total{wrong}, 0, 'every answer is documented')
  or diag join "\n\n", grep { defined } @{ $total{unexpected} }[ 0 .. 9 ];
is_deeply($total{leaks}, [], 'no error shows a token');
is_deeply(
	[ map { $_->{name} } grep { !$well{ $_->{name} } } @functions ],
	$ENV{DISTLOCK_WITHOUT_REDIS} ? ['mirror_check'] : [],
	'every function was called with success');
is_deeply([ map { $_->{name} } grep { !$failed{ $_->{name} } } @functions ],
	[], '... and with an error');
is_deeply([ $judge->violations ], [], 'no lock was held twice, no fence went back')
  or diag $judge->evidence;
cmp_ok($judge->count('grants'), '>=', 500, 'there were grants to judge');
cmp_ok($run->figure('calls') / $run->elapsed, '>', 500 / $run->slowness, 'there were calls enough');
SKIP:
{
	skip "valgrind's own memory grows", 1 unless defined $by_system;
	cmp_ok($by_system, '<', $MOST_GROWTH, 'a session does not grow, says the system');
}
cmp_ok($by_postgres, '<', $MOST_GROWTH, '... and PostgreSQL');
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
is($node->safe_psql('postgres', <<'EOQ'), '', 'table and index are sound');
SELECT bt_index_check('distlock.lock_pkey', true);
SELECT * FROM verify_heapam('distlock.lock');
EOQ
$node->stop;
unlike(
	slurp_file($node->logfile),
	qr/PANIC:|FATAL:  XX|TRAP:|terminated by signal|XX000/,
	'no crash and no internal error');
$run->finish;
