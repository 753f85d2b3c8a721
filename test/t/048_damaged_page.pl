# A page of the lock table that cannot be read keeps the worker from that page
# only: what lapses on others is ended as ever.  The error is reported once, the
# state is failed until the page is right again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded("distlock.purge_after = '1 h'"));
my $session = steadfast($node);

# Enough leases to fill several pages; those of the first page stay there.
$session->query(<<'EOQ');
SELECT count(distlock.acquire('old ' || i, '1 h', data => repeat('x', 400))) FROM generate_series(1, 100) i;
EOQ
my $pages = $session->query("SELECT pg_relation_size('distlock.lock') / 8192");
cmp_ok($pages, '>', 3, 'the table has several pages');
my $file = $node->data_dir . '/' . $session->query("SELECT pg_relation_filepath('distlock.lock')");

$node->stop;
open(my $handle, '+<:raw', $file) or die "cannot open $file: $!";
read($handle, my $page, 24) == 24 or die "cannot read $file";
seek($handle, 0, 0);
print $handle "\xff" x 24;
close($handle);
$node->start;

$session = steadfast($node);
await_state($session, 'postgres', 'failed');
like($session->query("SELECT last_error FROM distlock.worker_status WHERE database = 'postgres'"),
	qr/invalid page in block 0/, 'the error is shown');

# On other pages.  Who adds a row purges some page when it commits, which fails
# if it is that one.
my $direct = session($node);

$direct->query('SET enable_seqscan = off');
for my $round (1 .. 3)
{
	my $row = "FROM distlock.lock WHERE key = 'new $round'";

	await('a grant', sub {
		$direct->fails("SELECT distlock.try_acquire('new $round', '1 ms')") eq '';
	});
	await('the end of a lease', sub { $direct->query("SELECT token IS NULL $row") eq 't' });
}
pass('leases on other pages are ended');
is(worker_state($session, 'postgres'), 'failed', 'it says that something is wrong');
my ($worker) = pids($session, 'worker', 'postgres');
my @errors = slurp_file($node->logfile) =~ /^.*\[$worker\] .*ERROR: .*invalid page in block 0.*$/mg;
is(scalar(@errors), 1, 'it is reported once') or diag(@errors);

# The page is put right; the server has never had it in memory.
open($handle, '+<:raw', $file) or die "cannot open $file: $!";
print $handle $page;
close($handle);
$node->reload;    # which makes the worker look at everything
await_state($session, 'postgres', 'running');
is($session->query("SELECT count(*) FROM distlock.lock WHERE token IS NOT NULL"), 100,
	'no lease was lost');
await('a line in the log', sub {
	slurp_file($node->logfile) =~ /\[$worker\] .*distlock worker for database "postgres" is at work again/ });
pass('the end of the trouble is reported too');

$direct->quit;
$node->stop;
done_testing();
