# What is announced: each thing that happens to a lock, if distlock.events has
# it, when and only when the transaction commits; as JSON that any parser reads,
# whatever the key is; and never a token.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockEvents;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded(),
	extra => [ '--encoding=UTF8', '--locale=C' ]);
my $session = session($node);
my $listener = listener($node);

await_worker($session, 'postgres');

# Executes it; what is announced then is expected to be that.
sub announces
{
	my ($what, $sql, $expected) = @_;

	$session->query($sql);
	is(told($listener), $expected, $what);
	return;
}

# The events
announces('by default, grants, extensions and releases are not announced', <<'EOQ', '');
SELECT distlock.acquire_with_token('a', 'SECRET', '1 h');
SELECT distlock.extend('a', 'SECRET', '1 h');
SELECT distlock.release('a', 'SECRET');
EOQ
announces('... but force is', <<'EOQ', 'forced a, forced a');
SELECT distlock.acquire_with_token('a', 'SECRET', '1 h');
SELECT distlock.force_acquire('a', '1 h');
SELECT distlock.force_release('a');
SELECT distlock.force_release('a');
SELECT distlock.force_acquire('a', '1 h');
SELECT distlock.force_release('none');
EOQ
$session->query("SET distlock.events = 'granted, extended, released, expired, forced'");
announces('all events', <<'EOQ', 'forced a, granted b, extended b, extended b, extended b, extended b, released b');
SELECT distlock.force_release('a');
SELECT distlock.acquire_with_token('b', 'SECRET', '1 min');
SELECT distlock.acquire_with_token('b', 'SECRET', '1 min');
SELECT distlock.extend('b', 'SECRET', '2 min');
SELECT distlock.ensure('b', 'SECRET', '3 min');
SELECT distlock.extend_all('SECRET', '4 min');
SELECT distlock.release_all('SECRET');
EOQ
announces('what is refused, or only looks, is no event', <<'EOQ', 'granted b, released b');
SELECT distlock.acquire_with_token('b', 'SECRET', '1 min');
SELECT distlock.try_acquire('b', '1 min'), distlock.try_acquire_with_token('b', 'x', '1 min'),
	distlock.try_extend('b', 'x', '1 min'), distlock.try_release('b', 'x'), distlock.is_held('b'),
	distlock.guard('b', 'SECRET'), distlock.ttl('b', 'SECRET'), distlock.fence('b', 'SECRET');
SELECT distlock.release('b', 'SECRET');
EOQ
announces('an expiry', <<'EOQ', 'granted b, expired b');
SELECT distlock.acquire_with_token('b', 'SECRET', '1 ms');
DO $$ BEGIN
	WHILE EXISTS (SELECT FROM distlock.lock WHERE token IS NOT NULL) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$
EOQ
announces('scope transaction is not announced', <<'EOQ', '');
BEGIN;
SELECT distlock.acquire_with_token('t', 'SECRET', '1 h', scope => 'transaction');
COMMIT;
SELECT distlock.do_exclusively('t', '1 h', 'SELECT 1');
EOQ
announces('scope session is', <<'EOQ', 'granted s, released s');
SELECT distlock.acquire_with_token('s', 'SECRET', '1 h', scope => 'session');
SELECT distlock.release('s', 'SECRET');
EOQ
announces('run_exclusively()', "CALL distlock.run_exclusively('r', '1 h', 'SELECT 1')",
	'granted r, released r');

# Transactions
announces('one transaction, in the order of what was done', <<'EOQ', 'granted b, released b, granted b, forced b');
BEGIN;
SELECT distlock.acquire_with_token('b', 'SECRET', '1 h');
SELECT distlock.release('b', 'SECRET');
SELECT distlock.acquire_with_token('b', 'OTHER SECRET', '1 h');
SELECT distlock.force_release('b');
COMMIT;
EOQ
announces('nothing of a rollback', <<'EOQ', '');
BEGIN;
SELECT distlock.acquire_with_token('b', 'SECRET', '1 h');
ROLLBACK;
EOQ
announces('savepoints', <<'EOQ', 'granted b, granted d, extended d');
BEGIN;
SELECT distlock.acquire_with_token('b', 'SECRET', '1 h');
SAVEPOINT one;
SELECT distlock.acquire_with_token('c', 'SECRET', '1 h');
SAVEPOINT two;
SELECT distlock.release('b', 'SECRET');
RELEASE two;
ROLLBACK TO one;
SAVEPOINT three;
SELECT distlock.acquire_with_token('d', 'SECRET', '1 h');
RELEASE three;
DO $$ BEGIN
	PERFORM distlock.release('d', 'SECRET');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	PERFORM distlock.extend('d', 'SECRET', '1 h');
END $$;
COMMIT;
EOQ
announces('nothing of a prepared transaction, which can be prepared', <<'EOQ', '');
BEGIN;
SELECT distlock.release('b', 'SECRET');
SELECT distlock.force_release('d');
SELECT distlock.acquire_with_token('p', 'SECRET', '1 h');
PREPARE TRANSACTION 'one';
COMMIT PREPARED 'one';
EOQ
announces('... and of one that is not', <<'EOQ', 'released p');
BEGIN;
SELECT distlock.release('p', 'SECRET');
PREPARE TRANSACTION 'two';
ROLLBACK PREPARED 'two';
SELECT distlock.release('p', 'SECRET');
EOQ

# The setting
announces('only what the setting has', <<'EOQ', 'released b');
SET distlock.events = released;
SELECT distlock.acquire_with_token('b', 'SECRET', '1 h');
SELECT distlock.release('b', 'SECRET');
EOQ
announces('nothing', <<'EOQ', '');
SET distlock.events = '';
SELECT distlock.acquire_with_token('b', 'SECRET', '1 h');
SELECT distlock.extend('b', 'SECRET', '1 h');
SELECT distlock.force_release('b');
EOQ
is($session->fails("SET distlock.events = 'granted, lost'"), '22023', 'there is no such event');
$node->safe_psql('postgres', 'CREATE ROLE somebody');
is($session->fails("SET ROLE somebody; SET distlock.events = ''"), '42501', 'not for everybody');
$session->query("RESET ROLE; SET distlock.events = 'Granted , \"released\"'");

# The payload.  Keys are given in the encoding of the database.
my $token = $session->query("SELECT distlock.acquire('k', '1 h', owner => 'me')");
my $secret = $session->query("SELECT distlock.acquire_with_token('l', 'SECRET', '1 h', data => 'DATA')");
my ($first, $second) = $listener->events;
is(join(',', sort grep { !/^(pid|payload|received|at_time)$/ } keys %$first),
	'at,event,fence,key,owner,version', 'the members of the payload');
is($first->{version}, 1, 'version');
is($first->{owner}, 'me', 'owner');
is($second->{owner}, undef, 'no owner');
is($second->{fence}, $secret, 'fence');
like($second->{payload}, qr/"fence":$secret,/, '... a number');
cmp_ok($second->{received} * 1_000_000 - $second->{at_time}, '<', 60_000_000, 'at');
unlike($first->{payload}, qr/\Q$token\E/, 'not the generated token');
unlike($second->{payload}, qr/SECRET|DATA/, 'not a token that was chosen, nor data');
$session->query("SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'");

my %keys = (
	'quotes' => "E'\"\"\\'\\\\\"'",
	'a line' => "E'a\\nb\\r\\tc\\u0001\\u007f'",
	'another script' => "U&'\\0444\\+01F512'",
	'like JSON' => "'\"},{\"event\":\"expired\"'",
	'512 control characters' => "repeat(chr(1), 512)",
	'512 quotes' => "repeat('\"', 512)",
	'512 bytes of 4 each' => "repeat(U&'\\+01F512', 128)");
for my $what (sort keys %keys)
{
	my $bytes = $session->query(
		"SELECT string_agg(ascii(c)::text, ' ') FROM regexp_split_to_table($keys{$what}, '') c;");

	$session->query("SELECT distlock.release($keys{$what}, distlock.acquire($keys{$what}, '1 h', owner => repeat(chr(1), 256)));");
	my @events = $listener->events;

	is(join(', ', map { $_->{event} } @events), 'granted, released', "$what: announced");
	is(join(' ', map { ord } split //, $events[0]{key}), $bytes, '... as what it is');
	is($events[0]{owner}, "\1" x 256, '... and the owner');
	cmp_ok(length $events[0]{payload}, '<', 8000, '... which is not too long');
}

# A session with another encoding than the database
$session->query("SET client_encoding = 'LATIN1'");
$session->query("SELECT distlock.release('k\xe4', distlock.acquire('k\xe4', '1 h'))");
is(($listener->events)[0]{key}, "k\x{e4}", 'the encoding is that of the database');

# The worker goes by the setting as well, also when it is changed.
change_setting($session, 'distlock.events', 'released');
await('expiries to be announced no more', sub {
	$session->query("SELECT distlock.acquire_with_token('quiet', 'mine', '1 ms')");
	await_unheld($session, 'quiet');
	return told($listener) !~ /expired/ });
change_setting($session, 'distlock.events', 'expired');
await('expiries to be announced again', sub {
	$session->query("SELECT distlock.acquire_with_token('loud', 'mine', '1 ms')");
	await_unheld($session, 'loud');
	return told($listener) =~ /expired loud/ });
pass('the worker follows the setting');

# Nobody of another database hears of it.
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $stranger = listener($node, 'other');
$session->query("SELECT distlock.acquire('strange', '1 h')");
is(told($listener), 'granted strange', 'announced in its database');
is(told($stranger), '', '... and not in another');

$_->quit foreach $listener, $stranger, $session;
$node->stop;
done_testing();
