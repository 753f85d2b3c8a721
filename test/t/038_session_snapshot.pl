# After a session that ended without a release, a transaction in REPEATABLE READ
# may be told that its snapshot could be too old (40001), but a retry succeeds,
# in whatever session; and it is never granted the lock when the holder's work
# is not visible to it (promise 9).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
$node->safe_psql('postgres', 'CREATE TABLE work (what text)');
my $repeatable = 'BEGIN ISOLATION LEVEL REPEATABLE READ';
my $try = "SELECT distlock.try_acquire('key', '1 h') IS NOT NULL, (SELECT count(*) FROM work)";

# A holder that works, and ends while somebody has an old snapshot
sub works_and_ends
{
	my ($meanwhile) = @_;
	my $holder = session($node);

	$node->safe_psql('postgres', 'TRUNCATE work');
	$holder->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h', scope => 'session')");
	$meanwhile->() if $meanwhile;
	$holder->query("INSERT INTO work VALUES ('mine')");
	$holder->quit;
	await('the session to end', sub { connected($node, $holder->pid) == 0 });
	return;
}

# With an old snapshot; then again
my $session = session($node);
works_and_ends(sub { $session->query("$repeatable; SELECT count(*) FROM work") });
is($session->fails($try), '40001', 'the snapshot is too old');
$session->query('ROLLBACK');
is($session->query("$repeatable; $try; ROLLBACK"), 't|1', 'a retry in the same session succeeds');

# Each transaction in a session of its own, as behind a pooler
works_and_ends();
my ($tries, $result) = (0, '');
while ($tries++ < 5 && $result ne 't|1')
{
	my $other = session($node);

	$other->send("$repeatable; $try; ROLLBACK");
	$result = $other->result;
	ok($result eq 't|1' || $other->sqlstate eq '40001', "try $tries: granted with the work visible, or 40001");
	$other->quit;
}
is($result, 't|1', 'a retry in another session succeeds');

# What a session remembers of an extension that was dropped since
for (1 .. 2)
{
	$node->safe_psql('postgres', 'DROP EXTENSION distlock; CREATE EXTENSION distlock');
	works_and_ends(sub { $session->query("$repeatable; SELECT count(*) FROM work") });
	is($session->fails($try), '40001', 'the snapshot is too old, also after the extension was created anew');
	$session->query('ROLLBACK');
}

$session->quit;
$node->stop;
done_testing();
