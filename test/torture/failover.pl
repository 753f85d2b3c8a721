# Primaries die, and others take their place; servers come back, data is restored,
# copied and upgraded: nothing that was promised is lost, no fence comes twice.
#
# Clients work on the locks all the time and write down each fence that they are shown,
# each grant that they know to be committed (DistlockClerk).  What has to be true of that
# over all servers is in DistlockHistory, what has to be true of what each server has
# committed in DistlockVerdict.  A round is one of:
#
#   switch      the primary is stopped, its standby promoted: all is there
#   sync        it is killed; what was acknowledged to who waits for a standby is there
#   lossy       the standby was cut off before; what is granted since is lost, and
#               fences are above it all the same
#   chain       the same three, then the standby of the one promoted
#   double      two standbys of the same primary are promoted: no fence at both
#   point       recovery to a point in time: what was granted since is lost
#   dump        into a new cluster, a new database, one of the same name, over itself
#   template    a copy of the database takes its place
#   upgrade     pg_upgrade; to another version if the environment variable oldinstall
#               names an installation of an older one that has distlock (--from)
#   crash, quiet, restart   of the server, nothing else; quiet: fences were shown whose
#               WAL has not got to the disk
#
# Old primaries come back: as a standby, by pg_rewind, to be promoted again; or by
# mistake, as a second primary, whose fences stay below those of the new one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockClerk;
use DistlockHistory;
use DistlockServers;
use DistlockTest qw(await await_at stop_walwriter);
use DistlockTorture;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $CLERKS = 8;
my @KEYS = map { "key $_" =~ tr/ /_/r } 1 .. 200;

my $run = DistlockTorture->new('failover', seconds => 20,
	goals => { failovers => 100, losing_wal => 50, $ENV{oldinstall} ? (versions => 1) : () });
my $history = DistlockHistory->new(keys => \@KEYS);

# Where clients are at work, and where they were: the last of these can come back.
my $place;
my ($former, $former_place);
# Those at work
my %groups;

sub one_of { return $_[ int rand @_ ]; }

# With and without a worker
sub some_settings { return rand() < 0.5 ? { shared_preload_libraries => 'distlock' } : {}; }

# ---------------------------------------------------------------------------
# Work
# ---------------------------------------------------------------------------

sub begin_work
{
	my (@places) = @_;

	for my $at (@places)
	{
		$groups{ $at->{serial} } //= DistlockClerk::Group->new($history, $at,
			size => $CLERKS, keys => \@KEYS, abandons => 1);
	}
	return;
}

# Until so many more grants and works were acknowledged at each.
sub work
{
	my ($count, @places) = @_;
	my %until;

	begin_work(@places);
	$until{ $_->{serial} } = $groups{ $_->{serial} }->acknowledged + $count for @places;
	await_at($places[0]{server}->node, $places[0]{dbname}, 'work', sub {
		$_->keep_working for values %groups;
		return !grep { $groups{$_}->acknowledged < $until{$_} } keys %until;
	});
	return;
}

# At a place whose server has gone, or that sends everybody home.
sub end_work
{
	my ($at, %options) = @_;
	my $group = delete $groups{ $at->{serial} } or return;

	return $group->end unless $options{up};
	$group->send_home;
	# A database with such cannot be copied, dropped or upgraded.
	$history->end_prepared($at);
	return;
}

# From a few grants to hundreds of them
sub some { return 5 + int exp rand log 300; }

# The server goes, in some way.
sub end_server
{
	my ($at, @ways) = @_;
	my $way = one_of(@ways);

	note "$at->{serial} on " . $at->{server}->name . ": $way";
	$groups{ $at->{serial} }->at_an_end if $groups{ $at->{serial} };
	if ($way eq 'kill')
	{
		$at->{server}->kill;
	}
	else
	{
		$at->{server}->stop($way);
	}
	end_work($at);
	return;
}

# Clients go on somewhere else.
sub move
{
	my ($server, $dbname, $kept, %options) = @_;

	note "$place->{serial} moves to " . $server->name . ", $dbname: $kept";
	my $next = $history->enter($server, $dbname, from => $place, kept => $kept, %options);
	$place = $next;
	return;
}

# ---------------------------------------------------------------------------
# Failover
# ---------------------------------------------------------------------------

# A standby: a new one, or the one that was primary before.
sub standby_of
{
	my ($server) = @_;

	if (defined $former && rand() < 0.5)
	{
		my $returned = $former;

		undef $former;
		if ($returned->rejoin($server))
		{
			note $returned->name . ' is rewound';
			$run->add(rewound => 1);
			return $returned;
		}
		$returned->discard;
	}
	return $server->standby(settings => some_settings());
}

# The primary goes, its standby takes its place.
sub fail_over
{
	my ($how, $standby) = @_;
	my $server = $place->{server};
	my $lost = $history->count('lost');
	my $kept;

	begin_work($place) if $how ne 'sync' && rand() < 0.5;
	$standby //= standby_of($server);
	$server->wait_for_standbys('ANY 1 (*)') if $how eq 'sync';
	work(some(), $place);
	if ($how eq 'lossy')
	{
		$standby->cut_off;
		work(some(), $place);
	}
	end_server($place, $how eq 'switch' ? 'fast' : ('immediate', 'kill', 'kill'));
	# It may be wanted again, and tell the rest then.
	$history->leave($place);
	$standby->promote;

	discard_former();
	($former, $former_place) = ($server, $place);
	$former->configure(synchronous_standby_names => undef);
	move($standby, $place->{dbname},
		{ switch => 'all', sync => 'synchronous', lossy => 'before' }->{$how});
	$run->add(failovers => 1, $how => 1);
	$run->add(losing_wal => 1) if $history->count('lost') > $lost;
	return;
}

sub discard_former
{
	$former->discard if defined $former;
	undef $former;
	return;
}

# It is thought to be the primary still.
sub come_back_by_mistake
{
	return unless defined $former && rand() < 0.4;

	$former->start;
	my $mistake = $history->enter($former, $former_place->{dbname},
		from => $former_place, kept => 'all', again => 1);
	work(some(), $place) unless defined $place->{lowest};
	$mistake->{ceiling} = $place->{lowest};
	work(some(), $place, $mistake);
	end_server($mistake, 'fast', 'immediate');
	$history->leave($mistake);
	$former_place = $mistake;
	$run->add(mistakes => 1);
	return;
}

sub chain
{
	my $first = standby_of($place->{server});
	my $second = $first->standby(settings => some_settings());
	my @how = map { one_of('switch', 'sync', 'lossy', 'lossy') } 1 .. 2;

	fail_over($how[0], $first);
	work(some(), $place);
	# It follows, or starts anew if it cannot.
	fail_over($how[1], $second);
	$run->add(chains => 1);
	return;
}

sub double
{
	my $server = $place->{server};
	my $dbname = $place->{dbname};
	my $lost = $history->count('lost');
	my @standbys = map { $server->standby(settings => some_settings()) } 1 .. 2;
	my @places;

	for my $standby (@standbys)
	{
		work(some(), $place);
		$standby->cut_off;
	}
	work(some(), $place);
	end_server($place, 'immediate', 'kill');
	$history->leave($place);
	for my $standby (@standbys)
	{
		$standby->promote;
		push @places, $history->enter($standby, $dbname, from => $place, kept => 'before');
		work(some(), $places[-1]);
	}
	$places[0]{ceiling} = $places[1]{lowest};
	work(some(), @places);

	# The data of the other goes with it: pg_rewind takes both for the same timeline.
	my $left = int rand 2;
	end_server($places[$left], 'immediate', 'kill');
	$history->leave($places[$left]);
	$standbys[$left]->discard;
	$server->discard;
	discard_former();
	$place = $places[ 1 - $left ];
	$run->add(failovers => 2, double => 1);
	$run->add(losing_wal => 2) if $history->count('lost') > $lost;
	return;
}

# ---------------------------------------------------------------------------
# Data that is restored, copied, upgraded
# ---------------------------------------------------------------------------

# To the time that it was a while ago, from a base backup and an archive
sub point
{
	my $server = $place->{server};
	my $archive = $server->node->basedir . '/archive';

	mkdir $archive;
	$server->reload(archive_command => "cp \"%p\" \"$archive/%f\"");
	begin_work($place);
	my $restored = $server->copy(settings => some_settings());
	work(some(), $place);
	$history->mark($place);
	my $time = $server->query('SELECT clock_timestamp()');
	work(some(), $place);
	# Recovery ends at the first commit that is later, so there has to be one.
	$server->query('SELECT pg_current_xact_id()');
	my $segment = $server->query('SELECT pg_walfile_name(pg_switch_wal())');
	work(some(), $place);
	$server->await_query('archiving', "SELECT coalesce(max(last_archived_wal) >= '$segment', false) FROM pg_stat_archiver");
	end_server($place, 'immediate', 'kill');
	$history->leave($place);

	append_to_file($restored->data_dir . '/recovery.signal', '');
	$restored->configure(
		restore_command => "cp \"$archive/%f\" \"%p\"",
		recovery_target_time => $time,
		recovery_target_action => 'promote');
	$restored->start;
	$restored->await_query('the end of recovery', 'SELECT NOT pg_is_in_recovery()');
	$restored->configure(map { $_ => undef } qw(restore_command recovery_target_time recovery_target_action));
	discard_former();
	move($restored, $place->{dbname}, 'marked');
	$server->discard;
	$run->add(points => 1);
	return;
}

sub dump_and_restore
{
	my ($server, $dbname) = @$place{qw(server dbname)};
	my $where = one_of(qw(cluster database name itself));
	my $file = $server->node->basedir . '/dump';
	my $target = $server;

	work(some(), $place);
	$server->command($server, 'pg_dump', '-Fc', '-f', $file, $dbname);
	work(some(), $place);
	end_work($place, up => 1);
	$history->leave($place, up => 1);
	$server->end_session;
	discard_former();

	if ($where eq 'itself')
	{
		$server->command($server, 'pg_restore', '--clean', '--if-exists', '-d', $dbname, $file);
	}
	else
	{
		my $name = $where eq 'name' ? $dbname : "db_$place->{serial}";

		$target = DistlockServers->make(install_path => $server->{install_path}, settings => some_settings())
		  if $where eq 'cluster';
		drop($server, $dbname) if $where eq 'name';
		$target->safe_psql('template1', "CREATE DATABASE $name TEMPLATE template0");
		$server->command($target, 'pg_restore', '-d', $name, $file);
		drop($server, $dbname) if $where eq 'database';
		$dbname = $name;
	}
	move($target, $dbname, 'nothing');
	$server->discard if $where eq 'cluster';
	$run->add(dumps => 1);
	return;
}

sub drop
{
	my ($server, $dbname) = @_;

	$server->safe_psql('template1', "DROP DATABASE $dbname WITH (FORCE)");
	return;
}

sub template
{
	my ($server, $dbname) = @$place{qw(server dbname)};
	my $copy = "db_$place->{serial}";

	work(some(), $place);
	end_work($place, up => 1);
	$history->leave($place, up => 1);
	# Those who have been sent home may still be on their way.
	await('copy of the database', sub {
		$server->node->psql('template1', "CREATE DATABASE $copy TEMPLATE $dbname") == 0;
	});
	move($server, $copy, 'all');
	drop($server, $dbname);
	$run->add(templates => 1);
	return;
}

sub upgrade
{
	my $server = $place->{server};

	work(some(), $place);
	end_work($place, up => 1);
	$history->leave($place, up => 1);
	# From 17 on, slots go along, and must have been read to the end; those that a promotion
	# or a restoration has left are of no use.
	$server->node->safe_psql($place->{dbname},
		"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical'");
	$server->stop('fast');

	# An older version of initdb knows no checksums by default.
	my $new = DistlockServers->make(settings => some_settings(), stopped => 1,
		initdb => [ $server->{install_path} && $server->node->pg_version < 18 ? no_checksums() : () ]);
	my $bindir = sub { $_[0]->node->config_data('--bindir') };
	$run->add(versions => 1) if $server->{install_path};
	chdir $new->node->basedir or die "could not change directory: $!";
	$new->command(undef, 'pg_upgrade', '--no-sync', '-d', $server->data_dir, '-D', $new->data_dir,
		'-b', $bindir->($server), '-B', $bindir->($new), '-s', $new->node->host,
		'-p', $server->node->port, '-P', $new->node->port);
	$new->configure;
	$new->start;
	discard_former();
	move($new, $place->{dbname}, 'all');
	$server->discard;
	$run->add(upgrades => 1);
	return;
}

sub no_checksums
{
	my ($version) = `initdb --version` =~ /(\d+)/;

	return $version >= 18 ? '--no-data-checksums' : ();
}

# Fences are shown whose WAL nobody has waited for, and nobody has written.
sub crash_quietly
{
	work(some(), $place);
	end_work($place, up => 1);
	stop_walwriter($place->{server}->node);
	my $group = $groups{ $place->{serial} } =
	  DistlockClerk::Group->new($history, $place, size => 1, keys => \@KEYS, quiet => 1);
	my $shown = $history->count('shown') + some();

	await('fences', sub { $group->keep_working; return $history->count('shown') >= $shown });
	start_over('kill');
	return;
}

# The same server again
sub start_over
{
	my (@ways) = @_;

	end_server($place, @ways);
	$place->{server}->start;
	move($place->{server}, $place->{dbname}, 'all', again => 1);
	return;
}

# ---------------------------------------------------------------------------
# Rounds
# ---------------------------------------------------------------------------

my %ROUNDS = (
	switch => [ 1, sub { fail_over('switch'); come_back_by_mistake() } ],
	sync => [ 5, sub { fail_over('sync'); come_back_by_mistake() } ],
	lossy => [ 7, sub { fail_over('lossy'); come_back_by_mistake() } ],
	chain => [ 3, \&chain ],
	double => [ 2, \&double ],
	point => [ 2, \&point ],
	dump => [ 3, \&dump_and_restore ],
	template => [ 1, \&template ],
	upgrade => [ 0.5, \&upgrade ],
	crash => [ 1, sub { work(some(), $place); start_over('kill', 'immediate'); $run->add(crashes => 1) } ],
	quiet => [ 1, sub { crash_quietly(); $run->add(crashes => 1) } ],
	restart => [ 1, sub { work(some(), $place); start_over('fast'); $run->add(restarts => 1) } ]);

sub draw_round
{
	my $sum = 0;
	$sum += $_->[0] for values %ROUNDS;
	my $drawn = rand $sum;

	for my $name (sort keys %ROUNDS)
	{
		return $name if ($drawn -= $ROUNDS{$name}[0]) < 0;
	}
	return 'sync';
}

my $primary = DistlockServers->make(install_path => $ENV{oldinstall}, settings => some_settings());
$primary->safe_psql('postgres', 'CREATE DATABASE app');
$primary->safe_psql('app', 'CREATE EXTENSION distlock');
$place = $history->enter($primary, 'app');
my $rounds = 0;
my $only = $ENV{DISTLOCK_FAILOVER_ROUND};    # for one kind alone

# It may take a while until the first server is there.
while ($run->go_on || ($rounds < 4 && Test::More->builder->is_passing))
{
	# What is there to be upgraded is as old as that only once.
	my $name = $only // ($ENV{oldinstall} && $rounds == 3 ? 'upgrade' : draw_round());
	my $began = time;

	note sprintf 'round %d: %s', ++$rounds, $name;
	$ROUNDS{$name}[1]->();
	ok(!$history->problems, "round $rounds: $name") or diag join "\n", $history->problems;
	$history->forget_all_but($place, defined $former ? $former_place : ());
	note sprintf '%.1f s', time - $began;
}

work(some(), $place) if Test::More->builder->is_passing;
end_work($place, up => 1);
$history->leave($place, up => 1);
is_deeply([ $history->problems ], [], 'nothing lost, no fence twice');
$run->add(rounds => $rounds);
$history->conclude($run);
$place->{server}->discard;
discard_former();
$run->finish;
