# What examples/recipes promises: the lines for cron and systemd, a migration at the
# start of many instances, a leader, and claiming any free item or key.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Text::ParseWords;

my $ACCOUNTS = 300;
my $INSTANCES = 5;
my $ITEMS = 40;

my $recipes = "$FindBin::RealBin/../../examples/recipes";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $python = system('/usr/bin/python3 -c "import psycopg" 2>/dev/null') == 0;
my $node = new_node('main', conf => 'client_connection_check_interval = 10ms');
my $session = session($node);

# Programs find the database.
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{DATABASE_URL} = $node->connstr('postgres');

my @started;

# What they print goes to files, since they may leave others behind that have them
# open.
sub start
{
	my (@command) = @_;
	my $self = { err => "$dir/err." . scalar @started };

	push @started, $self;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', $self->{err});
	return $self;
}

# The exit status, at its end.
sub status
{
	my ($program) = @_;

	$program->{run}->finish;
	return $program->{run}->result(0);
}

sub errors { return slurp_file($_[0]{err}); }

# A test that fails leaves none of them behind.
END
{
	my $status = $?;

	eval { $_->{run}->kill_kill(grace => 0) } foreach @started;
	$? = $status;
}

sub pid { return $_[0]{run}{KIDS}[0]{PID}; }

# Nobody gets past the gate, a table, until open_gate().  It keeps closed when its
# session ends.
$session->query('CREATE TABLE gate ()');

sub close_gate
{
	$session->query("BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'");
	return;
}

sub open_gate { $session->query("COMMIT PREPARED 'gate'"); return; }

sub await_at_gate
{
	my ($count) = @_;

	await("$count at the gate", sub {
		$session->query("SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted") == $count });
	return;
}

# A session ends a moment after its client.
sub await_free
{
	my ($key) = @_;

	await("\"$key\" to be free", sub { $session->query("SELECT distlock.is_held('$key')") eq 'f' });
	pass('... and the lock is free');
	return;
}

# ---------------------------------------------------------------------------
# crontab, fees.service
# ---------------------------------------------------------------------------

$session->query(<<"EOQ");
CREATE TABLE account (id int PRIMARY KEY, balance numeric NOT NULL, paid_until date NOT NULL);
INSERT INTO account SELECT i, 100, '2025-12-01' FROM generate_series(1, $ACCOUNTS) AS i;
CREATE TABLE report (made_by text);
CREATE PROCEDURE charge_fees() LANGUAGE plpgsql AS \$\$
BEGIN
	LOOP
		UPDATE account SET balance = balance - 5, paid_until = '2026-01-01'
			WHERE id IN (SELECT id FROM account WHERE paid_until < '2026-01-01' LIMIT 100);
		EXIT WHEN NOT FOUND;
		COMMIT;
		PERFORM FROM gate;
	END LOOP;
END \$\$;
CREATE FUNCTION make_report() RETURNS void BEGIN ATOMIC
	SELECT FROM gate;
	INSERT INTO report VALUES (current_setting('application_name'));
END;
EOQ

# As cron runs the lines of its table
my ($fees, $report) = map { /^(?:\S+\s+){5}(psql .*)/ ? $1 : () } split /\n/, slurp_file("$recipes/crontab");

# As systemd does
my $unit = slurp_file("$recipes/fees.service");
chomp(my $machine = qx(hostname));
my ($exec) = $unit =~ /^ExecStart=(.*)/m;
$exec =~ s/%H/$machine/g;
my @exec = shellwords($exec);

SKIP:
{
	skip 'there is no systemd-analyze', 1 if system('systemd-analyze --version >/dev/null 2>&1') != 0;
	# It may lack what it needs itself, such as a directory in /run.
	my $sound = PostgreSQL::Test::Utils::tempdir() . '/sound.service';
	append_to_file($sound, "[Service]\nType=oneshot\nExecStart=/bin/true\n");
	my $works = qx(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify $sound 2>&1);
	skip "systemd-analyze does not work here: $works", 1 if $? != 0;
	my $found = qx(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify $recipes/fees.service $recipes/fees.timer 2>&1);
	is("$? $found", '0 ', 'systemd finds nothing wrong with the units');
}

close_gate();
my @jobs = (start('sh', '-c', $fees), -x $exec[0] ? start(@exec) : start('psql', @exec[ 1 .. $#exec ]), start('sh', '-c', $fees));
await_at_gate(1);
await_waiters($node, 'fees', 2);
is($session->query("SELECT owner, scope, waiters FROM distlock.locks WHERE key = 'fees'"), "$machine|session|2",
	'of three that were started by cron and systemd, one works');
open_gate();
is(join(' ', map { status($_) } @jobs), '0 0 0', '... and all succeed') or diag map { errors($_) } @jobs;
is($session->query('SELECT DISTINCT balance FROM account'), '95', '... each account was charged once');

close_gate();
@jobs = start('sh', '-c', $report);
await_at_gate(1);
push @jobs, start('sh', '-c', $report);
is(status($jobs[1]), 0, 'somebody else makes the report: success');
open_gate();
is(status($jobs[0]), 0, '... of both');
is($session->query('SELECT count(*) FROM report'), '1', '... there is one');

# systemctl stop
$session->query("UPDATE account SET paid_until = '2025-12-01'");
close_gate();
my $job = start(@exec);
await_at_gate(1);
like($unit, qr/^KillSignal=SIGINT$/m, 'systemctl stop sends SIGINT');
kill('INT', pid($job));
isnt(status($job), 0, '... which ends the job');
await_free('fees');
open_gate();

# ---------------------------------------------------------------------------
# migrate.sh
# ---------------------------------------------------------------------------

my $migrations = "$dir/migrations";

sub migration
{
	my ($name, $sql) = @_;

	unlink "$migrations/$name";
	PostgreSQL::Test::Utils::append_to_file("$migrations/$name", $sql);
	return;
}

sub instances { return map { start("$recipes/migrate.sh", $migrations) } 1 .. $_[0]; }
sub applied { return $session->query('SELECT string_agg(name, \' \' ORDER BY fence, applied_at, name) FROM schema_migration'); }

mkdir $migrations or die "could not make a directory: $!";
migration('001_person.sql', "CREATE TABLE person (id int PRIMARY KEY);\nINSERT INTO person VALUES (1);\n");
migration('002_gate.sql', "SELECT FROM gate;\nALTER TABLE person ADD COLUMN name text;\n");
close_gate();
my @instances = instances($INSTANCES);
await_at_gate(1);
await_waiters($node, 'schema', $INSTANCES - 1);
is($session->query('SELECT count(*) FROM person'), '1', 'of many instances one migrates, the others wait');
open_gate();
is(join(' ', map { status($_) } @instances), join(' ', (0) x $INSTANCES), '... and see that it is done')
  or diag map { errors($_) } @instances;
is(applied(), '001_person.sql 002_gate.sql', '... everything once');

# A migration that fails
migration('003_wrong.sql', "CREATE TABLE wrong ();\nSELECT 1 / 0;\n");
migration('004_next.sql', 'CREATE TABLE next ();');
@instances = instances($INSTANCES);
is(join(' ', map { status($_) == 0 ? 'done' : 'failed' } @instances), join(' ', ('failed') x $INSTANCES),
	'a migration that fails: every instance has tried, and failed');
like(errors($instances[0]), qr/division by zero/, '... and says why');
is(applied() . $session->query("SELECT to_regclass('wrong'), to_regclass('next')"), '001_person.sql 002_gate.sql|',
	'... nothing is left of it, and what follows was not tried');
await_free('schema');
migration('003_wrong.sql', 'CREATE TABLE wrong ();');

# One that dies on the way
migration('004_next.sql', "CREATE TABLE next ();\nSELECT FROM gate;\n");
close_gate();
@instances = instances(2);
await_at_gate(1);
await_waiters($node, 'schema', 1);
my $migrating = $session->query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT FROM gate%' AND pid <> pg_backend_pid()");
$session->query("SELECT pg_terminate_backend($migrating)");
await('the other instance to try', sub {
	$session->query("SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted AND pid <> $migrating") == 1 });
open_gate();
is(join(' ', sort map { status($_) == 0 ? 'done' : 'failed' } @instances), 'done failed',
	'when one dies on the way, another one goes on');
is(applied(), '001_person.sql 002_gate.sql 003_wrong.sql 004_next.sql', '... to the end');

# A tool of somebody else's, as docs/recipes.md has it
my ($around) = slurp_file("$FindBin::RealBin/../../docs/recipes.md") =~ /^```bash\n(.*?)^```/ms;
PostgreSQL::Test::Utils::append_to_file("$dir/the-migration-tool", <<'EOF');
#!/bin/sh
psql -XAtqc "INSERT INTO tool SELECT count(*) FROM distlock.locks WHERE key = 'schema'; SELECT FROM gate"
EOF
chmod 0755, "$dir/the-migration-tool";
$session->query('CREATE TABLE tool (locks int)');
{
	local $ENV{PATH} = "$dir:$ENV{PATH}";

	close_gate();
	@instances = map { start('bash', '-c', $around) } 1, 2;
	await_at_gate(1);
	await_waiters($node, 'schema', 1);
	open_gate();
	is(join(' ', map { status($_) } @instances), '0 0', 'a migration tool runs while another connection has the lock')
	  or diag map { errors($_) } @instances;
	is($session->query("SELECT string_agg(locks::text, ' ') FROM tool"), '1 1', '... each time');
	close_gate();
	@instances = start('bash', '-c', $around);
	await_at_gate(1);
	$session->query("SELECT distlock.force_release('schema')");
	open_gate();
	isnt(status($instances[0]), 0, '... and it is an error when the lock was lost meanwhile');
}

# ---------------------------------------------------------------------------
# claim.sql
# ---------------------------------------------------------------------------

$session->query(<<"EOQ");
CREATE TABLE item (id bigint PRIMARY KEY, done_by text);
INSERT INTO item SELECT generate_series(1, $ITEMS);
CREATE TABLE work (id serial, item bigint, worker text);
EOQ
PostgreSQL::Test::Utils::append_to_file("$dir/work.sql", "INSERT INTO work (item, worker) VALUES (:id, :'worker');\nSELECT FROM gate;\n");

sub worker { return start('psql', '-XAtq', '-v', "worker=$_[0]", '-v', "work=$dir/work.sql", '-f', "$recipes/claim.sql"); }

close_gate();
my @workers = map { worker($_) } 1 .. $INSTANCES;
await_at_gate($INSTANCES);
is($session->query("SELECT count(DISTINCT item), count(*) FROM work"), "$INSTANCES|$INSTANCES", 'each worker has claimed another item');
is($session->query("SELECT count(*), count(*) FILTER (WHERE key IN (SELECT 'item ' || item FROM work WHERE worker = owner)) FROM distlock.locks"),
	"$INSTANCES|$INSTANCES", '... and no more than that');
is($session->query('SELECT count(*) FROM distlock.waiters'), '0', '... without waiting');
my $killed = $session->query("SELECT item FROM work WHERE worker = '1'");
kill('KILL', pid($workers[0]));
status($workers[0]);
open_gate();
is(join(' ', map { status($_) } @workers[ 1 .. $#workers ]), join(' ', (0) x ($INSTANCES - 1)), '... and does it');

# Many at a time, until nothing but the dead worker's item is left
my $round = 0;
await('the items to be done', sub {
	$round++;
	status($_) foreach map { worker("$round.$_") } 1 .. $INSTANCES;
	return $session->query('SELECT count(*) FROM item WHERE done_by IS NULL') <= 1 });
is($session->query(<<'EOQ'), '0|0', 'every item was done once, by who claimed it');
SELECT count(*) FILTER (WHERE done <> 1), count(*) FILTER (WHERE done_by <> worker)
FROM (SELECT item, count(*) AS done, min(worker) AS worker FROM work GROUP BY item) w JOIN item ON id = item
EOQ
is($session->query("SELECT string_agg(id::text, ' ') FROM item WHERE done_by IS NULL"), $killed, 'the item of the worker that was killed is left');
is(status(worker('too soon')), 0, '... and not claimed as long as its lease lasts');
is($session->query("SELECT count(*) FROM work WHERE worker = 'too soon'"), '0', '... (nothing was done)');
$session->query("SELECT distlock.force_release('item $killed')");
is(status(worker('later')), 0, '... but then');
is($session->query("SELECT id, done_by FROM item WHERE done_by = 'later'"), "$killed|later", '... by another worker');
is($session->query("SELECT count(*) FROM distlock.locks"), '0', 'no lock is left');

# One that was done while we looked
$session->query("INSERT INTO item VALUES (1000)");
my $old = session($node);
$session->query("BEGIN; SELECT distlock.acquire_with_token('item 1000', 'x', '1 min', scope => 'transaction'); UPDATE item SET done_by = 'x' WHERE id = 1000");
is(status(worker('blocked')), 0, 'an item that somebody has claimed and not committed is passed over');
$session->query('COMMIT');
is($session->query("SELECT count(*) FROM work WHERE worker = 'blocked'"), '0', '... at once');
$old->quit;

SKIP:
{
	skip 'psycopg 3 is not installed', 1 unless $python;

	# -----------------------------------------------------------------------
	# any-of.py
	# -----------------------------------------------------------------------

	my @keys = ('slot 1', 'slot 2', 'slot 3');

	PostgreSQL::Test::Utils::append_to_file("$dir/command", <<'EOF');
#!/bin/sh
exec psql -Xq <<SQL
INSERT INTO slot (key) VALUES ('$DISTLOCK_KEY');
SELECT FROM gate;
SQL
EOF
	chmod 0755, "$dir/command";
	$session->query('CREATE TABLE slot (id serial, key text)');
	$ENV{TTL} = 8;
	close_gate();
	my (@users, @has);
	foreach my $count (1 .. @keys)
	{
		push @users, start("$recipes/any-of.py", @keys, '--', "$dir/command");
		await_at_gate($count);
		push @has, $session->query('SELECT key FROM slot ORDER BY id DESC LIMIT 1');
	}
	is(join(' ', sort @has), "@keys", 'any of three keys: each is used by one');
	is(status(start("$recipes/any-of.py", @keys, '--', "$dir/command")), 75, '... and there is none for a fourth');
	my $expires = $session->query("SELECT max(expires_at) FROM distlock.locks");
	await('all leases to be extended', sub { $session->query("SELECT min(expires_at) > '$expires' FROM distlock.locks") eq 't' });
	pass('... the leases are extended');

	$session->query("SELECT distlock.force_release('$has[0]')");
	is(status($users[0]), 1, 'who has lost its lease ends with an error');
	await_at_gate(2);
	pass('... and so does its command');

	kill('KILL', pid($users[1]));
	status($users[1]);
	is(status(start("$recipes/any-of.py", $has[1], '--', 'true')), 75, 'the key of one that was killed is not free');
	await('it to be free', sub { return status(start("$recipes/any-of.py", $has[1], '--', 'true')) == 0 });
	pass('... but after a while');
	open_gate();
	is(status($users[2]), 0, 'who has worked to the end says so');
	is(status(start("$recipes/any-of.py", $has[2], '--', 'sh', '-c', 'exit 7')), 7, 'the exit status is that of the command');
	delete $ENV{TTL};

	# -----------------------------------------------------------------------
	# leader.py
	# -----------------------------------------------------------------------

	$session->query('CREATE TABLE led (id serial, fence bigint, who int)');
	@ENV{ 'TTL', 'PAUSE', 'PGOPTIONS' } = (2, 0.02, '-c idle_in_transaction_session_timeout=2s');
	my $sql = 'INSERT INTO led (fence, who) VALUES (%(fence)s, pg_backend_pid())';
	my %candidates = map { pid($_) => $_ } map { start("$recipes/leader.py", 'leader', $sql) } 1 .. 3;

	# Of what has been written since the last time: wait for so much, by one that
	# has not led before; returns its process.
	my $fence = 0;
	my $next_leader = sub {
		my ($owner);

		await('a leader', sub {
			($fence, $owner) = split /\|/, $session->query(<<"EOQ");
SELECT l.fence, substr(owner, 9) FROM distlock.locks l
WHERE key = 'leader' AND l.fence > $fence AND (SELECT count(*) FROM led WHERE fence = l.fence) >= 5
UNION ALL SELECT $fence, NULL ORDER BY 1 DESC LIMIT 1
EOQ
			return defined $owner && $owner ne '' });
		return $owner;
	};
	my $first = $next_leader->();
	is($session->query("SELECT count(DISTINCT who) FROM led WHERE fence = $fence"), '1', 'of three candidates one leads');
	kill('KILL', $first);
	status($candidates{$first});
	my $second = $next_leader->();
	isnt($second, $first, 'when it is killed, another one leads');
	kill('STOP', $second);
	my $third = $next_leader->();
	isnt($third, $second, 'when that one is stopped, the third');
	kill('CONT', $second);
	await('the former leader to notice', sub { errors($candidates{$second}) =~ /\S/ });
	like(errors($candidates{$second}), qr/lock "leader"|terminating connection|closed/, '... and the former leader is told that it is none any more');
	kill('TERM', $third);
	is(status($candidates{$third}), 0, 'the third ends in good order');
	is($next_leader->(), $second, '... and the second leads again');
	kill('TERM', $second);
	status($candidates{$second});
	is($session->query('SELECT count(*) FROM (SELECT fence < lag(fence) OVER (ORDER BY id) AS back FROM led) f WHERE back'), '0',
		'nobody has written after a later leader');
	is($session->query('SELECT count(*) FROM (SELECT FROM led GROUP BY fence HAVING count(DISTINCT who) > 1) f'), '0',
		'... and under each fence one has');
	is($session->query("SELECT distlock.is_held('leader')"), 'f', '... and now there is none');
}

$session->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
