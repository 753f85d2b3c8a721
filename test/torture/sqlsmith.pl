# Random queries by sqlsmith, with the functions and views of distlock among all others.
#
# sqlsmith makes queries of any depth of what the catalog has: the functions meet joins,
# aggregates, CASE, RETURNING and windows, and arguments that are columns, NULL, or other
# functions' results.  It reads a catalog of ours, in front of the true one, that has fewer
# functions of PostgreSQL, so that ours are called often, and none of those that read files or end
# processes.  A superuser does it, and a role with the rights that docs/operations.md
# gives to one who locks.
#
# The server's log tells what became of it.  There are internal errors of PostgreSQL's own, mostly in
# functions for types, which are shown; one that has its place in our sources, or in what they
# rest on when the query calls us, a crash, or a failed assertion, is a failure.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockTorture;
use DistlockWorker;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $AT_ONCE = 2;    # processes

plan
  skip_all => 'there is no sqlsmith here'
  unless grep { -x "$_/sqlsmith" } split /:/,
  $ENV{PATH};

my $run = DistlockTorture->new('sqlsmith', seconds => 20, goals => { queries => 100_000 });
my $QUERIES = int(($run->seconds >= 60 || $run->full ? 2000 : 500) / $run->slowness);    # of a process

# Where undefined behaviour is watched for, random queries find some of PostgreSQL's own,
# such as int4shr(1, 93): that is passed over, see read_log().
$ENV{UBSAN_OPTIONS} = 'print_stacktrace=1:halt_on_error=0' if defined $ENV{UBSAN_OPTIONS};

my $node = new_node('main', conf => preloaded(<<'EOC'));
log_statement = none
log_error_verbosity = verbose
log_min_error_statement = error
log_min_messages = warning
track_functions = all
distlock.purge_after = 100ms
jit = off
EOC

# ---------------------------------------------------------------------------
# The surroundings
# ---------------------------------------------------------------------------

# Sensible values come from columns: a function whose every argument is NULL does not do
# much.  A column of the type that is asked for is what sqlsmith likes best.
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE smith_text (a text, b text, c text, d text);
INSERT INTO smith_text
SELECT (ARRAY['key 1', 'key 2', 'key 3', 'key 4', 'tok', 'lease', 'session', 'transaction', '',
		repeat('x', 600), 'x' || i])[1 + i % 11],
	(ARRAY['key 1', 'key 2', 'tok', 'lease'])[1 + i % 4],
	(ARRAY['tok', 'other', 'lease', 'SELECT 1', 'SELECT 1/0'])[1 + i % 5], 'lease'
FROM generate_series(1, 20) i;
CREATE TABLE smith_interval (a interval, b interval, c interval);
INSERT INTO smith_interval
SELECT v.* FROM generate_series(1, 5), (VALUES
	('1 ms'::interval, '5 ms'::interval, '0'::interval), ('20 ms', '0', '1 ms'),
	('-1 s', '1 mon', '100000 years'), ('1 s', NULL, '2 ms')) v;
CREATE TABLE smith_mixed (k text, token text, ttl interval, wait interval, scope text,
	r distlock.retry, n integer, f bigint, at timestamptz, ok boolean, who name, o oid);
INSERT INTO smith_mixed
SELECT 'key ' || i % 4, 'tok', '5 ms', '0', (ARRAY['lease', 'session', 'transaction'])[1 + i % 3],
	CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN ('1 ms', '2 ms', 2)::distlock.retry
		WHEN 2 THEN (NULL, NULL, -1)::distlock.retry
		ELSE ('-1 s', '1 year', 5)::distlock.retry END,
	i - 2, i, now() + i * interval '1 s', i % 2 = 0, 'name ' || i, i
FROM generate_series(0, 19) i;
-- as users would have them: in views, defaults, a CHECK constraint and a trigger
CREATE VIEW smith_acquire AS
SELECT k, distlock.try_acquire(k, ttl, wait, scope, who::text, token, CASE WHEN ok THEN r END) AS taken,
	distlock.try_acquire_with_token(k, token, ttl, wait) AS fence, distlock.is_held(k) AS held
FROM smith_mixed WHERE n < 6;
CREATE VIEW smith_keep AS
SELECT k, n, distlock.try_extend(k, token, ttl) AS extended,
	distlock.try_ensure(k, token, ttl) AS ensured, distlock.extend_all(token, ttl) AS all_extended,
	distlock.try_release(k, token) AS released, distlock.ttl(k, token) AS ttl,
	distlock.fence(k, token) AS fence
FROM smith_mixed WHERE n < 4;
CREATE VIEW smith_work AS
SELECT k, distlock.try_do_exclusively(k, ttl, 'SELECT distlock.current_fence()', wait) AS done,
	distlock.key_id(k) AS id,
	distlock.retry_delay(distlock.limit_retry(distlock.exponential_backoff('1 ms', ttl), 5), n) AS delay
FROM smith_mixed WHERE n BETWEEN 1 AND 4;
CREATE TABLE smith_default (k text DEFAULT distlock.try_acquire('key 3', '1 ms'),
	f bigint DEFAULT distlock.try_acquire_with_token('key 4', 'tok', '5 ms'),
	held boolean DEFAULT distlock.is_held('key 1') CHECK (held IS NULL OR distlock.is_held('key 1')));
CREATE TABLE smith_guarded (k text, n integer);
CREATE TRIGGER only_under_lock BEFORE INSERT OR UPDATE OR DELETE ON smith_guarded
	FOR EACH STATEMENT EXECUTE FUNCTION distlock.require_lock('key 1');
CREATE ROLE smith LOGIN;
REVOKE USAGE ON SCHEMA distlock FROM PUBLIC;
REVOKE SELECT ON distlock.locks, distlock.waiters FROM PUBLIC;
GRANT USAGE ON SCHEMA distlock TO smith;
GRANT SELECT ON distlock.locks, distlock.waiters TO smith;
GRANT ALL ON ALL TABLES IN SCHEMA public TO smith;
-- locks that others hold for long
SELECT distlock.acquire_with_token('key 1', 'tok', '1 h'),
	distlock.acquire_with_token('key 2', 'not known', '1 h');

-- What sqlsmith takes for the catalog of functions
CREATE SCHEMA smith;
GRANT USAGE ON SCHEMA smith TO PUBLIC;
CREATE TABLE smith.pg_proc AS SELECT * FROM pg_catalog.pg_proc WHERE false;
CREATE INDEX ON smith.pg_proc (oid);
GRANT SELECT ON smith.pg_proc TO PUBLIC;
-- Half of its queries are wrong because a NULL of type anyrange and the like makes no sense.
CREATE TYPE public.smith_enum AS ENUM ('a', 'b');
CREATE VIEW smith.pg_type AS
SELECT oid, CASE typname WHEN 'anyrange' THEN 'int4range' WHEN 'anymultirange' THEN 'int4multirange'
		WHEN 'anyenum' THEN 'smith_enum' ELSE typname END AS typname,
	CASE typname WHEN 'anyenum' THEN 'public'::regnamespace ELSE typnamespace END AS typnamespace,
	typdelim, typrelid, typelem, typarray, typtype, typowner, typlen, typcategory, typisdefined,
	typbasetype, typnotnull
FROM pg_catalog.pg_type;
GRANT SELECT ON smith.pg_type TO PUBLIC;
CREATE PROCEDURE smith.draw(seed text, hidden text[]) LANGUAGE sql AS $$
DELETE FROM smith.pg_proc;
INSERT INTO smith.pg_proc
SELECT * FROM pg_catalog.pg_proc p
WHERE pronamespace = 'distlock'::regnamespace AND prokind = 'f' AND proname <> ALL (hidden) OR oid IN (
	(SELECT oid FROM pg_catalog.pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile <> 'v' AND prokind = 'f'
		AND NOT EXISTS (SELECT FROM unnest(proargtypes) a WHERE a::regtype::text NOT IN
			('text', 'interval', 'integer', 'bigint', 'boolean', 'timestamp with time zone', 'double precision', 'numeric', 'name', 'oid', 'json', 'jsonb'))
	ORDER BY md5(proname || oid || seed) LIMIT 60)
	UNION ALL
	(SELECT oid FROM pg_catalog.pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'a' AND proargtypes::text !~ '2276|22\d\d|50\d\d'
	ORDER BY md5(proname || oid || seed) LIMIT 30));
$$;
EOQ

# ---------------------------------------------------------------------------
# sqlsmith
# ---------------------------------------------------------------------------

my $log = $node->logfile;
my $read = -s $log;
my %sources = map { m{([^/]+)$} => 1 } glob "$FindBin::RealBin/../../src/*.c";
my %errors;    # by SQLSTATE
my ($ours, $of_others, $undefined) = (0, 0, 0);
my (@bad, %strange);

# What our sources rest on: tables, indexes, locks, transactions, processes
my $UNDERNEATH =
  qr/^(?:lock|lmgr|proc|procarray|deadlock|condition_variable|latch|heap\w+|hio|nbt\w+|indexam
	|genam|tableam|relation|table|sequence|xact|snapmgr|spi|async|dsm\w*|shm\w*|bgworker|bufmgr
	|tuplestore|execTuples|funcapi|mcxt|aset|resowner)\.c$/x;

cmp_ok(scalar keys %sources, '>', 20, 'the names of our sources are known');

# A process of sqlsmith: returns its number.
sub start
{
	my ($number) = @_;
	my $role = $number % 3 == 2 ? 'smith' : 'postgres';
	my $seed = int rand 1_000_000;
	my @options = ("--seed=$seed", "--max-queries=$QUERIES", rand() < 0.9 ? '--exclude-catalog' : ());
	my $target = $node->connstr('postgres')
	  . " user=$role options='-csearch_path=smith,pg_catalog,public -clock_timeout=100 -cstatement_timeout=30s'";
	my $output = $node->basedir . "/sqlsmith_$number";
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $output;
		open STDERR, '>&', \*STDOUT;
		exec 'timeout', 1200, 'sqlsmith', "--target=$target", @options or POSIX::_exit(127);
	}
	return { pid => $pid, output => $output, what => "$role @options" };
}

# Waits for its end.  Without a server it would go on trying.
sub status_of
{
	my ($process) = @_;

	while (waitpid($process->{pid}, POSIX::WNOHANG()) == 0)
	{
		usleep(100_000);
		kill 'TERM', $process->{pid} unless -e $node->data_dir . '/postmaster.pid';
	}
	return $?;
}

# What the server has logged since the last call.
sub read_log
{
	open my $file, '<', $log or die "could not read $log: $!";
	seek $file, $read, 0;
	my $text = do { local $/; <$file> }
	  // '';
	close $file;
	$read += length $text;

	push @bad, $1 while $text =~ /^(.*(?:PANIC:|TRAP:|terminated by signal|FATAL:  XX).*)$/mg;
	while ($text =~ /^(\S+: runtime error: .*\n(?:\s+#\d.*\n)*)/mg)
	{
		my $report = $1;
		my @frames = $report =~ m{([^/\s]+\.[ch]):\d+}g;

		$undefined++;
		# The first is in the message, and again on top of the stack.
		push @bad, $report if grep { defined && $sources{$_} } @frames[0 .. 3];
	}
	while ($text =~
		/^\S+ \S+ \S+ \[\d+\][^\n]*? (?:ERROR|FATAL):  (\w{5}): (.*?)(?=^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \w+ \[\d+\][^\n]*? (?:ERROR|FATAL|WARNING|LOG|PANIC): |\z)/msg
	  )
	{
		my ($state, $entry) = ($1, $2);
		my ($function, $source) = $entry =~ /LOCATION:  (\w+), (\w+\.c):/;

		$errors{$state}++;
		$source //= '';
		$ours++ if $sources{$source};
		next unless $state =~ /^(?:XX|58|08)/;
		if ($sources{$source} || ($source =~ $UNDERNEATH && $entry =~ /STATEMENT:.*\bdistlock\./s))
		{
			push @bad, "$state $entry";
		}
		elsif ($entry =~ /STATEMENT:.*\bdistlock\./s)
		{
			$of_others++;
			$strange{"$function, $source: " . ($entry =~ /^([^\n]*)/)[0]} = $entry;
		}
	}
	return;
}

my $round = 0;
while ($round == 0 || $run->go_on)
{
	# What takes long, or is liked too much, is not always there.
	my @hidden = grep { rand() < 0.9 } 'start_worker', 'stop_worker', 'advance_fence', 'mirror_check';

	$node->safe_psql('postgres',
		"CALL smith.draw('" . rand . "', ARRAY[" . join(', ', map { "'$_'" } '', @hidden) . "])");
	my @processes = map { start($round++) } 1 .. $AT_ONCE;

	foreach my $process (@processes)
	{
		my $status = status_of($process);
		my $output = slurp_file($process->{output});

		if ($status == 0) { $run->add(queries => $QUERIES); }
		else { push @bad, "sqlsmith $process->{what}: status $status, " . substr $output, -300; }
		unlink $process->{output};
	}
	read_log();
	is(join("\n", @bad), '', 'nothing came of it that should not') or last if @bad;
}

# ---------------------------------------------------------------------------
# Did it do what it is for?
# ---------------------------------------------------------------------------

my %called = map { split /\|/ } split /\n/, $node->safe_psql('postgres', <<'EOQ');
SELECT funcname, calls FROM pg_stat_user_functions WHERE schemaname = 'distlock' ORDER BY 1
EOQ
my $calls = $ours;
$calls += $_ foreach values %called;
$run->add(calls => $calls, errors_of_distlock => $ours);

note 'errors: ' . join ', ', map { "$_ $errors{$_}" } sort { $errors{$b} <=> $errors{$a} } keys %errors;
note 'functions called, and how often they returned: ' . join ', ',
  map { "$_ $called{$_}" } sort keys %called;
note "reports on undefined behaviour of PostgreSQL: $undefined";
note "internal errors of PostgreSQL in queries with distlock: $of_others" . join '',
  map { "\n$_" } sort keys %strange;
is(join("\n", @bad), '', 'no crash, no failed assertion, no internal error of distlock');
cmp_ok($run->figure('queries'), '>=', $QUERIES, 'queries were run');
cmp_ok($calls, '>=', $run->figure('queries') / 20, 'functions of distlock were called often enough');
cmp_ok($ours, '>', 20 / $run->slowness, 'they had to refuse something');
cmp_ok(scalar(grep { $_ > 0 } values %called), '>=', $run->slowness > 1 ? 5 : 15, 'most of them returned something');
await('the sessions to end', sub { traces($node) !~ /class 19456/ });
ok(1, 'no key is left locked');
is($node->safe_psql('postgres', "SELECT distlock.extend('key 1', 'tok', '1 h') IS NOT NULL"),
	't', 'what was held before still is');
$node->stop;
$run->finish;
