# Keys that never come again: whoever adds rows for new ones removes those of old
# ones, and the space is used again, without a worker and without vacuum
# (promise 10).  010_small_table.pl has it with many clients and old snapshots.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "fsync = off\ndistlock.purge_after = 0");

# More than 100 pages in all, and a few at a time
$node->safe_psql('postgres', <<'EOQ');
DO $$ BEGIN
	FOR i IN 1 .. 3000 LOOP
		PERFORM distlock.release('key ' || i, distlock.acquire('key ' || i, '1 min', owner => repeat('o', 200)));
		COMMIT;
	END LOOP;
END $$
EOQ
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM distlock.lock'),
	'<', 500, 'rows of keys that do not come again are removed');
cmp_ok($node->safe_psql('postgres',
		"SELECT pg_relation_size('distlock.lock') / current_setting('block_size')::int"),
	'<', 40, 'their space is used again');

$node->stop;
done_testing();
