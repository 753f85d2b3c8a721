# A database in which a worker cannot start for now, because somebody has locked
# what every new connection needs, keeps no other database from having its
# worker, and has its own as soon as the lock is gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded());
my $admin = session($node);

$admin->query('CREATE DATABASE slow');
$admin->query('CREATE DATABASE other');
my $slow = session($node, 'slow');
my $blocker = session($node, 'slow');
$slow->query('CREATE EXTENSION distlock');
await_as_expected($admin, 'postgres', 'slow');

$slow->query('SELECT distlock.stop_worker()');
$blocker->query('BEGIN; LOCK TABLE pg_class');
$slow->send('SELECT distlock.start_worker()');
await('the worker to wait', sub { $admin->query(<<'EOQ') eq 't' });
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
	WHERE d.datname = 'slow' AND NOT granted)
EOQ
is(worker_state($admin, 'slow'), 'starting', 'a worker that cannot start: the view shows it');
$node->safe_psql('other', 'CREATE EXTENSION distlock');
ok(await_worker($admin, 'other'), '... another database gets its worker');
$blocker->query('ROLLBACK');
ok(await_as_expected($admin, 'postgres', 'slow', 'other'), 'it starts when it can');
is($slow->result, 't', '... and start_worker() has waited for it');
is_deeply([ log_lines($node, 0, qr/ERROR|FATAL|WARNING/) ], [], 'no errors in the log');

$_->quit foreach $slow, $blocker, $admin;
$node->stop;
done_testing();
