# The programs in examples/listen wait for locks without a statement that waits: they
# look when an event says so, when the lease ends, and once in a while.  They are
# woken at once by a release, and by an expiry that the worker announces; no event
# that gets lost leaves them waiting for longer than they said they would; of many
# waiters one has the lock at a time; and none of them does anything meanwhile.
#
# "Once in a while" is an hour here where nothing else is said, so whoever has the
# lock within the time that a test may take has not waited for that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockPgbouncer;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $HOUR = 3600;
my $IN_ONE_PROCESS = 8;     # waiters of a key
my $TRY = qr/distlock\.try_acquire_with_token/;

my $source = "$FindBin::RealBin/../../examples/listen";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $python = system('/usr/bin/python3 -c "import psycopg" 2>/dev/null') == 0;
my $node = new_node('main', conf => <<'EOC');
distlock.events = 'expired, forced, released'
EOC
my $session = session($node);

# ---------------------------------------------------------------------------
# The programs, and the job that they run: it notes that it has begun, and ends
# when it is told to, by a line in a pipe
# ---------------------------------------------------------------------------

my ($job, $gate, $book) = ("$dir/job", "$dir/gate", "$dir/book");

PostgreSQL::Test::Utils::append_to_file($book, '');
PostgreSQL::Test::Utils::append_to_file($job, <<"EOF");
#!/bin/sh
echo "begin" >> $book
read line < $gate
echo "end" >> $book
EOF
chmod 0755, $job;
POSIX::mkfifo($gate, 0700) or die "could not make a pipe: $!";
chomp(my ($include, $lib) = (qx(pg_config --includedir), qx(pg_config --libdir)));
system_or_bail('cc', '-Wall', '-Werror', '-o', "$dir/wait", "$source/wait.c", "-I$include", "-I$include/postgresql", "-L$lib", '-lpq');

my @started;

# Start one: options are poll (in seconds), keys, listen (a connection string).
sub waiter
{
	my ($kind, %options) = @_;
	my @keys = @{ $options{keys} // ['key'] };
	my $poll = $options{poll} // $HOUR;
	my $self = { out => '', err => '' };
	my $url = $node->connstr('postgres');
	my @command = $kind eq 'libpq' ? ("$dir/wait", @keys, $job) : ('/usr/bin/python3', "$source/wait.py", $job, @keys);

	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGAPPNAME => $kind,
		DATABASE_URL => $options{database} // $url, LISTEN_URL => $options{listen} // $url,
		POLL => $kind eq 'libpq' ? 1000 * $poll : $poll);
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', \$self->{out}, '2>', \$self->{err});
	push @started, $self;
	return $self;
}

# A test that fails leaves none of them behind.
END
{
	my $status = $?;

	eval { $_->{run}->kill_kill(grace => 0) } foreach @started;
	$? = $status;
}

# How often it was tried to get a lock, since the mark.
my $mark;

sub tries { return scalar log_lines($node, $mark, $TRY); }
sub begin { $mark = log_position($node); return; }

# Wait until programs of these kinds listen and have been refused since the mark.  The
# one in Python looks once more when it listens, as it does that beside.
sub await_waiting
{
	my (@kinds) = @_;
	my $looks = grep { $_ eq 'libpq' } @kinds;

	$looks += 2 * (@kinds - $looks);
	await('the programs to wait', sub {
		return log_lines($node, $mark, qr/FROM distlock\.locks/) >= $looks
		  && log_lines($node, $mark, qr/LISTEN distlock/) >= @kinds });
	return;
}

sub jobs { return scalar grep { $_ eq 'begin' } split /\n/, slurp_file($book); }

# A job runs, with the lock; let it end.
sub finish_job
{
	my ($number) = @_;

	await('the job to begin', sub { jobs() == $number });
	open my $pipe, '>', $gate or die "could not open the pipe: $!";
	print $pipe "end\n";
	close $pipe;
	return;
}

my $jobs = 0;

sub has_it
{
	my ($what, @waiters) = @_;

	finish_job(++$jobs);
	foreach my $waiter (@waiters)
	{
		$waiter->{run}->finish;
		is($waiter->{run}->result(0), 0, $what) or diag $waiter->{err};
	}
	is($session->query("SELECT distlock.is_held('key')"), 'f', '... and has given it back');
	return;
}

sub hold
{
	my ($ttl) = @_;

	$session->query("SELECT distlock.acquire_with_token('key', 'holder', '$ttl')");
	begin();
	return;
}

# All connections but our own
sub terminate
{
	$session->query(<<'EOQ');
SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
EOQ
	return;
}

sub release { $session->query("SELECT distlock.release('key', 'holder')"); return; }

for my $kind ('libpq', 'psycopg')
{
  SKIP:
	{
		skip 'psycopg 3 is not installed', 1 if $kind eq 'psycopg' && !$python;

		# A release
		hold('1 h');
		my $waiter = waiter($kind);
		await_waiting($kind);
		await("$kind: it to wait over one connection that does nothing", sub { $session->query(<<'EOQ') eq '1|idle|t|0' });
SELECT count(*), min(state), bool_and(backend_xmin IS NULL), (SELECT count(*) FROM distlock.waiters)
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
EOQ
		pass("$kind: waits over one connection that does nothing");
		release();
		has_it('... and has the lock when it is released', $waiter);
		cmp_ok(tries(), '<=', 3, '... with ' . tries() . ' tries');

		# By force
		hold('1 h');
		$waiter = waiter($kind);
		await_waiting($kind);
		$session->query("NOTIFY distlock, '$_'") foreach '', 'not JSON', '[]', '{"key":["key"]}', '{"version":1}', '5';
		$session->query("SELECT distlock.force_release('key')");
		has_it("$kind: has the lock when it is released by force, whatever else was announced", $waiter);

		# The lease ends before its time, as the worker says.
		$session->query('SELECT distlock.start_worker()');
		hold('1 h');
		$waiter = waiter($kind);
		await_waiting($kind);
		$session->query("SELECT distlock.extend('key', 'holder', '10 ms')");
		has_it("$kind: has the lock when the worker announces its expiry", $waiter);
		cmp_ok(tries(), '<=', 3, '... with ' . tries() . ' tries');
		$session->query('SELECT distlock.stop_worker()');

		# Without a worker the end of the lease is announced by nobody.
		hold('2 s');
		my $end = $session->query("SELECT expires_at FROM distlock.lock WHERE key = 'key'");
		$waiter = waiter($kind);
		has_it("$kind: has the lock when the lease ends, without a worker", $waiter);
		cmp_ok(tries(), '<=', 5, '... with ' . tries() . ' tries');
		is($session->query("SELECT clock_timestamp() >= '$end'"), 't', '... not before');

		# The connection is lost, and replaced.
		hold('1 h');
		$waiter = waiter($kind);
		await_waiting($kind);
		begin();
		terminate();
		await('it to listen again, and look', sub {
			return log_lines($node, $mark, qr/LISTEN distlock/) && log_lines($node, $mark, qr/FROM distlock\.locks/) });
		release();
		has_it("$kind: has the lock although its connection was terminated before", $waiter);

		# The connection is lost, and with it the event.
		hold('1 h');
		$waiter = waiter($kind);
		await_waiting($kind);
		$waiter->{run}->signal('STOP');
		terminate();
		release();
		$waiter->{run}->signal('CONT');
		has_it("$kind: has the lock although the release was announced while it had no connection", $waiter);

		# Nothing is announced.
		hold('1 h');
		$waiter = waiter($kind, poll => 1);
		await_waiting($kind);
		$session->query("SET distlock.events = ''");
		release();
		$session->query('RESET distlock.events');
		has_it("$kind: has the lock in time although its release was not announced", $waiter);

		# What no event and no expiry tells of
		$session->query("BEGIN; SELECT distlock.acquire('key', '1 h', scope => 'transaction')");
		begin();
		$waiter = waiter($kind);
		await_waiting($kind);
		$session->query('COMMIT');
		has_it("$kind: has the lock after one of scope \"transaction\"", $waiter);
	}
}

# ---------------------------------------------------------------------------
# One process, many waiters
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'psycopg 3 is not installed', 1 unless $python;

	# It listens only after the release: the socket to listen at was not there.
	hold('1 h');
	my $late = PostgreSQL::Test::Utils::tempdir_short();
	my $waiter = waiter('psycopg', listen => "host=$late port=" . $node->port . ' dbname=postgres');
	await('a first look', sub { log_lines($node, $mark, qr/FROM distlock\.locks/) });
	release();
	symlink $node->host . '/.s.PGSQL.' . $node->port, "$late/.s.PGSQL." . $node->port or die "could not make a link: $!";
	has_it('psycopg: has the lock although it listened after the release', $waiter);

	# Two processes with many waiters each, and two with one; if there is a pooler, they
	# look over its only connection, and so does the holder.
	my $has_pooler = defined DistlockPgbouncer::program();
	my $pooler = $has_pooler ? DistlockPgbouncer->new($node, 'transaction', default_pool_size => 1) : $node;
	my $holder = session($pooler, 'postgres');
	my $processes = 4;
	my $grants = 2 * $IN_ONE_PROCESS + 2;

	$holder->query("SELECT distlock.acquire_with_token('key', 'holder', '1 h')");
	begin();
	my @waiters = ((map { waiter('psycopg', keys => [ ('key') x $IN_ONE_PROCESS ], database => $pooler->connstr('postgres')) } 1, 2),
		(map { waiter('libpq') } 1, 2));
	await_waiting('psycopg', 'psycopg', 'libpq', 'libpq');
	$holder->query("SELECT distlock.release('key', 'holder')");
	finish_job(++$jobs) foreach 1 .. $grants;
	$_->{run}->finish foreach @waiters;
	is(join(' ', map { $_->{run}->result(0) } @waiters), join(' ', (0) x @waiters), "$grants waiters have had the lock")
	  or diag join "\n", map { $_->{err} } @waiters;
	cmp_ok(tries(), '<=', $processes * ($grants + 3), '... with ' . tries() . ' tries');
	is($session->query("SELECT distlock.is_held('key')"), 'f', '... in the end nobody');
	$holder->quit;
	$pooler->stop if $has_pooler;
}

# Never two at a time
is(slurp_file($book), "begin\nend\n" x $jobs, 'one has worked at a time');

$session->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/, 'no crash and no internal error');
done_testing();
