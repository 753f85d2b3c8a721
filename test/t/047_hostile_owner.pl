# Whoever owns the table of locks, because a superuser gave it away, cannot have
# the worker, which has all rights, execute his code.  An index with a function in
# it, which would have to be filled, makes the worker say so once and stop
# working, until it is gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded("distlock.events = 'expired, forced, granted, released, extended'",
		'distlock.purge_after = 0'));
my $admin = session($node);

await_worker($admin, 'postgres');
$admin->query(<<'EOQ');
CREATE ROLE mallory;
CREATE SCHEMA mallory AUTHORIZATION mallory;
ALTER TABLE distlock.lock OWNER TO mallory;
GRANT CREATE ON SCHEMA distlock TO mallory;
ALTER DATABASE postgres OWNER TO mallory;
EOQ

# His code leaves a line in the log, whatever becomes of the transaction.
$admin->query(<<'EOQ');
SET ROLE mallory;
CREATE FUNCTION mallory.strike(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RAISE LOG 'mallory struck by % as % in %', what, current_user, pg_backend_pid();
	RETURN true;
END $$;
CREATE FUNCTION mallory.at_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM mallory.strike('trigger');
	RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OR DELETE ON distlock.lock
	FOR EACH ROW EXECUTE FUNCTION mallory.at_row();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON distlock.lock
	FOR EACH ROW EXECUTE FUNCTION mallory.at_row();
CREATE TRIGGER at_statement BEFORE INSERT OR UPDATE OR DELETE ON distlock.lock
	FOR EACH STATEMENT EXECUTE FUNCTION mallory.at_row();
ALTER TABLE distlock.lock ENABLE ALWAYS TRIGGER before_row;
ALTER TABLE distlock.lock ADD CHECK (mallory.strike('constraint'));
ALTER TABLE distlock.lock ALTER data SET DEFAULT mallory.strike('default')::text;
CREATE RULE also AS ON UPDATE TO distlock.lock DO ALSO SELECT mallory.strike('rule');
CREATE POLICY everything ON distlock.lock USING (mallory.strike('policy'));
ALTER TABLE distlock.lock ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- what is looked up by name, and what is set for the database
CREATE FUNCTION mallory.now() RETURNS timestamptz LANGUAGE sql
	AS $$SELECT '-infinity'::timestamptz FROM mallory.strike('search path')$$;
ALTER DATABASE postgres SET search_path = mallory, pg_catalog;
ALTER DATABASE postgres SET default_transaction_read_only = on;
ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
ALTER DATABASE postgres SET statement_timeout = 1;
ALTER DATABASE postgres SET idle_in_transaction_session_timeout = 1;
ALTER DATABASE postgres SET row_security = off;
ALTER DATABASE postgres SET timezone = 'Pacific/Chatham';
ALTER DATABASE postgres SET client_encoding = 'latin1';
ALTER DATABASE postgres SET role = 'mallory';
RESET ROLE;
EOQ
sub struck
{
	return scalar log_lines($node, $_[0], qr/LOG:  mallory struck/);
}

# It would work: he is caught by his own code.
my $position = log_position($node);
$admin->query('SET ROLE mallory; UPDATE distlock.lock SET owner = NULL; RESET ROLE');
cmp_ok(struck($position), '>', 0, 'the code is executed by UPDATE');

# The worker starts with all that in place, frees and purges.
$position = log_position($node);
$admin->query('SELECT distlock.stop_worker(), distlock.start_worker()');
my $worker = await_worker($admin, 'postgres');
leave_to_lapse($admin, 20);
ok(await_freed($admin), 'leases are freed');
await('rows to be purged', sub { $admin->query('SELECT count(*) FROM distlock.lock') eq '0' });
is(struck($position), 0, '... and nobody else\'s code is executed');
is($admin->query('SELECT state, pid, errors FROM distlock.worker_status'), "running|$worker|0",
	'... without an error');

for my $index (
	'CREATE INDEX hers ON distlock.lock (mallory.strike(key))',
	'CREATE INDEX hers ON distlock.lock (key) WHERE mallory.strike(key)')
{
	my $before = $admin->query('SELECT errors FROM distlock.worker_status');
	my $from = log_position($node);

	leave_to_lapse($admin, 5, "'200 ms'");
	$admin->query("SET ROLE mallory; $index; RESET ROLE");
	$position = log_position($node);
	await_state($admin, 'postgres', 'failed');
	like($admin->query('SELECT last_error FROM distlock.worker_status'),
		qr/distlock\.lock/, "$index: the view shows why the worker fails");
	# It tries again.
	await('another attempt', sub {
		$admin->query('SELECT errors FROM distlock.worker_status') >= $before + 2 });
	is( scalar(
			grep { /FATAL|ERROR|LOG:  distlock/ && !/at work again/ } log_lines($node, $from, qr/\[$worker\]/)),
		1,
		'... the log once, however often it tries');
	is(struck($position), 0, '... and it does not fill the index');
	$admin->query('DROP INDEX distlock.hers');
	ok(await_freed($admin), '... until the index is gone');
	await_state($admin, 'postgres', 'running');
}
is($admin->query("SELECT pid FROM distlock.worker_status"), $worker, 'it was the same worker all the time');

$admin->quit;
$node->stop;
done_testing();
