# Helpers for the tests of what distlock announces and of what its worker does.

package DistlockEvents;

use strict;
use warnings;

use DistlockListener;
use DistlockTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(listener listen_during told kinds await_unheld);

# Somebody who listens in a database.
sub listener
{
	my ($node, $dbname) = @_;

	return DistlockListener->new(
		host => $node->host, port => $node->port, dbname => $dbname // 'postgres',
		user => scalar getpwuid($<), timeout => $PostgreSQL::Test::Utils::timeout_default);
}

# Execute something in a session and listen meanwhile, so that it is known when
# events have come.
sub listen_during
{
	my ($listener, $session, $sql) = @_;

	$session->send($sql);
	$listener->receive(0.005) until $session->is_done;
	my $result = $session->result;
	die "\"$sql\" failed: " . $session->stderr if $session->sqlstate ne '';
	return $result;
}

# All that was announced up to now, as text: "event key" each.
sub told
{
	my ($listener) = @_;

	return join ', ', map { "$_->{event} $_->{key}" } $listener->events;
}

# How many of each event there are among these: a hash.
sub kinds
{
	my %count;

	$count{ $_->{event} }++ foreach @_;
	return \%count;
}

# Wait until no lock is held whose key is like that, uncommitted ones aside, and
# let somebody listen meanwhile.
sub await_unheld
{
	my ($session, $like, $listener) = @_;
	my $sql = <<"EOQ";
DO \$\$ BEGIN
	WHILE EXISTS (SELECT FROM distlock.lock WHERE token IS NOT NULL AND key LIKE '$like') LOOP
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
END \$\$
EOQ

	$listener ? listen_during($listener, $session, $sql) : $session->query($sql);
	return;
}

1;
