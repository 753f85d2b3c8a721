# Tokens show up nowhere but in the hands of who asked for them: not in the
# server's log, however talkative, not in errors, not in any view.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Everything is logged, except what users type.
my $node = new_node('main', conf => <<'EOC');
log_statement = none
log_min_messages = debug5
log_error_verbosity = verbose
log_min_error_statement = panic
log_lock_waits = on
deadlock_timeout = 100ms
debug_print_plan = off
log_parameter_max_length = -1
EOC
my $session = session($node);
my $other = session($node);
my $errors = '';

# The tokens are handed from call to call in a temporary table, so that no
# statement contains one.  Its own statements are the only ones that read it.
$session->query(<<'EOQ');
SET client_min_messages = debug5;
SET application_name = 'the holder';
CREATE TEMP TABLE tokens (key text, token text);
EOQ

sub run
{
	my ($who, $sql) = @_;

	$who->send($sql);
	$who->result;
	$errors .= $who->stderr;
	return;
}

# The right tokens, generated and chosen, then wrong ones
for my $key ('a', 'b', 'c', 'd')
{
	run($session, "INSERT INTO tokens SELECT '$key', distlock.acquire('$key', '1 h', owner => 'me')");
}
run($session, "INSERT INTO tokens SELECT 'chosen', 'chosen-' || md5(random()::text)");
run($session, "SELECT distlock.acquire_with_token(key, token, '1 h', data => 'd') FROM tokens WHERE key = 'chosen'");
run($session, "SELECT distlock.acquire_with_token(key, token, '2 h') FROM tokens WHERE key = 'chosen'");
for my $call (
	"distlock.extend(key, token)",
	"distlock.ensure(key, token, '3 h')",
	"distlock.ttl(key, token)",
	"distlock.fence(key, token)",
	"distlock.extend('x' || key, token)",
	"distlock.release('x' || key, token)",
	"distlock.acquire_with_token('a', 'x' || token, '1 h')",
	"distlock.acquire_with_token('a', repeat(token, 20), '1 h')",
	"distlock.acquire_with_token(key, token, '-1 h')",
	"distlock.acquire_with_token('x', token, '1 h', scope => 'none')",
	"distlock.acquire_with_token('x', token, '1 h', scope => token)",
	"distlock.extend_all(token, '2 h')",
	"distlock.release_all('x' || token)")
{
	run($session, "SELECT $call FROM tokens ORDER BY key = 'a'");
}

# Waits that end in each way, and a deadlock
my $pid = $session->pid;
$other->query("SET application_name = 'the other'");
run($other, "SELECT distlock.acquire('a', '1 h', wait => '300 ms')");
run($other, "SET lock_timeout = '300 ms'; SELECT distlock.acquire('a', '1 h', wait => '1 min')");
run($other, "SET statement_timeout = '1 s'; SELECT distlock.acquire('a', '1 h', wait => '1 min')");
$other->query('RESET ALL');
$session->query("BEGIN; INSERT INTO tokens SELECT 'one', distlock.acquire('one', '1 h')");
$other->query("BEGIN; SELECT length(distlock.acquire('two', '1 h'))");
$other->send("SELECT length(distlock.acquire('one', '1 h', wait => '1 min'))");
await_waiters($node, 'one', 1);
run($session, "INSERT INTO tokens SELECT 'two', distlock.acquire('two', '1 h', wait => '1 min')");
$other->result;
$errors .= $other->stderr;
like($errors, qr/40P01/, 'there was a deadlock');
$_->query('ROLLBACK') foreach $session, $other;

# A wait that succeeds, a prepared transaction, a change of hands by force
$other->send("CREATE TEMP TABLE tokens AS SELECT 'b' AS key, distlock.acquire('b', '1 h', wait => '1 min') AS token");
await_waiters($node, 'b', 1);
run($session, "SELECT distlock.release(key, token) FROM tokens WHERE key = 'b'");
$other->result;
run($session, "SELECT distlock.force_acquire('c', '1 h') IS NULL, distlock.force_release('d')");
run($session, "SELECT distlock.release(key, token) FROM tokens WHERE key IN ('c', 'd')");
for my $isolation ('REPEATABLE READ', 'SERIALIZABLE')
{
	run($session, "BEGIN ISOLATION LEVEL $isolation; SELECT 1");
	run($other, "SELECT distlock.force_release('a'), length(distlock.acquire('a', '1 s'))");
	run($session, "SELECT distlock.acquire('a', '1 h', wait => '5 s') IS NULL");
	run($session, 'ROLLBACK');
}
like($errors, qr/40001/, 'there were serialization failures');
$node->safe_psql('postgres', "VACUUM ANALYZE distlock.lock; CALL distlock.purge()");

# Everything that views show, then all tokens that there are or were.
my $waiter = session($node);
$waiter->send("SELECT distlock.acquire('chosen', '1 h', wait => '1 min')");
await_waiters($node, 'chosen', 1);
my $views = $node->safe_psql('postgres', <<'EOQ');
SELECT * FROM distlock.locks;
SELECT * FROM distlock.waiters;
SELECT * FROM pg_locks;
SELECT * FROM pg_stat_activity;
SELECT * FROM pg_stats WHERE schemaname = 'distlock';
SELECT * FROM pg_prepared_statements;
SELECT * FROM pg_cursors;
EOQ
like($views, qr/chosen/, 'the views show something');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $waiter->pid . ')');
my %tokens = map { $_ => 1 } split /\n/, join "\n",
  map { $_->query('SELECT token FROM tokens') } $session, $other;
$tokens{$_} = 1 foreach split /\n/,
  $node->safe_psql('postgres', 'SELECT token FROM distlock.lock WHERE token IS NOT NULL');
cmp_ok(scalar keys %tokens, '>=', 7, 'there are tokens to look for');

my $log = slurp_file($node->logfile);
like($log, qr/55P03.*could not be acquired/, 'the log has our errors');
for (
	[ 'the log', $log ],
	[ 'errors and messages', $errors ],
	[ 'views', $views ])
{
	my ($where, $text) = @$_;
	my @found = grep { index($text, $_) >= 0 } keys %tokens;

	is("@found", '', "no token in $where");
	diag(join "\n", map { my $token = $_; grep { index($_, $token) >= 0 } split /\n/, $text } @found);
}

$_->quit foreach $session, $other, $waiter;
$node->stop;
done_testing();
