# In a database without an encoding (SQL_ASCII), a key whose characters only the client
# knows is cut in messages where the client has no character: it would be told of that
# instead of what it should know.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

$node->safe_psql('postgres',
	"CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
$node->safe_psql('bytes', 'CREATE EXTENSION distlock');

# Characters of one to four bytes, cut at each of their bytes
my $session = session($node, 'bytes');
$session->query("SET client_encoding = 'UTF8'");
foreach my $character ('x', "\xc3\xa4", "\xe6\xbc\xa2", "\xf0\x9f\x94\x92")
{
	foreach my $before (0 .. length($character) - 1)
	{
		my $key = 'x' x $before . $character x (200 / length $character);

		$session->send("SELECT distlock.release('$key', 'tok')");
		$session->result;
		is($session->sqlstate, 'LK001',
			"$before bytes and characters of " . length($character) . ': not held');
		like(
			$session->stderr,
			qr/lock "x{$before}(?:$character)+\.\.\." is not held/,
			'... with the key');
		$session->query("SELECT distlock.acquire('$key', '1 h')");
		is($session->fails("SELECT distlock.acquire('$key', '1 h')"), '55P03', '... not granted');
	}
}
# Bytes that are no character to anybody
$session->query("SET client_encoding = 'SQL_ASCII'");
is($session->fails("SELECT distlock.release(repeat(E'\\$_', 200), 'tok');"), 'LK001', "bytes $_")
  foreach '200', '277', '377';

$session->quit;
$node->stop;
done_testing();
