# The commit of a release alone need not wait for the disk; but work that is
# committed along with a release is as durable as ever, in whatever order it
# was done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $release = "SELECT distlock.release(k, 'mine') FROM unnest(ARRAY['one']) k;";
my $release_two = "SELECT distlock.release(k, 'mine') FROM unnest(ARRAY['two']) k;";
my $work = 'INSERT INTO work SELECT 1;';

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE work (n int);
CREATE FUNCTION work() RETURNS trigger LANGUAGE plpgsql
	AS 'BEGIN INSERT INTO work SELECT 1; RETURN NULL; END';
CREATE TABLE late (n int);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION work();
EOQ

# Each is followed by a crash that loses what has not been flushed.
for my $case (
	[ 'work, release', "BEGIN; $work $release COMMIT" ],
	[ 'release, work', "BEGIN; $release $work COMMIT" ],
	[ 'release, work, release', "BEGIN; $release $work $release_two COMMIT" ],
	[ 'work in a savepoint, release', "BEGIN; SAVEPOINT s; $work RELEASE s; $release COMMIT" ],
	[ 'release undone, work', "BEGIN; SAVEPOINT s; $release ROLLBACK TO s; $work COMMIT" ],
	[ 'release, work in a savepoint', "BEGIN; $release SAVEPOINT s; $work RELEASE s; COMMIT" ],
	[ 'both in one statement',
		"WITH w AS (INSERT INTO work SELECT 1 RETURNING n) SELECT distlock.release('one', 'mine') FROM w" ],
	[ 'release, and work after that', "$release $work" ],
	[ 'release, and work, in a procedural block',
		"DO \$\$ BEGIN PERFORM distlock.release('one', 'mine'); COMMIT; INSERT INTO work SELECT 1; END \$\$" ],
	[ 'release, and work of a deferred trigger', "BEGIN; INSERT INTO late SELECT 1; $release COMMIT" ],
	[ 'release that fails, and work',
		"BEGIN; SELECT distlock.try_release('one', 'not mine'); $work $release COMMIT" ])
{
	my ($what, $sql) = @$case;
	my $session = session($node);

	$session->query(<<'EOQ');
TRUNCATE work;
SELECT distlock.force_release(k), distlock.acquire_with_token(k, 'mine', '1 h')
FROM unnest(ARRAY['one', 'two']) k
EOQ
	stop_walwriter($node);
	$session->query($sql);
	crash($node);
	start_again($node);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM work'), '1', "$what: the work is there");
	$session->kill_client;
}

# That the crash does lose something: a release by itself, which is harmless
my $session = session($node);
$session->query("SELECT distlock.force_acquire('one', '1 h') IS NULL");
$session->query("SELECT distlock.acquire_with_token('three', 'mine', '1 h')");
stop_walwriter($node);
$session->query("SELECT distlock.release('three', 'mine')");
crash($node);
start_again($node);
is($node->safe_psql('postgres', "SELECT distlock.fence('three', 'mine') IS NOT NULL"),
	't', 'a release alone is not flushed, and the lock stays reserved');
$session->kill_client;

$node->stop;
done_testing();
