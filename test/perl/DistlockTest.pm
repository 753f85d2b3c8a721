# Helpers of the TAP tests: servers with the extension, psql sessions that can
# wait in the background, crashes.
#
# PostgreSQL::Test::Cluster has background sessions too, but other ones in each
# version of PostgreSQL; these are the same everywhere.

package DistlockTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(new_node session sqlstate await await_at await_waiters hold_key let_go_of_key
  queue_up draw of_walwriter stop_walwriter crash start_again is_up traces connected
  becomes);
our @EXPORT_OK = qw(situation);

# A server that is up and has distlock in its database "postgres".  The
# parameters are those of PostgreSQL::Test::Cluster's init, and:
#	conf		lines for postgresql.conf
#	extension	0: do not create it
sub new_node
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf} // '';
	my $extension = delete $params{extension} // 1;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%params);
	$node->append_conf('postgresql.conf', <<EOC);
max_connections = 60
max_prepared_transactions = 10
shared_buffers = 16MB
autovacuum = off
$conf
EOC
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION distlock') if $extension;
	return $node;
}

sub session
{
	my ($node, $dbname) = @_;

	return DistlockTest::Session->new($node, $dbname // 'postgres');
}

# The SQLSTATE that a statement fails with, '' if it does not.
sub sqlstate
{
	my ($node, $dbname, $sql) = @_;
	my ($ret, $stdout, $stderr) =
	  $node->psql($dbname, "\\set VERBOSITY verbose\n$sql");

	return $stderr =~ /(?:ERROR|FATAL):\s+(\w{5}):/ ? $1 : '';
}

# Get so many fences for the key "key", from a server or in a session.
sub draw
{
	my ($where, $count) = @_;
	my $sql = "SELECT distlock.force_release('key');\n" . <<'EOQ' x $count;
SELECT distlock.acquire_with_token('key', 'mine', '1 h');
SELECT distlock.release('key', 'mine');
EOQ

	return grep { /^\d+$/ } split /\n/, $where->isa('DistlockTest::Session')
	  ? $where->query($sql)
	  : $where->safe_psql('postgres', $sql);
}

# Wait until the code returns true.
sub await
{
	my ($what, $condition) = @_;
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;

	until ($condition->())
	{
		die "timed out: $what" if time() > $until;
		usleep(10_000);
	}
	return;
}

# A test: what the code returns becomes what is expected.
sub becomes
{
	my ($code, $expected, $what) = @_;
	my $found;

	eval { await($what, sub { ($found = $code->()) eq $expected }) };
	my $error = $@;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($found, $expected, $what) || diag($error) && 0;
}

# As await(); when it takes too long, with what the sessions of a server are at.
sub await_at
{
	my ($node, $dbname, $what, $condition) = @_;

	return if eval { await($what, $condition); 1 };
	my $error = $@;
	die $error, eval { situation($node, $dbname) } // $@;
}

# For who has to find out why somebody is stuck
sub situation
{
	my ($node, $dbname) = @_;

	return join "\n", map { $_, $node->safe_psql($dbname, $_) }
	  'SELECT pid, backend_type, state, wait_event, now() - query_start, pg_blocking_pids(pid), query FROM pg_stat_activity',
	  'SELECT gid, now() - prepared, transaction FROM pg_prepared_xacts',
	  q{SELECT pid, virtualtransaction, locktype, classid, objid, objsubid, mode, granted FROM pg_locks WHERE locktype <> 'virtualxid'},
	  'SELECT * FROM distlock.waiters';
}

# Wait until so many wait for the key.
sub await_waiters
{
	my ($node, $key, $count) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = $count FROM distlock.waiters WHERE key = '$key'")
	  or die "there are not $count waiters for \"$key\"";
	return;
}

# Hold the key "key" with the token "first", and give it back.
sub hold_key
{
	my ($node) = @_;

	$node->safe_psql('postgres', "SELECT distlock.acquire_with_token('key', 'first', '1 h')");
	return;
}

sub let_go_of_key
{
	my ($node) = @_;

	$node->safe_psql('postgres', "SELECT distlock.release('key', 'first')");
	return;
}

# So many sessions that wait for the key "key", one after the other.
sub queue_up
{
	my ($node, $count, $sql) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM distlock.waiters');
	my @waiters;

	for my $i (1 .. $count)
	{
		push @waiters, session($node);
		$waiters[-1]->send($sql);
		await_waiters($node, 'key', $before + $i);
	}
	return @waiters;
}

# A column of pg_stat_activity for the WAL writer, which may have been started just
# now
sub of_walwriter
{
	my ($node, $column) = @_;
	my $value = '';

	await('a WAL writer', sub {
		$value = $node->safe_psql('postgres',
			"SELECT $column FROM pg_stat_activity WHERE backend_type = 'walwriter'");
		return $value ne '';
	});
	return $value;
}

# From now on WAL gets to the disk only if somebody waits for that: what is
# not flushed for a commit is lost in the next crash.
sub stop_walwriter
{
	my ($node) = @_;
	my $pid = of_walwriter($node, 'pid');

	kill('STOP', $pid) == 1 or die "could not stop the WAL writer";
	return;
}

# kill -9 of every process of the server, without asking it which there are.
sub crash
{
	my ($node) = @_;
	my $pidfile = $node->data_dir . '/postmaster.pid';
	my ($postmaster) = split /\n/, slurp_file($pidfile);

	# Nobody is forked while we look: he would stay behind, and might wait for ever for
	# a lock inside the server whose holder has been killed.
	kill 'STOP', $postmaster;
	my @pids = children_of($postmaster);

	$node->kill9;
	kill('KILL', @pids);
	await('end of all processes', sub { !grep { is_alive($_) } $postmaster, @pids });

	# While nobody has collected it, it would be taken for a server that runs.
	unlink $pidfile, $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	return;
}

sub children_of
{
	my ($parent) = @_;
	my @pids;

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		# It may have gone meanwhile.
		my $stat = eval { slurp_file($file) } // '';

		push @pids, $1 if $stat =~ /^(\d+) \(.*\) \S $parent /s;
	}
	return @pids;
}

# A process that nobody has collected is none.
sub is_alive
{
	my ($pid) = @_;

	return 0 unless kill(0, $pid);

	# It may go while we look.
	my $stat = eval { slurp_file("/proc/$pid/stat") } // '';
	return $stat ne '' ? $stat !~ /\) Z / : kill(0, $pid);
}

# Start a server that has crashed; its processes may not have gone yet.
sub start_again
{
	my ($node) = @_;

	await('start after a crash', sub {
		return 1 if $node->start(fail_ok => 1);
		# It may have left a wrong notion of what runs.
		$node->stop('fast', fail_ok => 1);
		return 0;
	});
	return;
}

# Does it take sessions?  It may be about to start or to end: psql may have gone
# then before it has read what to do, which is an error of whoever writes to it.
sub is_up
{
	my ($node) = @_;

	return (eval { $node->psql('postgres', '', extra_params => [ '-c', 'SELECT 1' ]) } // 2) == 0;
}

# Everything that distlock keeps in the lock manager, as text; '' for nothing.
sub traces
{
	my ($node, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', <<'EOQ');
SELECT format('pg_locks: class %s mode %s pid %s', objsubid, mode, pid)
FROM pg_locks WHERE locktype = 'advisory'
UNION ALL
SELECT format('waiter: key %s pid %s', key, pid) FROM distlock.waiters
EOQ
}

# Is this process of the server there?
sub connected
{
	my ($node, $pid) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE pid = $pid");
}

# A session of psql.  Its methods return what was printed, unaligned.
package DistlockTest::Session;

use strict;
use warnings;

use IPC::Run;

sub new
{
	my ($class, $node, $dbname) = @_;
	my $self = bless { in => '', out => '', err => '', sent => 0 }, $class;

	$self->{timeout} =
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$self->{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v',
			'SHOW_CONTEXT=never', '-d', $node->connstr($dbname)
		],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		$self->{timeout});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

# Process id of the server's side.
sub pid
{
	my ($self) = @_;

	return $self->{pid};
}

# Begin to execute something.  Follow with result().
sub send
{
	my ($self, $sql) = @_;
	my $mark = 'distlock: end of ' . ++$self->{sent};

	$sql .= ';' unless $sql =~ /(;|\\\w+[^\n]*)\s*$/;
	$self->{out} = $self->{err} = '';
	$self->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	$self->{in} .= "$sql\n\\echo '$mark'\n\\warn '$mark'\n";
	$self->{run}->pump_nb while length $self->{in};
	return;
}

# Has it come to an end?
sub is_done
{
	my ($self) = @_;
	my $mark = qr/^distlock: end of $self->{sent}\r?\n/m;

	eval { $self->{run}->pump_nb } if $self->{run}->pumpable;
	return 1 if $self->{out} =~ $mark && $self->{err} =~ $mark;
	return !$self->{run}->pumpable;
}

# Wait for the end of what was sent.  What has failed is in sqlstate() then,
# also when it was the session.
sub result
{
	my ($self) = @_;

	# An error here says that psql has ended; a timeout ends the test.
	until ($self->is_done)
	{
		eval { $self->{run}->pump };
		die $@ if $@ =~ /timeout/;
	}
	$self->{out} =~ s/^distlock: end of \d+\r?\n//m;
	chomp(my $output = $self->{out});
	return $output;
}

# Of what was done last: '' if it succeeded.
sub sqlstate
{
	my ($self) = @_;

	return $1 if $self->{err} =~ /(?:ERROR|FATAL):\s+(\w{5}):/;
	return $self->{err} =~ /server closed the connection|connection to server was lost/
	  ? '08006'
	  : '';
}

# What psql said of errors.
sub stderr
{
	my ($self) = @_;

	return $self->{err};
}

# Execute, with an error if there is one.
sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	my $output = $self->result;
	die "\"$sql\" failed: $self->{err}" if $self->sqlstate ne '';
	return $output;
}

# Execute what should fail, and return the SQLSTATE.
sub fails
{
	my ($self, $sql) = @_;

	$self->send($sql);
	$self->result;
	return $self->sqlstate;
}

sub quit
{
	my ($self) = @_;

	$self->{in} .= "\\q\n" if $self->{run}->pumpable;
	eval { $self->{run}->finish };
	return;
}

# The client goes without a word.
sub kill_client
{
	my ($self) = @_;

	$self->{run}->signal('KILL');
	eval { $self->{run}->finish };
	return;
}

1;
