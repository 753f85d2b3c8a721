# The table stays small, without any help: updates of keys that come again are
# made in place, rows of keys that do not are purged by those who come later,
# and only when no snapshot can need them any more (promise 10).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "autovacuum = on\nsynchronous_commit = off");
my $session = session($node);

sub size
{
	return $session->query("SELECT pg_relation_size('distlock.lock')");
}

# Acquire and release keys, each time in two transactions; i in the key counts.
sub come_and_go
{
	my ($key, $from, $to) = @_;

	$session->query(<<"EOQ");
DO \$\$
BEGIN
	FOR i IN $from .. $to LOOP
		PERFORM distlock.acquire_with_token($key, 'mine', '1 h');
		COMMIT;
		PERFORM distlock.release($key, 'mine');
		COMMIT;
	END LOOP;
END \$\$
EOQ
	return;
}

sub rows
{
	return $session->query('SELECT count(*) FROM distlock.lock');
}

# Keys that come again: 500 of them, 20,000 times
$session->query("SET distlock.durable = off");
come_and_go("'key ' || i % 500", 1, 20_000);
$session->query('SELECT pg_stat_force_next_flush()');
my ($updates, $hot) = split /\|/, $session->query(
	"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'distlock.lock'::regclass");
cmp_ok($updates, '>', 30_000, 'keys that come again: there are updates');
cmp_ok($hot, '>=', 0.95 * $updates, "... at least 95 % of them in place ($hot of $updates)");
my $size = size();
$session->query('VACUUM FULL distlock.lock');
cmp_ok($size, '<=', 4 * size(), '... and the table is within 4 times its live size');

# Keys that never do, released or left to lapse, 4,000 at a time.  What has
# ended a while ago goes as new ones come, and space is used again.
my @sizes;
for my $batch (1 .. 4)
{
	$node->poll_query_until('postgres', <<'EOQ') or die 'locks do not end';
SELECT coalesce(max(expires_at), '-infinity') < clock_timestamp() - interval '10.5 s'
FROM distlock.lock
EOQ
	come_and_go("'once $batch.' || i", 1, 2000);
	$session->query(<<"EOQ");
DO \$\$
BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM distlock.acquire_with_token('lapsed $batch.' || i, 'mine', '1 ms');
		COMMIT;
	END LOOP;
END \$\$
EOQ
	cmp_ok(rows(), '<', 10_000, "keys used once: not many rows after batch $batch");
	push @sizes, size();
	$session->query('VACUUM distlock.lock');
}
cmp_ok($sizes[3], '<=', 1.5 * $sizes[1], '... and the table does not grow')
  or diag("@sizes");
# Autovacuum may have a snapshot for a moment.
becomes(sub { $session->query('CALL distlock.purge()'); rows() }, 0, 'purge() leaves no row that nobody needs');

# A snapshot that is needed: in it, the lock has not been released yet, so the
# row has to stay to tell that.
$session->query("SELECT distlock.acquire_with_token('seen', 'mine', '1 h')");
my $old = session($node);
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM distlock.lock');
$session->query("SELECT distlock.release('seen', 'mine')");
$session->query(<<'EOQ');
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		PERFORM distlock.acquire_with_token('more ' || i, 'mine', '1 h');
		PERFORM distlock.release('more ' || i, 'mine');
		COMMIT;
	END LOOP;
END $$
EOQ
$session->query('CALL distlock.purge()');
is($session->query("SELECT count(*) FROM distlock.lock WHERE key LIKE 'more %'"),
	'3000', 'an old snapshot: nothing that it may need is purged');
is($old->fails("SELECT distlock.acquire('seen', '1 h')"),
	'40001', '... so that it learns that somebody held the lock meanwhile');
$old->query('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->fails("SELECT distlock.acquire('more 7', '1 h')"), '', '... and not afterwards');
$old->query('ROLLBACK');

# Held locks are never purged, and what is not held does not stay.
$session->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
$session->query("SELECT distlock.acquire_with_token('lapsed', 'mine', '1 ms')");
becomes(
	sub { $session->query('CALL distlock.purge()'); $session->query('SELECT key FROM distlock.lock') },
	'held', 'purge() leaves what is held');
is($session->query("SELECT distlock.try_release('held', 'mine')"), 't', '... untouched');

$_->quit foreach $session, $old;
$node->stop;
done_testing();
