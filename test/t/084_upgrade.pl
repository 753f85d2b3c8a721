# An upgraded extension is the same as a new one, object by object; locks and
# sessions live through the upgrade.  A library and an extension of different
# versions work together, or say what to do.
#
# All is done on a copy of PostgreSQL's directories: first with the scripts that
# there are, then with those of versions that do not exist, to see that the
# comparison notices what upgrade scripts get wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Cwd qw(abs_path);
use DistlockTest;
use File::Basename;
use File::Copy;
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# ---------------------------------------------------------------------------
# A copy of PostgreSQL's directories
# ---------------------------------------------------------------------------

# PostgreSQL finds its files by where its programs are.  So these are copied, and
# the rest may be links, but for the directory with the scripts.
sub pg_config
{
	my ($what) = @_;
	my ($stdout, $stderr) = run_command([ 'pg_config', "--$what" ]);

	return abs_path($stdout);
}

my $top = PostgreSQL::Test::Utils::tempdir('pgsql');
my %dirs = map { $_ => pg_config($_) } 'bindir', 'sharedir', 'pkglibdir';

make_path(map { "$top$_" } values %dirs);
copy("$dirs{bindir}/$_", "$top$dirs{bindir}/") && chmod(0755, "$top$dirs{bindir}/$_")
  or die "could not copy $_: $!"
  foreach 'initdb', 'pg_config', 'pg_ctl', 'postgres', 'psql';
foreach my $dir ($dirs{pkglibdir}, $dirs{sharedir})
{
	foreach my $file (glob "$dir/*")
	{
		symlink $file, "$top$file" or die "could not link $file: $!"
		  unless $file eq "$dirs{sharedir}/extension" || $file eq $dirs{bindir};
	}
}
my $scripts = "$top$dirs{sharedir}/extension";
mkdir $scripts or die "could not make $scripts: $!";
foreach (glob("$dirs{sharedir}/extension/distlock*"), glob("$dirs{sharedir}/extension/plpgsql*"))
{
	copy($_, "$scripts/") or die "could not copy $_: $!";
}

my $node = PostgreSQL::Test::Cluster->new('main', install_path => dirname("$top$dirs{bindir}"));
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off");
$node->start;
is($node->safe_psql('postgres', "SELECT pg_read_file('$scripts/distlock.control') <> ''"), 't', 'a copy of PostgreSQL');
my $session = session($node);

# ---------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------

# All that there is to know of the extension, a line for each, without what differs
# from one installation to the next.
my $catalogs = <<'EOQ';
WITH ext AS (
	SELECT * FROM pg_extension WHERE extname = 'distlock'
), member AS (
	SELECT classid, objid
	FROM pg_depend d, ext
	WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext.oid AND d.deptype = 'e'
), class AS (
	SELECT c.* FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
), privileges (classid, objid, objsubid, kind, acl) AS (
	SELECT 'pg_class'::regclass, oid, 0, 'now', relacl FROM pg_class
	UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, 'now', attacl FROM pg_attribute
	UNION ALL SELECT 'pg_proc'::regclass, oid, 0, 'now', proacl FROM pg_proc
	UNION ALL SELECT 'pg_type'::regclass, oid, 0, 'now', typacl FROM pg_type
	UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, 'now', nspacl FROM pg_namespace
	UNION ALL SELECT classoid, objoid, objsubid, 'at first', initprivs FROM pg_init_privs WHERE privtype = 'e'
), line AS (
	SELECT format('extension: schema %s relocatable %s', extnamespace::regnamespace, extrelocatable) FROM ext
	UNION ALL
	SELECT format('dumped: %s where "%s"', extconfig[i]::regclass, extcondition[i])
	FROM ext, generate_subscripts(extconfig, 1) i
	UNION ALL
	SELECT format('member: %s', pg_describe_object(classid, objid, 0)) FROM member
	UNION ALL
	SELECT format('comment: %s: %s', pg_describe_object(classoid, objoid, d.objsubid), description)
	FROM pg_description d JOIN member m ON (m.classid, m.objid) = (d.classoid, d.objoid)
	UNION ALL
	SELECT format('privilege %s: %s: %s', kind, pg_describe_object(p.classid, p.objid, p.objsubid), item)
	FROM privileges p JOIN member m USING (classid, objid), unnest(acl) item
	UNION ALL
	-- none at all is not the same as the default ones
	SELECT format('privileges %s: %s: set', kind, pg_describe_object(p.classid, p.objid, p.objsubid))
	FROM privileges p JOIN member m USING (classid, objid)
	WHERE acl IS NOT NULL
	UNION ALL
	SELECT format('function: %s owner %s', pg_get_functiondef(p.oid), p.proowner::regrole)
	FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	UNION ALL
	SELECT format('type: %s kind %s category %s delimiter "%s" relation kind %s owner %s', t.oid::regtype, typtype,
		typcategory, typdelim, (SELECT relkind FROM pg_class c WHERE c.oid = typrelid), typowner::regrole)
	FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	UNION ALL
	SELECT format('schema: %s owner %s', nspname, nspowner::regrole)
	FROM pg_namespace n JOIN member m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
	UNION ALL
	SELECT format('relation: %s kind %s method %s persistence %s options %s replica identity %s row security %s %s owner %s',
		c.oid::regclass, relkind, (SELECT amname FROM pg_am a WHERE a.oid = relam), relpersistence,
		(SELECT array_agg(o ORDER BY o) FROM unnest(reloptions) o), relreplident, relrowsecurity,
		relforcerowsecurity, relowner::regrole)
	FROM class c
	UNION ALL
	-- (the number among those that have not been dropped)
	SELECT format('column: %s.%s number %s type %s not null %s collation %s storage %s compression "%s" statistics %s options %s default %s',
		a.attrelid::regclass, attname, row_number() OVER (PARTITION BY attrelid ORDER BY attnum),
		format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation, attstorage, attcompression,
		-- -1 and NULL are the default, up to version 16 and since
		nullif(attstattarget, -1),
		-- (some builds put a number of their own next to those that SQL can set)
		(SELECT array_agg(o ORDER BY o) FROM unnest(attoptions) o WHERE o LIKE 'n_distinct%'),
		pg_get_expr(adbin, adrelid))
	FROM (SELECT oid FROM class
			UNION ALL
			SELECT typrelid FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
			WHERE typtype = 'c' AND typrelid NOT IN (SELECT oid FROM class)) c
		JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
		LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	UNION ALL
	SELECT format('view: %s: %s', oid::regclass, pg_get_viewdef(oid)) FROM class WHERE relkind = 'v'
	UNION ALL
	SELECT format('sequence: %s', s) FROM class c, LATERAL (
		SELECT c.oid::regclass, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle
		FROM pg_sequence WHERE seqrelid = c.oid) s
	UNION ALL
	SELECT format('constraint: %s: %s validated %s', conname, pg_get_constraintdef(k.oid), convalidated)
	FROM pg_constraint k JOIN class c ON c.oid = conrelid
	UNION ALL
	SELECT format('index: %s options %s valid %s', pg_get_indexdef(indexrelid), i.reloptions, indisvalid)
	FROM pg_index x JOIN class c ON c.oid = indrelid JOIN pg_class i ON i.oid = indexrelid
	UNION ALL
	SELECT format('rule: %s', pg_get_ruledef(r.oid)) FROM pg_rewrite r JOIN class c ON c.oid = ev_class
	UNION ALL
	SELECT format('trigger: %s enabled %s', pg_get_triggerdef(t.oid), tgenabled)
	FROM pg_trigger t JOIN class c ON c.oid = tgrelid
	UNION ALL
	SELECT format('policy: %s on %s', polname, c.oid::regclass) FROM pg_policy p JOIN class c ON c.oid = polrelid
	UNION ALL
	SELECT format('statistics: %s', pg_get_statisticsobjdef(s.oid)) FROM pg_statistic_ext s JOIN class c ON c.oid = stxrelid
)
SELECT replace(line.format, E'\n', ' ') FROM line ORDER BY 1
EOQ

# Of a version that was installed by SQL, all undone in the end.
sub catalogs_after
{
	my ($sql) = @_;
	my $lines = $session->query("BEGIN; $sql; $catalogs; ROLLBACK");

	return split /\n/, $lines;
}

# The lines that an upgraded extension lacks or has too many, with - and + before
# them.  The version to compare with is another one if it is given.
sub differences
{
	my ($from, $to, $fresh) = @_;
	my @new = catalogs_after("CREATE EXTENSION distlock VERSION '" . ($fresh // $to) . "'");
	my @upgraded = catalogs_after(
		"CREATE EXTENSION distlock VERSION '$from'; ALTER EXTENSION distlock UPDATE TO '$to'");
	my %found = map { $_ => 1 } @upgraded;
	my %expected = map { $_ => 1 } @new;

	return ((map { "- $_" } grep { !$found{$_} } @new), map { "+ $_" } grep { !$expected{$_} } @upgraded);
}

# From each version that can be installed, each way to one that can be installed too.
sub upgrades
{
	return map { [ split /\|/ ] } split /\n/, $session->query(<<'EOQ');
SELECT source, target FROM pg_extension_update_paths('distlock')
WHERE path IS NOT NULL AND source <> target
	AND source IN (SELECT version FROM pg_available_extension_versions WHERE name = 'distlock')
	AND target IN (SELECT version FROM pg_available_extension_versions WHERE name = 'distlock')
ORDER BY 1, 2
EOQ
}

# ---------------------------------------------------------------------------
# The scripts that there are
# ---------------------------------------------------------------------------

my $default = $session->query("SELECT default_version FROM pg_available_extensions WHERE name = 'distlock'");
my @versions = split /\n/, $session->query(
	"SELECT version FROM pg_available_extension_versions WHERE name = 'distlock' ORDER BY 1");
my %kinds;
my @lines = catalogs_after('CREATE EXTENSION distlock');

$kinds{ (split /[: ]/)[0] }++ foreach @lines;
is_deeply(
	[ grep { !$kinds{$_} } qw(extension dumped member comment privilege function type schema relation column view
		  sequence constraint index rule) ],
	[], 'something of each kind is compared: ' . scalar @lines . ' lines');
ok((grep { $_ eq $default } @versions), "version $default can be installed");
foreach my $upgrade (upgrades())
{
	is(join("\n", differences(@$upgrade)), '', "from version $upgrade->[0] to $upgrade->[1]");
}
foreach my $version (grep { $_ ne $default } @versions)
{
	ok((grep { $_->[0] eq $version && $_->[1] eq $default } upgrades()), "version $version can be upgraded");
}

# ---------------------------------------------------------------------------
# A next version: of the script, changed, and of a script for the upgrade
# ---------------------------------------------------------------------------

my $now = slurp_file("$scripts/distlock--$default.sql");

sub write_script
{
	my ($versions, $text) = @_;

	open my $file, '>', "$scripts/distlock--$versions.sql" or die "could not write a script: $!";
	print $file $text;
	close $file;
	return;
}

# Replace what must be there.
sub change
{
	my ($text, %changes) = @_;

	foreach my $old (keys %changes)
	{
		$text =~ s/\Q$old\E/$changes{$old}/ or die "nothing like \"$old\"";
	}
	return $text;
}

my $addition = <<'EOQ';
CREATE FUNCTION distlock.is_free(key text, wanted boolean DEFAULT true) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_is_held';
REVOKE ALL ON FUNCTION distlock.is_free(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION distlock.is_free(text, boolean) TO @extowner@;
COMMENT ON FUNCTION distlock.is_free(text, boolean) IS 'for this test';
CREATE TYPE distlock.place AS (key text, n integer);
COMMENT ON TYPE distlock.place IS 'for this test';
CREATE TABLE distlock.note (key text COLLATE "C" NOT NULL, n integer DEFAULT 1, PRIMARY KEY (key)) WITH (fillfactor = 80);
ALTER TABLE distlock.note ALTER COLUMN n SET STATISTICS 0;
COMMENT ON TABLE distlock.note IS 'for this test';
SELECT pg_catalog.pg_extension_config_dump('distlock.note', 'WHERE n > 1');
CREATE VIEW distlock.notes WITH (security_barrier) AS SELECT key, n FROM distlock.note;
GRANT SELECT ON distlock.notes TO PUBLIC;
EOQ

write_script('next', $now . $addition);
write_script("$default--next", $addition);
is_deeply([ map { "@$_" } grep { $_->[1] eq 'next' && $_->[0] eq $default } upgrades() ],
	["$default next"], 'a next version');
is(join("\n", differences($default, 'next')), '', '... is the same, upgraded or new');

# What can go wrong in an upgrade script, each noticed by one line or another.
my %mistakes = (
	'another default of an argument' => [ 'DEFAULT true' => 'DEFAULT false', 'function: .*is_free' ],
	'another name of an argument' => [ 'wanted boolean' => 'wished boolean', 'function: .*is_free' ],
	'another volatility' => [ 'VOLATILE' => 'STABLE', 'function: .*is_free' ],
	'another parallel safety' => [ 'PARALLEL UNSAFE' => 'PARALLEL SAFE', 'function: .*is_free' ],
	'strictness' => [ 'VOLATILE' => 'VOLATILE STRICT', 'function: .*is_free' ],
	'another function of C' => [ "'distlock_is_held'" => "'distlock_key_id'", 'function: .*is_free' ],
	'a privilege that is not revoked' =>
	  [ 'REVOKE ALL ON FUNCTION distlock.is_free(text, boolean) FROM PUBLIC;' => '', 'privilege .*is_free' ],
	'a privilege that is not granted' =>
	  [ 'GRANT SELECT ON distlock.notes TO PUBLIC;' => '', 'privilege at first: view distlock.notes' ],
	'another comment' => [ q{IS 'for this test'} => q{IS 'for that test'}, 'comment: function' ],
	'no comment' => [ q{COMMENT ON TABLE distlock.note IS 'for this test';} => '', 'comment: table' ],
	'a column of a type' => [ 'key text, n integer' => 'key text, n bigint', 'column: distlock.place.n' ],
	'another order of columns' => [ 'key text, n integer' => 'n integer, key text', 'column: distlock.place.key' ],
	'a collation' => [ 'text COLLATE "C"' => 'text', 'column: distlock.note.key' ],
	'a default' => [ 'DEFAULT 1' => 'DEFAULT 2', 'column: distlock.note.n' ],
	'a constraint' => [ ', PRIMARY KEY (key)' => '', 'constraint: note_pkey' ],
	'an option of a table' => [ 'fillfactor = 80' => 'fillfactor = 81', 'relation: distlock.note ' ],
	'an option of a column' => [ 'SET STATISTICS 0' => 'SET STATISTICS 0, ALTER n SET (n_distinct = 5)', 'column: distlock.note.n' ],
	'a statistics target' => [ 'SET STATISTICS 0' => 'SET STATISTICS 1', 'column: distlock.note.n' ],
	'what is dumped' =>
	  [ q{SELECT pg_catalog.pg_extension_config_dump('distlock.note', 'WHERE n > 1');} => '', 'dumped: distlock.note' ],
	'what of it is dumped' => [ 'WHERE n > 1' => 'WHERE n > 2', 'dumped: distlock.note' ],
	'the definition of a view' => [ 'SELECT key, n FROM' => 'SELECT key, n + 0 AS n FROM', 'view: distlock.notes' ],
	'an option of a view' => [ 'WITH (security_barrier)' => '', 'relation: distlock.notes' ]);

foreach my $mistake (sort keys %mistakes)
{
	my ($right, $wrong, $noticed) = @{ $mistakes{$mistake} };

	write_script("$default--wrong", change($addition, $right => $wrong));
	like(join("\n", differences($default, 'wrong', 'next')), qr/^[+-] $noticed/m, "noticed: $mistake");
}
write_script("$default--wrong", "$addition; CREATE FUNCTION distlock.more() RETURNS int LANGUAGE sql AS 'SELECT 1'");
like(join("\n", differences($default, 'wrong', 'next')), qr/^\+ member: function distlock.more\(\)$/m,
	'noticed: one function too many');
write_script("$default--wrong",
	"$addition; CREATE OR REPLACE VIEW distlock.waiters AS SELECT *, 1 AS more FROM (" . <<'EOQ' . ') w');
SELECT q.key, q."position", q.pid, a.usename AS role, a.application_name, q.waiting_since, q.wait_until
FROM distlock.queue() q LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) q.pid
EOQ
like(join("\n", differences($default, 'wrong', 'next')), qr/^\+ column: distlock.waiters.more/m,
	'noticed: a column of a view that was there');
unlink "$scripts/distlock--$default--wrong.sql";

# ---------------------------------------------------------------------------
# While locks are held
# ---------------------------------------------------------------------------

my $use = "SELECT distlock.release('other', distlock.acquire('other', '1 h'))";
my $other = session($node);
my $waiter = session($node);

$session->query('CREATE EXTENSION distlock');
my $fence = $other->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
$other->query("SELECT distlock.acquire_with_token('bound', 'mine', '1 h', scope => 'session')");
$waiter->send("SELECT distlock.acquire_with_token('held', 'waiter', '1 h', wait => '1 h')");
await_waiters($node, 'held', 1);
$session->query("ALTER EXTENSION distlock UPDATE TO 'next'");
is($session->query("SELECT extversion FROM pg_extension WHERE extname = 'distlock'"), 'next', 'upgraded while locks are held');
is($other->query("SELECT distlock.fence('held', 'mine')"), $fence, '... they are held still');
is($session->query("SELECT distlock.is_held('bound')"), 't', '... those of a session, too');
is($session->query("SELECT distlock.is_free('held')"), 't', '... the new function is there');
$other->query("SELECT distlock.release('held', 'mine')");
cmp_ok($waiter->result, '>', $fence, '... who waits gets the lock, with a greater fence');
$other->query($use);
ok(1, '... and sessions from before go on');

# ---------------------------------------------------------------------------
# A library and an extension of different versions
# ---------------------------------------------------------------------------

# The library is older: what it lacks fails alone, and says what it is.
$session->query(<<'EOQ');
UPDATE pg_proc SET prosrc = 'distlock_not_yet'
WHERE oid = 'distlock.is_free(text, boolean)'::regprocedure
EOQ
is($other->fails("SELECT distlock.is_free('held')"), '42883', 'a library that is older: a function is missing');
like($other->stderr, qr/could not find function "distlock_not_yet" in file ".*distlock/, '... as the message says');
$other->query($use);
ok(1, '... the others work');
$_->quit foreach $waiter, $other;
$session->query('DROP EXTENSION distlock');

write_script("$default--later", change($addition, "'distlock_is_held'" => "'distlock_not_yet'"));
$session->query('CREATE EXTENSION distlock');
$session->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
is($session->fails("ALTER EXTENSION distlock UPDATE TO 'later'"), '42883', 'an upgrade that the library is too old for fails');
like($session->stderr, qr/could not find function "distlock_not_yet" in file ".*distlock/, '... as the message says');
is($session->query("SELECT extversion FROM pg_extension WHERE extname = 'distlock'"), $default,
	'... the extension is as before');
is($session->query("SELECT distlock.try_release('held', 'mine')"), 't', '... and works');
$session->query('DROP EXTENSION distlock');

# The library is newer than the table: it was called otherwise once.
my @former = (
	'incarnation timestamptz' => 'started timestamptz',
	'COLUMN distlock.lock.incarnation' => 'COLUMN distlock.lock.started',
	'r.ttl, r.incarnation' => 'r.ttl, r.started');
write_script('former', change($now, @former));
write_script("former--$default", <<'EOQ');
ALTER TABLE distlock.lock RENAME COLUMN started TO incarnation;
EOQ
$session->query("CREATE EXTENSION distlock VERSION 'former'");
$other = session($node);
foreach my $call ("acquire('key', '1 h')", "try_acquire('key', '1 h')", "is_held('key')", "guard('key', 'mine')",
	"force_release('key')")
{
	is($other->fails("SELECT distlock.$call"), '55000', "a library that is newer: $call");
	like($other->stderr, qr/DETAIL: .* of different versions\.\nHINT: .* run ALTER EXTENSION distlock UPDATE\b/,
		'... says what to do');
}
is($other->query('SELECT 1'), '1', '... and the session lives');
$session->query('ALTER EXTENSION distlock UPDATE');
$other->query($use);
ok(1, '... which helps, in a session from before, too');
is_deeply([ map { "@$_" } grep { $_->[0] eq 'former' && $_->[1] eq $default } upgrades() ], ["former $default"],
	'that version can be upgraded');
$session->query('DROP EXTENSION distlock');
is(join("\n", differences('former', $default)), '', '... and is the same as a new one then');

# It is older than the table: a column more.
write_script("$default--wider", 'ALTER TABLE distlock.lock ADD COLUMN more integer;');
$session->query("CREATE EXTENSION distlock; ALTER EXTENSION distlock UPDATE TO 'wider'");
is($other->fails($use), '55000', 'a table that is newer than the library');
like($other->stderr, qr/of different versions/, '... as the message says');

$_->quit foreach $session, $other;
$node->stop;
done_testing();
