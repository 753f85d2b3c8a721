
=pod

=head1 NAME

DistlockServers - servers that die, and others that take their place

=head1 SYNOPSIS

  my $primary = DistlockServers->make;
  my $standby = $primary->standby;
  $primary->wait_for($standby);
  $primary->kill;
  $standby->promote;

=head1 DESCRIPTION

Servers as of PostgreSQL::Test::Cluster.  The configuration of each is one file that
is written anew whenever something is changed, so that none inherits settings with
the data.

=cut

package DistlockServers;

use strict;
use warnings;

use DistlockTest ();
use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# fsync: what is killed are processes, not the machine.
my %SETTINGS = (
	listen_addresses => '',
	max_connections => 40,
	max_prepared_transactions => 20,
	shared_buffers => '16MB',
	fsync => 'off',
	autovacuum => 'off',
	jit => 'off',
	wal_level => 'logical',
	wal_log_hints => 'on',
	wal_keep_size => '256MB',
	max_wal_size => '256MB',
	max_wal_senders => 10,
	max_replication_slots => 10,
	archive_mode => 'on',
	archive_command => 'true',
	hot_standby => 'on',
	restart_after_crash => 'off',
	wal_retrieve_retry_interval => '100ms',
	wal_sender_timeout => 0,
	timezone => 'UTC',
	log_timezone => 'UTC',
	log_line_prefix => '%m [%p] %q%a ',
	'distlock.purge_after' => '1h');

my $made = 0;

=pod

=head1 METHODS

=head2 DistlockServers->make(install_path => ..., init => 0, settings => {...})

A new cluster with a new system identifier, started.  With init 0, it is only the
place for one.

=head2 $server->node, $server->query($sql), $server->safe_psql($dbname, $sql)

A query is for the database "postgres", in a session that is kept.

=cut

sub make
{
	my ($class, %options) = @_;
	my @path = $options{install_path} ? (install_path => $options{install_path}) : ();

	my $self = bless {
		node => PostgreSQL::Test::Cluster->new('s' . ++$made, @path),
		install_path => $options{install_path},
		settings => { %SETTINGS, %{ $options{settings} // {} } },
	}, $class;
	my $node = $self->{node};

	$self->{settings}{port} = $node->port;
	$self->{settings}{unix_socket_directories} = $node->host;
	return $self if defined $options{init} && !$options{init};

	$node->init(extra => [ '--wal-segsize=1', @{ $options{initdb} // [] } ]);
	$self->configure;
	$self->start unless $options{stopped};
	return $self;
}

sub node { return $_[0]->{node}; }
sub name { return $_[0]->node->name; }
sub data_dir { return $_[0]->node->data_dir; }

sub query
{
	my ($self, $sql) = @_;

	$self->{session} //= DistlockTest::session($self->node);
	return $self->{session}->query($sql);
}

sub safe_psql
{
	my ($self, $dbname, $sql) = @_;

	return $self->node->safe_psql($dbname, $sql);
}

# Until the query says so.
sub await
{
	my ($self, $what, $dbname, $sql) = @_;

	DistlockTest::await($what, sub { $self->safe_psql($dbname, $sql) eq 't' });
	return;
}

sub await_query
{
	my ($self, $what, $sql) = @_;

	DistlockTest::await($what, sub { $self->query($sql) eq 't' });
	return;
}

=pod

=head2 $server->configure(name => value, ...), $server->reload(...)

Change settings; undef removes one.

=cut

sub configure
{
	my ($self, %settings) = @_;
	my $all = $self->{settings};

	%$all = (%$all, %settings);
	delete $all->{$_} for grep { !defined $all->{$_} } keys %$all;
	open my $conf, '>', $self->data_dir . '/postgresql.conf' or die "could not configure: $!";
	print $conf "$_ = '" . ($all->{$_} =~ s/'/''/gr) . "'\n" for sort keys %$all;
	close $conf;
	return;
}

sub reload
{
	my ($self, %settings) = @_;

	$self->configure(%settings);
	$self->query('SELECT pg_reload_conf()');
	return;
}

=pod

=head2 $server->start, $server->stop($mode), $server->kill

To kill a server is to end all of its processes with signal 9 at once.

=cut

sub start
{
	my ($self) = @_;

	DistlockTest::start_again($self->node);
	return;
}

sub stop
{
	my ($self, $mode) = @_;

	$self->node->stop($mode);
	$self->end_session;
	return;
}

sub kill
{
	my ($self) = @_;
	my $node = $self->node;

	kill 'KILL', $self->processes;
	$node->kill9;
	DistlockTest::await('end of all processes', sub {
		my @pids = grep { DistlockTest::is_alive($_) } $self->processes;

		kill 'KILL', @pids;
		return !@pids;
	});
	unlink $self->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$self->end_session;
	return;
}

# All processes of the server live in its data directory.
sub processes
{
	my ($self) = @_;
	my $directory = $self->data_dir;

	return grep { (readlink "/proc/$_/cwd" // '') eq $directory } map { m{(\d+)} ? $1 : () } glob '/proc/[0-9]*';
}

sub end_session
{
	my ($self) = @_;

	$self->{session}->quit if $self->{session};
	delete $self->{session};
	return;
}

# It is not needed any more.
sub discard
{
	my ($self) = @_;

	$self->kill if defined $self->node->{_pid};
	rmtree($self->data_dir);
	return;
}

=pod

=head2 $server->standby(settings => {...})

A new standby of a server, which may be one itself.

=head2 $server->rejoin($primary)

A server that has stopped becomes a standby of one that has taken its place: what it
has that the other has not is rewound.  Returns false if that cannot be done now, because of
prepared transactions.

=cut

sub standby
{
	my ($self, %options) = @_;
	my $standby = $self->copy(%options);

	$standby->follow($self);
	return $standby;
}

# A base backup that nobody has started yet
sub copy
{
	my ($self, %options) = @_;
	my $copy = DistlockServers->make(
		install_path => $self->{install_path},
		init => 0,
		settings => $options{settings});

	$copy->command($self, 'pg_basebackup', '-D', $copy->data_dir, '--checkpoint=fast', '--no-sync');
	$copy->configure;
	return $copy;
}

sub rejoin
{
	my ($self, $primary) = @_;

	# Or its control file would still name the former timeline.
	$primary->query('CHECKPOINT');
	# With 18.6 (17 names the files in the same way) recovery does not remove a file of a
	# prepared transaction that is ahead of its start ("could not remove file
	# pg_twophase/FFFFFFFF00000D07"): the transaction, long committed, is there again one
	# day, and nobody can end it if its database is gone.
	return 0
	  if $self->node->pg_version >= 17
	  && $primary->node->safe_psql('postgres', q{SELECT count(*) FROM pg_ls_dir('pg_twophase')}) > 0;
	$self->command(undef, 'pg_rewind', '--no-sync', '-D', $self->data_dir,
		'--source-server', $primary->node->connstr('postgres'));
	$self->follow($primary);
	return 1;
}

sub follow
{
	my ($self, $primary) = @_;

	PostgreSQL::Test::Utils::append_to_file($self->data_dir . '/standby.signal', '');
	$self->configure(
		synchronous_standby_names => undef,
		primary_conninfo => connection($primary, $self));
	$self->start;
	$primary->await_query("streaming to " . $self->name, sprintf
		"SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = '%s' AND state = 'streaming')",
		$self->name);
	return;
}

sub connection
{
	my ($primary, $standby) = @_;

	return sprintf "host=%s port=%s user=%s application_name=%s",
	  $primary->node->host, $primary->node->port, scalar getpwuid($<), $standby->name;
}

# Run a program of this installation, connected to another server.
sub command
{
	my ($self, $server, $program, @options) = @_;

	push @options, '-h', $server->node->host, '-p', $server->node->port if $server;
	PostgreSQL::Test::Utils::system_or_bail($self->node->installed_command($program), @options);
	return;
}

=pod

=head2 $server->promote

Of a standby, whose primary has gone.

=head2 $server->cut_off

A standby gets nothing from now on.

=head2 $server->wait_for_standbys($names)

Commits wait for standbys from now on; see synchronous_standby_names.

=cut

sub promote
{
	my ($self) = @_;

	$self->node->promote;
	# What it was told as a standby
	$self->configure(primary_conninfo => undef);
	return;
}

sub cut_off
{
	my ($self) = @_;

	$self->reload(primary_conninfo => undef);
	$self->await_query('end of the WAL receiver', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');
	return;
}

sub wait_for_standbys
{
	my ($self, $names) = @_;

	$self->reload(synchronous_standby_names => $names);
	$self->await_query('a synchronous standby',
		"SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))");
	# The checkpointer tells all others of it.
	$self->query('CHECKPOINT');
	return;
}

1;
