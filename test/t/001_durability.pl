# Grants and extensions that a client has seen committed survive the death of
# the server, also with synchronous_commit = off (promise 4).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use IPC::Run;
use List::Util 'sum';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = 10;
my $node = new_node('main', conf => 'synchronous_commit = off');

# Each client acquires keys of its own, extends some, and writes down what the
# server said.  Others it releases again, of which it claims nothing.
sub script
{
	my ($name) = @_;
	my $path = $node->basedir . "/$name.sql";
	my $sql = '';

	for my $i (1 .. 4000)
	{
		$sql .= "SELECT 'fence', '$name-$i',"
		  . " distlock.acquire_with_token('$name-$i', 'mine', '1 h');\n";
		$sql .= "SELECT 'end', '$name-$i', distlock.extend('$name-$i', 'mine', '9 h');\n"
		  if $i % 3 == 0;
		$sql .= "SELECT distlock.acquire_with_token('r$name-$i', 'mine', '1 h');\n"
		  . "SELECT distlock.release('r$name-$i', 'mine');\n"
		  if $i % 4 == 0;
	}
	append_to_file($path, $sql);
	return $path;
}

# Let all clients work, kill the server with the code, check what they claim.
sub survives
{
	my ($round, $kill) = @_;
	my (@runs, @outputs);

	for my $i (1 .. $clients)
	{
		my $output = $node->basedir . "/$round-$i.out";
		push @outputs, $output;
		push @runs,
		  IPC::Run::start(
			[
				'psql', '-XAtq', '-d', $node->connstr('postgres'),
				'-f', script("$round-$i")
			],
			'<', \undef, '>', $output, '2>', '/dev/null');
	}
	await('thousands of answers', sub { sum(map { -s $_ || 0 } @outputs) > 300_000 });
	$kill->();
	eval { $_->finish } foreach @runs;
	start_again($node);

	my @claims = map { grep { /^(fence|end)\|.*\|/ } split /^/, slurp_file($_) } @outputs;
	chomp @claims;
	cmp_ok(scalar @claims, '>', 500, "$round: there are claims to check");
	my $values = join ",\n", map { sprintf "('%s', '%s', '%s')", split /\|/ } @claims;
	is($node->safe_psql('postgres', <<EOQ), '', "$round: every one is true");
SELECT * FROM (VALUES $values) claim(what, key, value)
WHERE CASE what
	WHEN 'fence' THEN distlock.fence(key, 'mine')::text IS DISTINCT FROM value
	ELSE NOT EXISTS (SELECT FROM distlock.locks l
		WHERE l.key = claim.key AND l.expires_at = value::timestamptz) END
LIMIT 3
EOQ
	return;
}

survives('immediate', sub { $node->stop('immediate') });
survives('kill', sub { stop_walwriter($node); crash($node) });

# Each as the last thing that was committed, with nobody else to have it written
my %calls = (
	'a grant' => "distlock.acquire_with_token('last', 'mine', '9 h')",
	'a grant for the session' => "distlock.acquire_with_token('last', 'mine', '9 h', scope => 'session')",
	'a grant once more' => "distlock.acquire_with_token('key', 'mine', '9 h')",
	'an extension' => "distlock.extend('key', 'mine', '9 h')",
	'an extension of all' => "distlock.extend_all('mine', '9 h')",
	'ensure' => "distlock.ensure('key', 'mine', '9 h')",
	'force' => "distlock.force_acquire('key', '9 h')");
foreach my $what (sort keys %calls)
{
	my $session = session($node);

	$session->query('TRUNCATE distlock.lock');
	$session->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h')");
	$session->query('CHECKPOINT');
	stop_walwriter($node);
	$session->query("SELECT $calls{$what}");
	crash($node);
	$session->quit;
	start_again($node);
	is($node->safe_psql('postgres', "SELECT count(*) FROM distlock.lock WHERE token IS NOT NULL AND expires_at > clock_timestamp() + '8 h'"),
		'1', "$what, and then a crash");
}

# With the setting off nobody waits for the disk.  This also shows that the
# crash does lose what is not flushed.
my $session = session($node);
$session->query('CHECKPOINT');
stop_walwriter($node);
$session->query("SELECT distlock.acquire_with_token('firm', 'mine', '1 h')");
$session->query('SET distlock.durable = off');
$session->query("SELECT distlock.acquire_with_token('loose', 'mine', '1 h')");
crash($node);
start_again($node);
is($node->safe_psql('postgres', "SELECT distlock.is_held('firm'), distlock.is_held('loose')"),
	't|f', 'distlock.durable = off trades the promise for speed');

$node->stop;
done_testing();
