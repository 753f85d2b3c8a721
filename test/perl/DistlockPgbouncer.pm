# A PgBouncer of our own in front of a server, and what its console tells.
#
#	skip_without_pgbouncer();
#	my $pooler = DistlockPgbouncer->new($node, 'transaction', pool_size => 2);
#	my $client = session($pooler, 'postgres');
#	$pooler->restart_with(pool_mode => 'session');
#
# It listens on a Unix-domain socket and nowhere else.  Clients name databases of
# the server, or aliases: other names for one, with pools and settings of their
# own.

package DistlockPgbouncer;

use strict;
use warnings;

use DistlockChildren;
use DistlockTest;
use Exporter 'import';
use POSIX ':sys_wait_h';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(skip_without_pgbouncer);

sub program
{
	foreach my $dir (split(/:/, $ENV{PATH}), '/usr/sbin')
	{
		return "$dir/pgbouncer" if -x "$dir/pgbouncer";
	}
	return;
}

sub skip_without_pgbouncer
{
	plan skip_all => 'PgBouncer is not installed' unless defined program();
	return;
}

# Has it at least this version?
sub version
{
	my ($major, $minor) = @_;
	my ($have_major, $have_minor) = qx(${\ program()} --version) =~ /PgBouncer (\d+)\.(\d+)/
	  or die 'this PgBouncer does not tell its version';

	return ($have_major <=> $major || $have_minor <=> $minor) >= 0;
}

# One that is up.  Options:
#	aliases		what to add to pgbouncer.ini's list of databases: a hash of
#				settings, as "pool_size=2", by name
#	any other	a setting of pgbouncer.ini
sub new
{
	my ($class, $node, $mode, %options) = @_;
	my $aliases = delete $options{aliases} // {};
	my $name = $node->name . '_pgbouncer';
	my $self = bless {
		node => $node,
		dir => PostgreSQL::Test::Utils::tempdir($name),
		# Paths of sockets must not be long.
		host => PostgreSQL::Test::Utils::tempdir_short(),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		log => "$PostgreSQL::Test::Utils::log_path/$name.log",
		aliases => $aliases,
		settings => { pool_mode => $mode, %options } }, $class;

	$self->start;
	return $self;
}

sub write_conf
{
	my ($self) = @_;
	my $server = 'host=' . $self->{node}->host . ' port=' . $self->{node}->port;
	my $user = getpwuid $<;
	my %settings = (
		listen_addr => '',
		listen_port => $self->{port},
		unix_socket_dir => $self->{host},
		auth_type => 'trust',
		auth_file => "$self->{dir}/users.txt",
		admin_users => $user,
		logfile => $self->{log},
		# psql 15 and newer send more than it knows
		ignore_startup_parameters => 'extra_float_digits,options',
		%{ $self->{settings} });

	open my $users, '>', $settings{auth_file} or die "could not write users.txt: $!";
	print $users "\"$user\" \"\"\n";
	close $users;
	open my $conf, '>', "$self->{dir}/pgbouncer.ini" or die "could not write pgbouncer.ini: $!";
	print $conf "[databases]\n";
	print $conf "$_ = $server $self->{aliases}{$_}\n" foreach sort keys %{ $self->{aliases} };
	print $conf "* = $server\n[pgbouncer]\n";
	print $conf "$_ = $settings{$_}\n" foreach sort keys %settings;
	close $conf;
	return;
}

sub start
{
	my ($self) = @_;
	my $program = program();

	$self->write_conf;
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log};
		open STDERR, '>>', $self->{log};
		exec {$program} $program, '-q', "$self->{dir}/pgbouncer.ini" or POSIX::_exit(1);
	}
	$self->{pid} = $pid;
	child_started($pid);
	await('PgBouncer to start', sub {
		die 'it has ended: ' . slurp_file($self->{log}) if waitpid($pid, WNOHANG) == $pid;
		return -S "$self->{host}/.s.PGSQL.$self->{port}" && eval { $self->console('SHOW VERSION'); 1 };
	});
	return;
}

# At once, whatever its clients do.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;

	# Since 1.23, TERM lets it wait for its clients.
	kill(version(1, 23) ? 'QUIT' : 'TERM', $pid);
	await('PgBouncer to end', sub { waitpid($pid, WNOHANG) != 0 });
	child_ended($pid);
	return;
}

sub restart_with
{
	my ($self, %settings) = @_;

	$self->stop;
	$self->{settings} = { %{ $self->{settings} }, %settings };
	$self->start;
	return;
}

# So that session() of DistlockTest takes it for a server.
sub connstr
{
	my ($self, $dbname) = @_;

	return "host='$self->{host}' port=$self->{port} dbname='$dbname'";
}

sub host { return $_[0]{host}; }
sub port { return $_[0]{port}; }
sub logfile { return $_[0]{log}; }

# What its console answers.
sub console
{
	my ($self, $command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XA', '-F', '|', '-P', 'footer=off', '-d', $self->connstr('pgbouncer'), '-c', $command ],
		'>', \$out, '2>', \$err)
	  or die "\"$command\" failed: $err";
	return $out;
}

# A column of "SHOW POOLS", of the pool of a database: cl_waiting, sv_active, ...
sub pool
{
	my ($self, $dbname, $column) = @_;
	my ($head, @rows) = map { [ split /\|/ ] } split /\n/, $self->console('SHOW POOLS');
	my %at = map { $head->[$_] => $_ } 0 .. $#$head;

	foreach my $row (@rows)
	{
		return $row->[ $at{$column} ] if $row->[ $at{database} ] eq $dbname;
	}
	return 0;
}

# Wait until so many clients of a pool wait for a server connection.
sub await_clients_waiting
{
	my ($self, $dbname, $count) = @_;

	await("$count clients of \"$dbname\" to wait for the pool",
		sub { $self->pool($dbname, 'cl_waiting') == $count });
	return;
}

1;
