# examples/monitoring and examples/top show what is there, to a role that is a
# member of pg_monitor and nothing else, also on a standby; the alerts and the
# dashboard use only metrics that exist.
#
# With promtool (of the package prometheus), which need not be there, the alerts
# and all expressions are evaluated too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use CPAN::Meta::YAML;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my $with_redis = !$ENV{DISTLOCK_WITHOUT_REDIS};
my $redis = $with_redis ? DistlockRedis->new('main') : undef;
my $node = new_node('main', allows_streaming => 1, conf => $with_redis ? redis_conf($redis, "distlock.redis_timeout = '20s'") : preloaded());
my $admin = session($node);
my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};

# ---------------------------------------------------------------------------
# Something to be seen
# ---------------------------------------------------------------------------

$admin->query('CREATE ROLE watcher LOGIN IN ROLE pg_monitor');
$admin->query('CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION distlock; SELECT distlock.acquire('elsewhere', '1 h')");
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

my ($holder, @waiters) = map { session($node) } 1 .. 3;
$admin->query(<<'EOQ');
SELECT distlock.acquire('nightly', '1 h', owner => 'batch-2');
SELECT distlock.try_acquire('nightly', '1 h');
SELECT distlock.acquire_with_token('given back', 'mine', '1 h');
SELECT distlock.release('given back', 'mine');
SELECT distlock.acquire('lapsed', '1 ms');
SELECT distlock.acquire('by force', '1 h');
SELECT distlock.force_release('by force');
EOQ
$holder->query("SELECT distlock.acquire('bound', '1 h', scope => 'session')");
$holder->query("BEGIN; SELECT distlock.acquire('in transaction', '1 h', scope => 'transaction')");
foreach (@waiters)
{
	$_->send("SELECT distlock.acquire('nightly', '1 h', wait => '1 h')");
}
await_waiters($node, 'nightly', 2);
await_as_expected($admin, 'postgres', 'other');
await('the lapsed lease to be noticed',
	sub { $admin->query('SELECT expiries FROM distlock.stats WHERE database = current_database()') eq '1' });
await_connected($admin) if $with_redis;

# ---------------------------------------------------------------------------
# The queries
# ---------------------------------------------------------------------------

my $yaml = CPAN::Meta::YAML->read("$examples/monitoring/queries.yaml") or die CPAN::Meta::YAML->errstr;
my $queries = $yaml->[0];
my %labels;       # of each metric, by its name

# As that role: the answer as lines of values.
sub watched
{
	my ($server, $sql, $dbname) = @_;
	my ($ret, $stdout, $stderr) =
	  $server->psql($dbname // 'postgres', $sql, extra_params => [ '-U', 'watcher', '-F', "\t" ]);

	is("$ret|$stderr", '0|', 'no complaints') or diag $sql;
	return map { [ split /\t/, $_, -1 ] } split /\n/, $stdout;
}

# Rows of a query as hashes.
sub rows
{
	my ($name, $server, $dbname) = @_;
	my $query = $queries->{$name}{query};
	my @columns = map { $_->[0] } watched($server, "$query\\gdesc", $dbname);
	my @rows;

	foreach my $values (watched($server, $query, $dbname))
	{
		my %row;
		@row{@columns} = @$values;
		push @rows, \%row;
	}
	return @rows;
}

foreach my $name (sort keys %$queries)
{
	my $query = $queries->{$name};
	my @metrics = map { [ %$_ ] } @{ $query->{metrics} };
	my @labels = map { $_->[0] } grep { $_->[1]{usage} eq 'LABEL' } @metrics;
	my %expected;

	foreach (@metrics)
	{
		my ($column, $metric) = @$_;
		my $usage = $metric->{usage};

		$expected{$column} =
		    $usage eq 'LABEL' ? qr/^(text|name)$/
		  : $usage eq 'HISTOGRAM' ? qr/^double precision\[\]$/
		  : qr/^(integer|bigint|numeric|double precision)$/;
		like($metric->{description}, qr/^[A-Z0-9].*[^.]$/, "$name, $column: a description");
		like($column, $usage eq 'COUNTER' ? qr/^[a-z_]+_total$/ : qr/^[a-z_]+(?<!_total)$/, '... a name that fits');
		next if $usage eq 'LABEL';
		die "$usage?" unless $usage =~ /^(COUNTER|GAUGE|HISTOGRAM)$/;
		my @names = "${name}_$column";
		if ($usage eq 'HISTOGRAM')
		{
			@expected{ map { "${column}_$_" } 'bucket', 'sum', 'count' } =
			  (qr/^bigint\[\]$/, qr/^double precision$/, qr/^bigint$/);
			@names = map { "$names[0]_$_" } 'bucket', 'sum', 'count';
		}
		foreach (@names)
		{
			ok(!exists $labels{$_}, "$_: a name of its own");
			$labels{$_} = { map { $_ => 1 } @labels, $usage eq 'HISTOGRAM' ? 'le' : () };
		}
	}

	my %types = map { @$_ } watched($node, "$query->{query}\\gdesc");
	is_deeply([ sort keys %types ], [ sort keys %expected ], "$name: columns and metrics are the same");
	like($types{$_}, $expected{$_}, "... $_ is of a type that fits") foreach sort keys %expected;

	# Prometheus refuses everything when two are the same.
	my %seen;
	my @rows = rows($name, $node);
	ok(!(grep { $seen{ join "\0", @$_{@labels} }++ } @rows), "... the labels of each row differ");
	cmp_ok(scalar @rows, '>', 0, '... there is something') if $with_redis || $name ne 'distlock_mirror';
	# It is asked of one database only, or else is about the one that is asked.
	is($query->{master} ? 'of all' : join(',', keys %{ { map { $_->{database} => 1 } @rows } }),
		$query->{master} ? 'of all' : 'postgres', '... of the right databases');
	rows($name, $standby);
}

sub one_row
{
	my ($name, %where) = @_;
	my @rows = grep { my $row = $_; !grep { $row->{$_} ne $where{$_} } keys %where } rows($name, $node);

	is(scalar @rows, 1, "$name: one row for " . join ' ', %where);
	return $rows[0];
}

my %here = (database => 'postgres');
my $row = one_row('distlock', %here);
cmp_ok($row->{grants_total}, '>=', 4, 'grants are counted');
is(join(' ', @$row{ map { "${_}_total" } 'refusals', 'releases', 'expiries', 'take_overs', 'events_lost' }),
	'1 1 1 1 0', 'so is what becomes of them');
cmp_ok(one_row('distlock', database => 'other')->{grants_total}, '>=', 1, 'in each database');

$row = one_row('distlock_hold', %here);
my @le = split /,/, $row->{seconds} =~ s/[{}]//gr;
my @counts = split /,/, $row->{seconds_bucket} =~ s/[{}]//gr;
is(scalar @le, scalar @counts, 'a histogram has a count for each bound');
is_deeply([ sort { $a <=> $b } @le ], \@le, '... the bounds grow');
is_deeply([ sort { $a <=> $b } @counts ], \@counts, '... the counts are cumulative');
is("$counts[-1] $row->{seconds_count}", '3 3', '... of the three that have ended');
cmp_ok($row->{seconds_sum}, '>', 0, '... with a sum');

$row = one_row('distlock_worker', %here);
is("$row->{running} $row->{state} $row->{errors_total}", '1 3 0', 'the worker runs');
is(one_row('distlock_worker', database => 'other')->{running}, 1, '... in the other database, too');

is(join(' ', map { one_row('distlock_locks', scope => $_)->{held} } 'lease', 'session', 'transaction'),
	'1 1 1', 'locks of each scope');
is((grep { $_->{scope} eq 'session' } rows('distlock_locks', $node, 'other'))[0]{held}, 0, '... and of none');
cmp_ok(one_row('distlock_locks', scope => 'lease')->{longest_held_seconds}, '>', 0, '... with an age');
$row = one_row('distlock_queue', %here);
is("$row->{waiters} $row->{keys}", '2 1', 'the queue');
cmp_ok($row->{longest_wait_seconds}, '>', 0, '... and how long it has been');
$row = one_row('distlock_key', key => 'nightly', scope => 'lease');
is($row->{waiters}, 2, 'a key with its waiters');
cmp_ok($row->{held_seconds}, '>', 0, '... and how long it has been held');
cmp_ok(one_row('distlock_table', %here)->{bytes}, '>', 0, 'the size of the table');

SKIP:
{
	skip 'distlock was built without the mirror', 4 unless $with_redis;
	await('both keys in Redis', sub { mirror_status($admin, 'keys') eq '2' });
	$row = one_row('distlock_mirror', %here);
	is("$row->{connected} $row->{state} $row->{keys} $row->{conflicts}", '1 3 2 0', 'the mirror is connected');
	$redis->stop;
	await_mirror($admin, 'true', 'disconnected');
	$row = one_row('distlock_mirror', %here);
	is("$row->{connected} $row->{state}", '0 0', '... or not');
	$redis->start;
	await_connected($admin);
}
$admin->query('SELECT distlock.stop_worker()');
$row = one_row('distlock_worker', %here);
is("$row->{running} $row->{state}", '0 1', 'the worker is stopped');
$admin->query('SELECT distlock.start_worker()');
await_connected($admin) if $with_redis;

# All states that there are have a number.
foreach my $view ('worker', 'mirror')
{
	my $comment = $admin->query("SELECT obj_description('distlock.${view}_status'::regclass)");
	my ($states) = $comment =~ /state is ([a-z, ]+)/ or die "no states in \"$comment\"";
	my ($numbered) = $queries->{"distlock_$view"}{query} =~ /ARRAY\[([^]]+)\], state\)/;

	is_deeply([ sort $numbered =~ /'(\w+)'/g ], [ sort split /, | or /, $states ], "$view: each state has its number");
}

# Many keys make few series, and bytes that are no UTF-8 are no label.
$admin->query(<<'EOQ');
SELECT count(distlock.acquire('many ' || i, '1 h')) FROM generate_series(1, 40) i;
EOQ
is(scalar(rows('distlock_key', $node)), 10, 'the number of series is bounded');
$admin->query("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
$node->safe_psql('bytes', "CREATE EXTENSION distlock; SELECT distlock.acquire(E'a\\377\\303', '1 h')");
is((rows('distlock_key', $node, 'bytes'))[0]{key}, 'a\377\303', 'a key that is no text');

# ---------------------------------------------------------------------------
# Alerts and dashboard
# ---------------------------------------------------------------------------

# Every metric in an expression exists, and so do the labels that a text takes
# from it.
sub check_expression
{
	my ($what, $expression, $text) = @_;
	my @metrics = $expression =~ /\b(distlock_\w+)/g;

	cmp_ok(scalar @metrics, '>', 0, "$what: uses a metric");
	foreach my $metric (@metrics)
	{
		ok(exists $labels{$metric}, "... $metric exists");
		my @used = ($text =~ /\{\{ *(?:\$labels\.)?(\w+) *\}\}/g, map { split /, */ } $expression =~ /by \(([^)]*)\)/g);

		is_deeply([ grep { !$labels{$metric}{$_} } @used ], [], '... its labels, too');
	}
	return;
}

my $alerts = CPAN::Meta::YAML->read("$examples/monitoring/alerts.yml") or die CPAN::Meta::YAML->errstr;
my @rules = map { @{ $_->{rules} } } @{ $alerts->[0]{groups} };
cmp_ok(scalar @rules, '>', 10, 'there are alerts');
my $tests = slurp_file("$examples/monitoring/alerts_test.yml");
foreach my $rule (@rules)
{
	my $texts = join ' ', values %{ $rule->{annotations} };

	check_expression($rule->{alert}, $rule->{expr}, $texts);
	like($tests, qr/\b$rule->{alert}\b/, '... the alert is tested');
	# What it tells to look at can be looked at.
	$admin->query($_) foreach $texts =~ /(SELECT \* FROM distlock\.(?!mirror_check)\w+(?: ORDER BY \w+)?)/g;
}

my $dashboard = decode_json(slurp_file("$examples/monitoring/dashboard.json"));
my @panels = @{ $dashboard->{panels} };
my (%ids, %places, @expressions);
foreach my $panel (@panels)
{
	my $grid = $panel->{gridPos};

	ok(!$ids{ $panel->{id} }++, "panel \"$panel->{title}\": an id of its own");
	foreach my $x ($grid->{x} .. $grid->{x} + $grid->{w} - 1)
	{
		$places{"$x/$_"}++ foreach $grid->{y} .. $grid->{y} + $grid->{h} - 1;
	}
	cmp_ok($grid->{x} + $grid->{w}, '<=', 24, '... fits');
	next if $panel->{type} eq 'row';
	foreach my $target (@{ $panel->{targets} })
	{
		check_expression($panel->{title}, $target->{expr}, $target->{legendFormat});
		push @expressions, $target->{expr};
	}
	# Names of states are those of the numbers.
	next unless $panel->{targets}[0]{expr} =~ /^(distlock_\w+)_state\{/;
	my ($numbered) = $queries->{$1}{query} =~ /ARRAY\[([^]]+)\], state\)/;
	my $names = $panel->{fieldConfig}{defaults}{mappings}[0]{options};
	is_deeply([ map { $names->{$_}{text} } sort keys %$names ], [ $numbered =~ /'(\w+)'/g ], '... names the states');
}
is_deeply([ grep { $places{$_} > 1 } keys %places ], [], 'no panel covers another');

SKIP:
{
	skip 'promtool is not installed', 3 unless $promtool;
	my $all = $node->basedir . '/dashboard.yml';

	command_ok([ $promtool, 'check', 'rules', "$examples/monitoring/alerts.yml" ], 'promtool: the alerts are right');
	command_ok([ $promtool, 'test', 'rules', "$examples/monitoring/alerts_test.yml" ], 'promtool: they fire as they should');
	# As rules that record, the dashboard's expressions can be checked as well.
	append_to_file($all, "groups:\n  - name: dashboard\n    rules:\n");
	foreach my $i (0 .. $#expressions)
	{
		my $expression = $expressions[$i] =~ s/\$__rate_interval/5m/gr =~ s/\$(\w+)/$1/gr;
		append_to_file($all, "      - record: x$i\n        expr: '$expression'\n");
	}
	command_ok([ $promtool, 'check', 'rules', $all ], 'promtool: the expressions of the dashboard are right');
}

# ---------------------------------------------------------------------------
# The live view
# ---------------------------------------------------------------------------

sub top
{
	my ($server, @options) = @_;
	my ($stdout, $stderr);

	IPC::Run::run([ "$examples/top", @options, '-d', $server->connstr('postgres') . ' user=watcher' ],
		'<', \undef, '>', \$stdout, '2>', \$stderr,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($? >> 8, $stdout, $stderr);
}

my ($status, $out, $err) = top($node, '--times', 2, '--every', '0.1');
is("$status|$err", '0|', 'top: no complaints');
my (undef, @looks) = split /^(?=distlock in )/m, "\n$out";
is(scalar @looks, 2, '... two looks');
foreach (@looks)
{
	like($_, qr/^distlock in postgres at [\d:]{8}: 43 held, 2 waiting, worker \w+\n/, '... how many');
	like($_, qr/^mirror redis:\S+: connected, lag [\d.]+ ms, \d+ keys, 0 conflicts$/m, '... the mirror') if $with_redis;
	like($_, qr/^nightly +lease +batch-2 \(\w+\) \S+ \d+ +[\d:]{8} +00:5\d:\d\d +2$/m, '... a lock with its holder');
	like($_, qr/^nightly +2 +\w+ \S+ \d+ +[\d:]{8} +00:5\d:\d\d$/m, '... a waiter');
	like($_, qr/^since [\d -]+:\d\d +\d+ +1 +0 +1 +1 +1 +0$/m, '... what was counted');
}
unlike($looks[0], qr/^per second/m, '... the first look knows no rates');
like($looks[1], qr/^per second( +0\.0){7}$/m, '... the second does');
unlike($out, qr/\033/, '... and no screen is cleared where there is none');

# While something goes on
$admin->query(<<'EOQ');
CREATE PROCEDURE keep_going() LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT distlock.is_held('enough') LOOP
		PERFORM distlock.release('key', distlock.acquire('key', '1 h'));
		COMMIT;
	END LOOP;
END $$;
EOQ
my $busy = session($node);
$busy->send('CALL keep_going()');
await('something to happen',
	sub { $admin->query('SELECT sum(releases) > 10 FROM distlock.stats WHERE database = current_database()') eq 't' });
($status, $out, $err) = top($node, '--times', 2, '--every', 2);
like($out, qr/^per second +[1-9][\d.]* +0\.0 +0\.0 +[1-9][\d.]* +0\.0 +0\.0 +0\.0$/m, 'top: rates');
$admin->query("SELECT distlock.acquire('enough', '1 h')");
$busy->result;
$busy->quit;

($status, $out, $err) = top($standby, '--times', 2, '--every', 0);
is("$status|$err", '0|', 'top: on a standby');
like($out, qr/^distlock in postgres at [\d:]{8}: \d+ held, 0 waiting, worker off$/m, '... which has no worker');
($status, $out, $err) = top($node, '--every', 'now');
is($status, 2, 'top: a wrong argument');
$admin->query('REVOKE USAGE ON SCHEMA distlock FROM PUBLIC');
($status, $out, $err) = top($node, '--every', '0.1');
is("$status|" . ($err =~ /(permission denied for schema distlock)/)[0], '3|permission denied for schema distlock',
	'top: an error ends it');

$_->quit foreach $holder;
$_->kill_client foreach @waiters;
$admin->quit;
$standby->stop;
$node->stop;
done_testing();
