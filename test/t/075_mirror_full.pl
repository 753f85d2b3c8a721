# Redis has no memory left, for long: what is released goes all the same, also when
# everything is to be sent anew, and the worker does not wear itself out trying.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $node = new_node('main', conf => redis_conf($redis));
my $session = session($node);

$session->query('CREATE EXTENSION IF NOT EXISTS distlock');
await_connected($session);
$session->query("SELECT distlock.acquire_with_token('full ' || i, 'mine', '1 h') FROM generate_series(1, 3) i");
is_mirrored($redis, $session, 'before');

$redis->command('CONFIG', 'SET', 'maxmemory', '1');
$redis->command('DEL', 'distlock:postgres:full 1');

# It says what is wrong, and would like to repair it.
like(check_mirror($session), qr/\|full 1\|.*\|missing$/, 'a key is missing');
await_mirror($session, "last_error ~ 'OOM'", 'failing');

my ($errors, $began) = split /\|/, mirror_status($session, 'errors, clock_timestamp()');
await('some tries', sub { $session->query("SELECT clock_timestamp() > '$began'::timestamptz + interval '3 s'") eq 't' });
cmp_ok(mirror_status($session, 'errors') - $errors, '<', 20, 'it tries about once a second');

$session->query("SELECT distlock.release('full 2', 'mine')");
await('the key of a released lock to go', sub { !defined $redis->command('GET', 'distlock:postgres:full 2') });
pass('a released lock goes');
$session->query("SELECT distlock.acquire_with_token('full 4', 'mine', '1 h')");
await_mirror($session, 'lag_ms > 100', 'failing');
pass('it is behind with a new one');

# Another connection, to a Redis that is full
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
$session->query("SELECT distlock.release('full 3', 'mine')");
await('the key of a lock that was released then to go', sub { !defined $redis->command('GET', 'distlock:postgres:full 3') });
pass('also over a new connection');

$redis->command('CONFIG', 'SET', 'maxmemory', '0');
await_connected($session);
is_mirrored($redis, $session, 'there is memory again: all that is held is there');
ok(await_in_sync($session), '... and nothing else');

done_testing();
