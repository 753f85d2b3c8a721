# Behind PgBouncer in transaction mode, with eight clients and three server
# connections, leases, guards, do_exclusively and run_exclusively keep clients
# apart, whichever connection a statement comes over: by simple queries, by the
# extended protocol, and by prepared statements if this PgBouncer knows them.
# One that does not raises an error and does no damage.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockPgbouncer;
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $CLIENTS = 8;
my $RUNS = 25;              # of each client, and more of those that may fail
my $CONNECTIONS = 3;

skip_without_pgbouncer();
my $knows_prepared = DistlockPgbouncer::version(1, 21);
my $node = new_node('main', conf => 'client_connection_check_interval = 10ms');
my $pooler = DistlockPgbouncer->new($node, 'transaction',
	default_pool_size => $CONNECTIONS, server_round_robin => 1,
	$knows_prepared ? (max_prepared_statements => 100) : ());
my $direct = session($node);

# A counter that loses updates unless those who count keep out of each other's
# way, and a book of who has counted.
$direct->query(<<'EOQ');
CREATE TABLE counter (value int);
INSERT INTO counter VALUES (0);
CREATE TABLE counted (id serial, way text, fence bigint, began_in int, ended_in int);
CREATE FUNCTION count_up(way text, fence bigint, began_in int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	seen int := (SELECT value FROM counter);
BEGIN
	PERFORM pg_sleep(0.001);
	UPDATE counter SET value = seen + 1;
	INSERT INTO counted (way, fence, began_in, ended_in)
		VALUES (count_up.way, count_up.fence, count_up.began_in, pg_backend_pid());
END $$;
CREATE PROCEDURE count_twice() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count_up('run', distlock.current_fence(), pg_backend_pid());
	COMMIT;
	PERFORM count_up('run', distlock.current_fence(), pg_backend_pid());
END $$;
EOQ

# A lease over three transactions, and its waits are short: see 088_pgbouncer_pool.pl.
my %script;
$script{lease} = <<'EOQ';
SELECT coalesce(distlock.try_acquire_with_token('key', 'client ' || :client_id, '1 min', wait => '2 ms'), 0) AS fence,
	pg_backend_pid() AS pid \gset
\if :fence
SELECT distlock.extend('key', 'client ' || :client_id, '2 min');
BEGIN;
SELECT distlock.guard('key', 'client ' || :client_id);
SELECT count_up('lease', :fence, :pid);
SELECT distlock.release('key', 'client ' || :client_id);
COMMIT;
\endif
EOQ
# Who holds these locks has a connection, so the others may wait for long.
$script{exclusively} = <<'EOQ';
SELECT distlock.do_exclusively('key', '1 min', wait => '2 min',
	command => 'SELECT count_up(''do'', distlock.current_fence(), pg_backend_pid())');
CALL distlock.run_exclusively('key', '1 min', wait => '2 min', command => 'CALL count_twice()');
EOQ
# The same in a transaction block, where a pooler may not change the connection.
$script{transaction} = <<'EOQ';
BEGIN;
SELECT distlock.acquire_with_token('key', 'client ' || :client_id, '1 min', wait => '2 min', scope => 'transaction');
SELECT count_up('transaction', distlock.fence('key', 'client ' || :client_id), pg_backend_pid());
COMMIT;
EOQ

my $dir = PostgreSQL::Test::Utils::tempdir();

# Run a script by all clients, each in a thread of its own, since pgbench blocks when
# it prepares; returns the exit status and what it complained of.
sub bench
{
	my ($name, $protocol) = @_;
	my $file = "$dir/$name.sql";
	my ($out, $err);

	PostgreSQL::Test::Utils::append_to_file($file, $script{$name}) unless -e $file;
	IPC::Run::run([ 'pgbench', '-n', '-c', $CLIENTS, '-j', $CLIENTS, '-t', $name eq 'lease' ? 4 * $RUNS : $RUNS, '-M', $protocol, '-f', $file,
			$pooler->connstr('postgres') ], '>', \$out, '2>', \$err);
	return ($? >> 8, $err);
}

sub clear
{
	$direct->query('TRUNCATE counted; UPDATE counter SET value = 0');
	return;
}

# Whoever has counted has done so alone, and the fences tell in which order.
sub all_counted_alone
{
	my ($what) = @_;

	is($direct->query(<<'EOQ'), '0|0', $what);
SELECT value - (SELECT count(*) FROM counted),
	(SELECT count(*) FROM (SELECT fence < lag(fence) OVER (ORDER BY id) AS back FROM counted) f WHERE back)
FROM counter
EOQ
	return;
}

my @protocols = ('simple', 'extended', $knows_prepared ? 'prepared' : ());

for my $protocol (@protocols)
{
	my ($status, $err) = bench('lease', $protocol);

	is($status, 0, "$protocol: leases") or diag $err;
	all_counted_alone('... every client has counted alone');
	my ($count, $elsewhere) = split /\|/,
	  $direct->query('SELECT count(*), count(*) FILTER (WHERE began_in <> ended_in) FROM counted');
	cmp_ok($elsewhere, '>', 0, "... $elsewhere of $count leases have come over more than one connection");
	clear();

	foreach my $name ('exclusively', 'transaction')
	{
		($status, $err) = bench($name, $protocol);
		is($status, 0, "$protocol: $name, with long waits") or diag $err;
		all_counted_alone('... every client has counted alone');
		is($direct->query('SELECT count(*) FROM counted'), $CLIENTS * $RUNS * ($name eq 'exclusively' ? 3 : 1),
			'... every time');
		is($direct->query('SELECT bool_and(began_in = ended_in) FROM counted'), 't', '... over one connection');
		clear();
	}
	is($direct->query('SELECT distlock.is_held(\'key\')'), 'f', "$protocol: in the end nobody has the lock");
	is(traces($node), '', '... and nothing is left');
}

# Without PgBouncer's help a prepared statement stays behind on a connection that
# goes to somebody else.
$pooler->restart_with(max_prepared_statements => 0) if $knows_prepared;
my ($status, $err) = bench('lease', 'prepared');
isnt($status, 0, 'prepared statements that the pooler does not know');
like($err, qr/prepared statement "\w+" (does not|already) exist/, '... are an error');
all_counted_alone('... and no client has counted along with another');
$direct->query("SELECT distlock.force_release('key')");
$pooler->restart_with;

# ---------------------------------------------------------------------------
# What happens to waiters
# ---------------------------------------------------------------------------

my ($one, $two) = map { session($pooler, 'postgres') } 1, 2;
$one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h')");

$two->send("SELECT distlock.acquire('key', '1 min', wait => '1 h')");
await_waiters($node, 'key', 1);
$two->{run}->signal('INT');
$two->result;
is($two->sqlstate, '57014', 'Ctrl-C of a waiting client gets through');
await_waiters($node, 'key', 0);
$two->quit;

$two = session($pooler, 'postgres');
$two->send("SELECT distlock.acquire('key', '1 min', wait => '1 h')");
await_waiters($node, 'key', 1);
$two->kill_client;
await_waiters($node, 'key', 0);
pass('a waiter goes when its client is killed');
is($pooler->pool('postgres', 'sv_active'), 0, '... and frees its place in the pool');

# The connections change, the lease does not.
my $before = $one->query('SELECT pg_backend_pid()');
$pooler->console('RECONNECT');
isnt($one->query('SELECT pg_backend_pid()'), $before, 'all connections of the pool are new');
is($one->query("SELECT distlock.extend('key', 'one', '1 h') > clock_timestamp()"), 't', '... the lease is as before');
$pooler->restart_with;
$one->quit;
$one = session($pooler, 'postgres');
$one->query("SELECT distlock.release('key', 'one')");
is($one->query("SELECT distlock.is_held('key')"), 'f', '... also when the pooler was started anew');

$_->quit foreach $one, $direct;
$pooler->stop;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
