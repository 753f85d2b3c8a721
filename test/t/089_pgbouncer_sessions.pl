# What belongs to a session does not go with a client through PgBouncer in
# transaction mode: this pins down what the manual says of it there, that is how
# locks of scope "session", LISTEN and SET go wrong, and that nothing worse happens.
# In session mode they work, and DISCARD ALL ends them with the client.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockPgbouncer;
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_pgbouncer();
my $node = new_node('main', conf => 'client_connection_check_interval = 10ms');
my $pooler = DistlockPgbouncer->new($node, 'transaction', default_pool_size => 2,
	aliases => { guarded => "dbname=postgres connect_query='SET distlock.session_scope = off'" });
my $direct = session($node);
$direct->query(<<'EOQ');
CREATE TABLE precious (who text);
CREATE TRIGGER only_under_lock BEFORE INSERT ON precious
	FOR EACH STATEMENT EXECUTE FUNCTION distlock.require_lock('key');
EOQ

# A client of the pooler, which has only this one connection of the server while
# $busy is in a transaction.
my ($busy, $one, $two) = map { session($pooler, 'postgres') } 1 .. 3;

sub acquire
{
	$one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h', scope => 'session')");
	return;
}

sub is_held
{
	return $direct->query("SELECT distlock.is_held('key')");
}

# ---------------------------------------------------------------------------
# Transaction mode: scope "session"
# ---------------------------------------------------------------------------

$busy->query('BEGIN; SELECT pg_backend_pid()');
acquire();
my $connection = $one->query('SELECT pg_backend_pid()');
is($direct->query('SELECT scope, pid FROM distlock.locks'), "session|$connection",
	'the lock of scope "session" is the server connection\'s');
is($two->fails("SELECT distlock.acquire('key', '1 min')"), '55P03', '... so another client does not get it');
is($direct->fails("INSERT INTO precious VALUES ('direct')"), 'LK001', '... and require_lock keeps others out');
is($two->fails("INSERT INTO precious VALUES ('two')"), '', '... but not who comes over the same connection');
is($two->query("SELECT distlock.try_release('key', 'not mine')"), 'f', '... who cannot release it without its token');

$one->quit;
is(is_held(), 't', 'it does not end with its client');
is($two->query("SELECT distlock.try_release('key', 'one')"), 't', '... but whoever knows the token can release it');
is(is_held(), 'f', '... over any connection');

$busy->query('COMMIT');
$one = session($pooler, 'postgres');
acquire();
$pooler->console('RECONNECT');
await('the connection to be closed', sub { is_held() eq 'f' });
is($one->query('SELECT 1'), '1', 'when the pooler renews its connections, the lock is gone');
is($one->query("SELECT distlock.try_release('key', 'one')"), 'f', '... of which its client is told only when it asks');

acquire();
$one->query('DISCARD ALL');
is(is_held(), 'f', 'DISCARD ALL of any client on that connection ends it');

# With a reset after each transaction, at least nobody else can come to have it.
$_->quit foreach $one, $two, $busy;
$pooler->restart_with(server_reset_query_always => 1);
$one = session($pooler, 'postgres');
acquire();
await('the connection to be reset', sub { is_held() eq 'f' });
pass('server_reset_query_always: the lock ends with the transaction');
$one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h')");
is($one->query("SELECT distlock.try_release('key', 'one')"), 't', '... a lease does not');

# Switched off, by the administrator or by the pooler, it is an error that says why.
for my $how ('the database', 'connect_query')
{
	my $what = "switched off by $how";

	$one->quit;
	$direct->query('ALTER DATABASE postgres SET distlock.session_scope = off') if $how eq 'the database';
	$pooler->restart_with(server_reset_query_always => 0);
	$one = session($pooler, $how eq 'connect_query' ? 'guarded' : 'postgres');
	for my $call ("acquire('key', '1 min', scope => 'session')",
		"try_acquire('key', '1 min', scope => 'session')",
		"acquire_with_token('key', 'one', '1 min', scope => 'session')")
	{
		is($one->fails("SELECT distlock.$call"), '0A000', "$what: $call");
	}
	like($one->stderr, qr/DETAIL: .*pooler.*\nHINT: .*lease/, '... says why, and what to do');
	is(is_held(), 'f', '... nothing is locked');
	is($one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h') > 0,
		distlock.try_release('key', 'one')"), 't|t', '... leases work');
	$one->query("CALL distlock.run_exclusively('key', '1 min', 'SELECT 1')");
	is($one->sqlstate, '', '... and run_exclusively');
	$direct->query('ALTER DATABASE postgres RESET distlock.session_scope');
}
is($direct->query("SELECT distlock.acquire_with_token('key', 'one', '1 h', scope => 'session') > 0,
	distlock.try_release('key', 'one')"), 't|t', 'a connection of its own has it');

# ---------------------------------------------------------------------------
# Transaction mode: LISTEN, SET
# ---------------------------------------------------------------------------

# One connection, so that it is sure who gets what.
$one->quit;
$pooler->restart_with(server_reset_query_always => 0, default_pool_size => 1);
($one, $two) = map { session($pooler, 'postgres') } 1, 2;
my $received = qr/Asynchronous notification "distlock"/;

is($one->fails('LISTEN distlock'), '', 'LISTEN is accepted');
$direct->query("SELECT distlock.acquire_with_token('other', 'x', '1 h'), distlock.force_release('other')");
await('a notification to be lost', sub { slurp_file($pooler->logfile) =~ /got packet 'A' from server when not linked/ });
unlike($one->query('SELECT 1'), $received, '... but a notification that comes meanwhile is dropped');
$two->query('BEGIN');
$direct->query("SELECT distlock.acquire_with_token('other', 'x', '1 h'), distlock.force_release('other')");
like($two->query('SELECT pg_sleep(0); COMMIT'), $received, '... or goes to another client');

# (The library must be loaded, for its settings to have their defaults.)
$one->query("SELECT distlock.key_id('key')");
is($one->query('SET distlock.durable = off; SELECT 1'), '1', 'SET is accepted');
is($two->query('SHOW distlock.durable'), 'off', '... and is another client\'s as well');
$one->query('RESET distlock.durable');
is($one->query('BEGIN; SET LOCAL distlock.durable = off; SHOW distlock.durable; COMMIT; SHOW distlock.durable'), "off\non",
	'... SET LOCAL is not');

# The views have a process of the server, and what that is called now.
{
	local $ENV{PGAPPNAME} = 'app of one';
	$_->quit foreach $one, $two;
	$one = session($pooler, 'postgres');
	$ENV{PGAPPNAME} = 'app of two';
	$two = session($pooler, 'postgres');
}
$one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h', owner => 'client one')");
$two->query('SELECT 1');
is($direct->query('SELECT application_name, owner FROM distlock.locks'), 'app of two|client one',
	'a lock shows under the name of who uses the connection now, and with its own owner');
$one->query("SELECT distlock.release('key', 'one')");

# ---------------------------------------------------------------------------
# Statement mode
# ---------------------------------------------------------------------------

$_->quit foreach $one, $two;
$pooler->restart_with(pool_mode => 'statement');
$one = session($pooler, 'postgres');
is($one->query("SELECT distlock.acquire_with_token('key', 'one', '1 h') > 0"), 't', 'statement mode: a lease');
$one->query("SELECT distlock.release('key', 'one')");
is($one->query("SELECT distlock.do_exclusively('key', '1 min', 'SELECT 1')"), '1', '... do_exclusively');
$one->query(<<'EOQ');
CALL distlock.run_exclusively('key', '1 min', 'DO $$ BEGIN PERFORM 1; COMMIT; PERFORM 2; END $$')
EOQ
pass('... run_exclusively, which commits in between');
$one->send('BEGIN');
$one->result;
like($one->stderr, qr/transaction blocks not allowed/, '... and nothing that takes a transaction block');

# ---------------------------------------------------------------------------
# Session mode
# ---------------------------------------------------------------------------

$one->quit;

# The client after $one on the same connection of the server.
sub next_client
{
	my $client;

	$one->quit;
	$client = session($pooler, 'postgres');
	is($client->pid, $one->pid, '... the next client has the same connection');
	return $client;
}

$pooler->restart_with(pool_mode => 'session');
$one = session($pooler, 'postgres');
acquire();
$one->query('LISTEN distlock');
is($one->query("INSERT INTO precious VALUES ('one') RETURNING 1"), '1', 'session mode: the lock is the client\'s');
$direct->query("SELECT distlock.acquire_with_token('other', 'x', '1 h'), distlock.force_release('other')");
like($one->query('SELECT 1'), $received, '... and notifications come');
$one = next_client();
is(is_held(), 'f', '... the lock ended with its client');
is($one->query('SELECT count(*) FROM pg_listening_channels()'), '0', '... which does not listen');
acquire();
$one->kill_client;
await('the lock to end', sub { is_held() eq 'f' });
pass('... also when the client is killed');

# It is the reset that does it.
$pooler->restart_with(server_reset_query => '');
$one = session($pooler, 'postgres');
acquire();
$one = next_client();
is(is_held(), 't', 'without server_reset_query, the lock stays');
is($one->query("INSERT INTO precious VALUES ('next') RETURNING 1"), '1', '... and counts as the next client\'s');

$_->quit foreach $one, $direct;
$pooler->stop;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
