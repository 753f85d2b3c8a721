# No token and no password shows up where it has no business: not in the server's log at its
# most talkative, nor in errors, views, statistics, notifications, nor in Redis.
#
# All tokens are parameters or results, never literals, since the text of a statement is
# its author's to keep.  Some thousand calls of every function with arguments of every kind are
# among them (see DistlockCalls), while events are announced and everything is mirrored.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockCalls;
use DistlockListener;
use DistlockRedis;
use DistlockTest;
use DistlockWire;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();
srand(20_241_121);

my $CALLS = 2500;
my $password = 'Op3n-Sesame-' . int rand 1_000_000_000;
my $wrong = 'Shut-Sesame-' . int rand 1_000_000_000;
my $redis = DistlockRedis->new('main', password => $password);
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $path = "$dir/password";

# Everything is logged, except what users type.
my $node = new_node('main', extension => 0, conf => redis_conf($redis, <<"EOC"));
shared_preload_libraries = 'distlock, pg_stat_statements'
pg_stat_statements.track = all
log_statement = none
log_min_messages = debug5
log_error_verbosity = verbose
log_min_error_statement = panic
log_lock_waits = on
deadlock_timeout = 100ms
debug_print_plan = off
track_functions = all
distlock.redis_password_file = '$path'
distlock.events = 'expired, forced, granted, released, extended'
distlock.expiry_warning = 10ms
distlock.purge_after = 100ms
EOC
my $admin = session($node);
my %secrets;      # what must not be seen, and what it is
my $seen = '';    # errors and messages, values

sub write_password
{
	my ($text) = @_;

	unlink $path;
	open my $file, '>', $path or die "could not write $path: $!";
	print $file "$text\n";
	close $file;
	chmod 0600, $path;
	return;
}

$secrets{$password} = 'the password of Redis';
$secrets{$wrong} = 'a wrong password';
write_password($wrong);
$admin->query('CREATE EXTENSION distlock; CREATE EXTENSION pg_stat_statements');
$admin->query(
	'CREATE SCHEMA torture; CREATE TABLE torture.plain (a int); CREATE TABLE torture.guarded (a int)');
await_mirror($admin, "last_error ~ 'WRONGPASS|invalid password'", 'disconnected');
write_password($password);
await_connected($admin);

my $monitor = $redis->monitor;
my $listener = DistlockListener->new(
	host => $node->host,
	port => $node->port,
	user => 'postgres',
	dbname => 'postgres');

# ---------------------------------------------------------------------------
# Calls of all kinds
# ---------------------------------------------------------------------------

my $calls = DistlockCalls->new($node);
my $wire = DistlockWire->new($node, options => '-cstatement_timeout=50ms');
my ($made, $refused, $granted) = (0, 0, 0);

while ($made < $CALLS)
{
	my @calls = map { $calls->draw(literal => 0) } 1 .. 50;
	my @results = $wire->run((map { DistlockWire::extended($_->{sql}, @{ $_->{parameters} }) } @calls),
		DistlockWire::simple('SELECT pg_advisory_unlock_all()'));

	for my $i (0 .. $#calls)
	{
		my ($call, $result) = ($calls[$i], $results[$i]);

		$made++;
		$refused++ if $result->{sqlstate} ne '';
		$seen .= "$result->{message}\n" if $result->{sqlstate} ne '';
		$secrets{ $call->{token} } = 'a token that was chosen';
		$calls->result($call, $result->{values}[0]);
		next unless defined $result->{values}[0] && $result->{values}[0] =~ /^[0-9a-f]{32}$/;
		$granted++;
		$secrets{ $result->{values}[0] } = 'a token that was drawn';
	}
}
cmp_ok($granted, '>', 30, 'tokens were drawn');
cmp_ok($refused, '>', 100, '... and calls refused');

# ---------------------------------------------------------------------------
# In turn: each with a token that is looked for
# ---------------------------------------------------------------------------

my $number = 0;

sub token
{
	my $token = 'secret-' . int(rand 1e9) . '-' . ++$number;

	$secrets{$token} = 'a token that was chosen';
	return $token;
}

# Execute with parameters, and keep what is said.
sub call
{
	my ($sql, @parameters) = @_;
	my ($result) = $wire->run(DistlockWire::extended($sql, @parameters));

	$seen .= "$result->{message}\n" if $result->{sqlstate} ne '';
	return $result->{values}[0];
}

my ($first, $second) = (token(), token());
call('SET statement_timeout = 0');
call('SELECT distlock.force_release(key) FROM distlock.locks');
call('SELECT distlock.acquire_with_token($1, $2, $3, owner => $4, data => $5)',
	'one', $first, '1 h', 'me', 'my data');
call('SELECT distlock.acquire_with_token($1, $2, $3)', 'one', $second, '1 h');
call('SELECT distlock.acquire_with_token($1, $2, $3, wait => $4)', 'one', $second, '1 h', '20 ms');
call('SELECT distlock.extend($1, $2)', 'one', $second);
call('SELECT distlock.release($1, $2)', 'one', $second);
call('SELECT distlock.acquire_with_token($1, $2, $3)', 'two', $second x 20, '1 h');
call('SELECT distlock.acquire_with_token($1, $2, $3, scope => $2)', 'two', $second, '1 h');
call('PREPARE p (text, text) AS SELECT distlock.extend($1, $2)');
call('SELECT distlock.acquire_with_token($1, $2, $3, scope => $4)',
	'of a session', $first, '1 h', 'session');
# An error in PL/pgSQL, and in a command
call(
	'CREATE FUNCTION use(token text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN PERFORM distlock.release(\'three\', token); END $$'
);
call('SELECT use($1)', $second);
call('CREATE TABLE job (id int PRIMARY KEY, token text)');
call('INSERT INTO job VALUES (1, $1)', $second);
call('SELECT distlock.do_exclusively($1, $2, $3)',
	'four', '1 s', 'SELECT distlock.release(\'five\', token) FROM job');
call('CALL distlock.run_exclusively($1, $2, $3)',
	'four', '1 s', 'SELECT distlock.release(\'five\', token) FROM job');
# A wait that is seen, a deadlock, a change of hands by force, an expiry, a prepared transaction
my $other = session($node);
$other->send("SET lock_timeout = '3 s'; SELECT distlock.acquire('one', '1 h', wait => '1 min')");
await_waiters($node, 'one', 1);
my $views = $node->safe_psql('postgres', join ';', map { "SELECT v::text FROM $_ v" } 'distlock.locks',
	'distlock.waiters', 'pg_stat_activity', 'pg_locks');
$other->result;
call('SELECT distlock.force_acquire($1, $2)', 'one', '1 h');
call('SELECT distlock.acquire_with_token($1, $2, $3)', 'short', $first, '30 ms');
my @events;
await(
	'the expiry',
	sub {
		push @events, $listener->events;
		return grep { $_->{key} eq 'short' && $_->{event} eq 'expired' } @events;
	});

# ---------------------------------------------------------------------------
# Everywhere
# ---------------------------------------------------------------------------

# All views that there are, of superusers
$views .= $node->safe_psql('postgres', <<'EOQ');
SELECT format('SELECT v::text FROM %I.%I v', schemaname, viewname) FROM pg_views
WHERE schemaname IN ('distlock', 'pg_catalog', 'public')
	AND viewname !~ '^(pg_hba|pg_ident|pg_config|pg_shadow|pg_backend_memory)'
\gexec
SELECT v::text FROM pg_stat_statements(true) v;
SELECT v::text FROM distlock.queue() v;
SELECT v::text FROM distlock.read_busiest_keys() v;
SELECT v::text FROM distlock.mirror_check() v;
EOQ
like($views, qr/my data/, 'the views show what they should');

# What is in Redis, what was said to it, and what was announced
my $contents = $redis->contents(0, 1);
my $values = join "\n", map { ref $_ ? %$_ : $_ } %$contents;
my $told = join "\n", map { join ' ', @{ $_->{args} } } $monitor->commands;
my $events = join "\n", map { $_->{payload} } @events, $listener->events;

like($values, qr/"fence"/, 'locks are in Redis');
like($told, qr/"owner"/, '... and were sent');
like($events, qr/granted/, 'events came');

# Where the administrator wants them, they are: this finds them.
change_setting($admin, 'distlock.redis_value', 'token');
await('a token',
	sub { index($redis->command('GET', 'distlock:postgres:of a session') // '', $first) >= 0 });
ok(1, 'a token that is there is found');

$wire->close;
$_->quit foreach $admin, $other;
$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/LK001.*not held/, 'the log has our errors');
like($log, qr/DEBUG:/, '... and more');

# Texts that anybody could have written are none to look for.
delete $secrets{$_} foreach grep { length $_ < 8 } keys %secrets;
my %places = (
	'the log' => $log,
	'errors' => $seen,
	'views' => $views,
	'values in Redis' => $values,
	'commands to Redis' => $told,
	'events' => $events,
	'the log of Redis' => slurp_file($redis->{log}));
foreach my $place (sort keys %places)
{
	my @found = grep { index($places{$place}, $_) >= 0 } sort keys %secrets;

	is(join(', ', map { "$secrets{$_} ($_)" } @found[ 0 .. ($#found < 4 ? $#found : 4) ]),
		'', "no secret in $place");
}
note scalar(keys %secrets) . ' secrets, ' . length($log) . ' bytes of log';
cmp_ok(scalar keys %secrets, '>', 200, 'there were secrets to look for');
done_testing();
