# Helpers for the tests of the launcher and the workers: which of them are
# there, waiting for them to come and go, leases for them to free, and what the
# server has logged about them.
#
# Most take a session of a superuser in a database that has the extension.

package DistlockWorker;

use strict;
use warnings;

use DistlockTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(preloaded pids await_worker await_no_worker await_launcher
  worker_state await_state await_as_expected leave_to_lapse await_freed
  stop_resting log_position log_lines change_setting steadfast);

# Configuration of a server that has distlock preloaded.
sub preloaded
{
	return join "\n", "shared_preload_libraries = 'distlock'",
	  'max_worker_processes = 20', @_, '';
}

# Process ids of the kind "launcher" or "worker", those of a database or all.
sub pids
{
	my ($session, $kind, $database) = @_;
	my $where = defined $database ? "AND datname = '$database'" : '';

	return split /\n/, $session->query(<<"EOQ");
SELECT pid FROM pg_stat_activity WHERE backend_type = 'distlock $kind' $where
EOQ
}

# Wait until the database has a worker that runs, another one than the process
# given; returns its process id.
sub await_worker
{
	my ($session, $database, $former) = @_;
	my $pid;

	await("a worker in $database", sub {
		$pid = $session->query(<<"EOQ");
SELECT a.pid
FROM pg_stat_activity a JOIN distlock.worker_status s ON s.pid = a.pid
WHERE a.backend_type = 'distlock worker' AND a.datname = '$database'
	AND s.database = a.datname AND s.state = 'running' AND a.pid <> ${\ ($former // 0)}
EOQ
		return $pid ne '';
	});
	return $pid;
}

sub await_no_worker
{
	my ($session, $database) = @_;

	await("no worker in $database", sub { !pids($session, 'worker', $database) });
	return;
}

# The same for the launcher, of which there is one.
sub await_launcher
{
	my ($session, $former) = @_;
	my $pid;

	await('a launcher', sub {
		($pid) = pids($session, 'launcher');
		return defined $pid && $pid != ($former // 0);
	});
	return $pid;
}

# What the view says of a database; '' when it says nothing.
sub worker_state
{
	my ($session, $database) = @_;

	return $session->query(
		"SELECT state FROM distlock.worker_status WHERE database = '$database'");
}

sub await_state
{
	my ($session, $database, $state) = @_;

	await("state $state of $database",
		sub { worker_state($session, $database) eq $state });
	return;
}

# Wait until there are a launcher and one worker in each of these databases, as
# the view says too, and no other process of distlock.
sub await_as_expected
{
	my ($session, @databases) = @_;
	my $expected = join ',', 'launcher', map { "$_ $_" } sort @databases;
	my $found = '';

	eval {
		await('the processes expected', sub {
			$found = $session->query(<<'EOQ');
SELECT string_agg(CASE WHEN a.datname IS NULL THEN 'launcher'
	ELSE format('%s %s', a.datname, s.database) END, ',' ORDER BY a.datname COLLATE "C" NULLS FIRST)
FROM (SELECT * FROM pg_stat_activity WHERE backend_type LIKE 'distlock %') a
	FULL JOIN (SELECT * FROM distlock.worker_status WHERE state NOT IN ('off', 'stopped')) s
		ON s.pid = a.pid AND s.state = 'running'
EOQ
			return $found eq $expected;
		});
		1;
	} or die "found $found instead of $expected: $@";
	return 1;
}

my $lapsed = 0;

# Acquire leases that nobody will release.
sub leave_to_lapse
{
	my ($session, $count, $ttl) = @_;

	$lapsed++;
	$session->query(<<"EOQ");
SELECT count(distlock.acquire_with_token('lapse $lapsed.' || i, 'mine',
	${\ ($ttl // "'10 ms'")}, owner => 'nobody')) FROM generate_series(1, $count) i
EOQ
	return;
}

# Wait until they have been freed, all of them.
sub await_freed
{
	my ($session) = @_;

	await('leases to be freed', sub { $session->query(<<'EOQ') eq 'f' });
SELECT EXISTS (SELECT FROM distlock.lock WHERE token IS NOT NULL AND key LIKE 'lapse %')
EOQ
	return 1;
}

# Stop a process (SIGSTOP) while it sleeps and has nothing that others could wait for.
sub stop_resting
{
	my ($pid) = @_;

	await("process $pid to rest", sub {
		my $sleeps = !-r "/proc/$pid/status" || slurp_file("/proc/$pid/status") =~ /^State:\s+S/m;
		my $waits_for_lock = -r "/proc/$pid/wchan" && slurp_file("/proc/$pid/wchan") =~ /futex/;

		return $sleeps && !$waits_for_lock && kill('STOP', $pid);
	});
	return;
}

# The log is read from here on.
sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

# Lines of the log that match, of those after the position.
sub log_lines
{
	my ($node, $position, $pattern) = @_;

	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile, $position);
}

# Set in the configuration file, and let the server know.
sub change_setting
{
	my ($session, $name, $value) = @_;

	$session->query("ALTER SYSTEM SET $name = '$value'");
	$session->query('SELECT pg_reload_conf()');
	return;
}

# A session that is opened anew when the server has ended it, as often as
# needed.  What it was doing then it does again.
sub steadfast
{
	my ($node) = @_;

	return bless { node => $node }, 'DistlockWorker::Session';
}

package DistlockWorker::Session;

use strict;
use warnings;

use DistlockTest;

sub query
{
	my ($self, $sql) = @_;
	my $answer;

	await("an answer to $sql", sub {
		$self->{session} //= eval { session($self->{node}) } or return 0;
		return 1 if defined($answer = eval { $self->{session}->query($sql) });
		my $error = $@;
		die $error if eval { $self->{session}->query('SELECT 1') };
		delete $self->{session};
		return 0;
	});
	return $answer;
}

sub quit
{
	my ($self) = @_;

	$self->{session}->quit if $self->{session};
	return;
}

1;
