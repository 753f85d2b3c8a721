# A prepared transaction keeps what it has acquired, extended or released from
# everybody else, also over a crash, and hands over to a waiter when it ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main');

$node->safe_psql('postgres', <<'EOQ');
SELECT distlock.acquire_with_token(key, 'mine', '1 h')
FROM unnest(ARRAY['extended', 'released', 'shortened', 'both']) key;
BEGIN;
SELECT distlock.acquire_with_token('acquired', 'mine', '1 h');
SELECT distlock.extend('extended', 'mine', '9 h');
SELECT distlock.extend('shortened', 'mine', '1 ms');
SELECT distlock.release('released', 'mine');
SELECT distlock.release('both', 'mine');
SELECT distlock.acquire_with_token('both', 'other', '1 h');
PREPARE TRANSACTION 'one';
BEGIN;
SELECT distlock.acquire_with_token('undone', 'mine', '1 h');
PREPARE TRANSACTION 'two';
EOQ

# Nobody else gets any of them, or changes anything.
sub excludes
{
	my ($when) = @_;

	for my $key ('acquired', 'extended', 'released', 'shortened', 'both', 'undone')
	{
		my $began = time();
		is($node->safe_psql('postgres',
				"SELECT distlock.try_acquire('$key', '1 s') IS NULL, distlock.is_held('$key')"),
			't|t', "$when: $key excludes others");
		cmp_ok(time() - $began, '<', 60, '... and a try does not wait');
	}
	is(sqlstate($node, 'postgres', "SELECT distlock.force_acquire('acquired', '1 s')"),
		'55P03', "$when: it cannot be forced");
	return;
}

excludes('prepared');
$node->restart;
excludes('after a restart');
crash($node);
start_again($node);
excludes('after a crash');

# A waiter for each, then the end of the transaction
my %waiters;
for my $key ('acquired', 'extended', 'released', 'shortened', 'both', 'undone')
{
	my $waiter = $waiters{$key} = session($node);

	$waiter->send("SELECT distlock.try_acquire('$key', '1 h', wait => '100 s') IS NOT NULL");
	await_waiters($node, $key, 1);
}
sub handed_over
{
	my ($began, @keys) = @_;

	for my $key (@keys)
	{
		is($waiters{$key}->result, 't', "$key is handed over");
		cmp_ok(time() - $began, '<', 60, '... soon');
	}
	return;
}

my $began = time();
$node->safe_psql('postgres', "COMMIT PREPARED 'one'");
handed_over($began, 'released', 'shortened');
is($node->safe_psql('postgres', <<'EOQ'), "t|t|t", 'what was committed holds');
SELECT distlock.ttl('acquired', 'mine') > '50 min',
	distlock.ttl('extended', 'mine') > '8 h',
	distlock.ttl('both', 'other') > '50 min'
EOQ
$began = time();
$node->safe_psql('postgres', "ROLLBACK PREPARED 'two'");
handed_over($began, 'undone');
$began = time();
$node->safe_psql('postgres', <<'EOQ');
SELECT distlock.release('acquired', 'mine'), distlock.release('extended', 'mine'),
	distlock.release('both', 'other')
EOQ
handed_over($began, 'acquired', 'extended', 'both');

# Also a release that was prepared while somebody slept at the head
my $sleeper = session($node);
$node->safe_psql('postgres', "SELECT distlock.acquire_with_token('slept for', 'mine', '1 h')");
$sleeper->send("SELECT distlock.try_acquire('slept for', '1 h', wait => '100 s') IS NOT NULL");
await_waiters($node, 'slept for', 1);
$node->safe_psql('postgres', <<'EOQ');
BEGIN;
SELECT distlock.release('slept for', 'mine');
PREPARE TRANSACTION 'three';
EOQ
$began = time();
$node->safe_psql('postgres', "COMMIT PREPARED 'three'");
is($sleeper->result, 't', 'a release prepared during the wait hands over');
cmp_ok(time() - $began, '<', 60, '... soon');

$_->quit foreach values %waiters, $sleeper;
is(traces($node), '', 'nothing is left');

$node->stop;
done_testing();
