# How locks are called in Redis: byte by byte what the template says, whatever
# the key of the lock consists of, and never the same for two locks.  What cannot
# be set, and what says why.  Passwords and what a user of Redis has to be allowed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use List::Util qw(uniq);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $node = new_node('main', extension => 0, extra => [ '--encoding=UTF8', '--locale=C' ],
	conf => redis_conf($redis, "distlock.naptime = '1s'"));
my $admin = session($node);

# A value for SQL, of bytes in the encoding of the database
sub text
{
	my ($bytes) = @_;

	return "convert_from('\\x" . unpack('H*', $bytes) . "', getdatabaseencoding())";
}

sub identifier
{
	my ($name) = @_;

	return '"' . $name =~ s/"/""/gr . '"';
}

# A session in a new database
sub create_database
{
	my ($name, $encoding) = @_;

	$admin->query('CREATE DATABASE ' . identifier($name) . " TEMPLATE template0 ENCODING '$encoding';");
	my $session = session($node, $name);
	$session->query('CREATE EXTENSION distlock');
	return $session;
}

# Acquire all these, with an owner that has the same characters.
sub acquire_all
{
	my ($session, @keys) = @_;

	while (my @some = splice @keys, 0, 100)
	{
		$session->query('SELECT ' . join(', ', map {
			'distlock.acquire(' . text($_) . ", '1 h', owner => "
			  . text(length $_ <= 256 ? $_ : 'long') . ')' } @some) . ';');
	}
	return;
}

# Set, and wait until the mirror follows.
sub set
{
	my ($name, $value) = @_;

	$admin->query("ALTER SYSTEM SET $name = " . ($value =~ /^'/ ? $value : "'$value'"));
	$admin->query('SELECT pg_reload_conf()');
	return;
}

# ---------------------------------------------------------------------------
# All kinds of keys
# ---------------------------------------------------------------------------

my @keys = uniq(
	(map { chr } 1 .. 127),
	'a b', ' at both ends ', "'quoted'", '"quoted"', 'back\\slash', '\\x41', '\\n', "CR LF\r\n", "\r\n", "\n\n",
	"\tTab\t", "*1\r\n\$8\r\nFLUSHALL\r\n", "a\r\nFLUSHALL\r\n",
	'{key}', '{database}', '{index}', '{a}b', '{', '}{', '{}',
	'*', '?', '[a-z]', 'distlock:*', 'a*b?c[^d]\\*',
	'%', '%s%s%s%n', '%b', '%%', '%3A', '%25', '%1$s',
	'::', 'a:b', ':a', 'a:', 'distlock:postgres:a', '0', '-1', '1e3', 'nil', 'OK', 'x' x 512,
	"\xc3\xbc", "\xc3\xbc" x 256, "\xe4\xb8\xad\xe6\x96\x87", "\xf0\x9f\x94\x92", "\xef\xbb\xbfmark", "u\xcc\x88",
	join('', map { chr } 1 .. 127));

my $utf8 = create_database('utf8', 'UTF8');
await_connected($utf8);
acquire_all($utf8, @keys);
is_mirrored($redis, $utf8, scalar @keys . ' keys in UTF8', key => sub { return "distlock:utf8:$_[0]" });
is_deeply([ grep { !$redis->command('EXISTS', "distlock:utf8:$_") } @keys ], [], '... each exists');
ok(await_in_sync($utf8), '... and mirror_check() says so');
$utf8->query('SELECT count(distlock.force_release(key)) FROM distlock.locks');
is_mirrored($redis, $utf8, '... and each goes');

# Where PostgreSQL knows nothing of characters
srand(5);
my @bytes = uniq((map { chr } 1 .. 255), join('', map { chr } 1 .. 255),
	(map { join '', map { chr(1 + int rand 255) } 1 .. 512 } 1 .. 20));
my $bytes = create_database('bytes', 'SQL_ASCII');
await_connected($bytes);
acquire_all($bytes, @bytes);
is_mirrored($redis, $bytes, 'keys of all bytes in SQL_ASCII', key => sub { return "distlock:bytes:$_[0]" });
is_deeply([ grep { !$redis->command('EXISTS', "distlock:bytes:$_") } @bytes ], [], '... each exists');
ok(await_in_sync($bytes), '... and mirror_check() says so');
$bytes->query('SELECT count(distlock.force_release(key)) FROM distlock.locks');
is_mirrored($redis, $bytes, '... and each goes');

my $latin1 = create_database('latin1', 'LATIN1');
await_connected($latin1);
acquire_all($latin1, "gr\xfc\xdf");
is_mirrored($redis, $latin1, 'another encoding: the bytes as they are there',
	key => sub { return "distlock:latin1:$_[0]" });
$redis->command('SET', "distlock:latin1:gr\xfc\xdf", 'foreign');
is(check_mirror($latin1) =~ s/^[^|]*\|//r, "gr\xfc\xdf|distlock:latin1:gr\xfc\xdf|foreign",
	'... in mirror_check(), too');

foreach ([ $utf8, 'utf8' ], [ $bytes, 'bytes' ], [ $latin1, 'latin1' ])
{
	$_->[0]->quit;
	$admin->query("DROP DATABASE $_->[1]");
}
$redis->command('FLUSHALL');

# ---------------------------------------------------------------------------
# Databases
# ---------------------------------------------------------------------------

# Put together without care, many of these would be the same.
my %locks = (
	'a' => [ 'b:c', 'c', '%3Ab:c' ],
	'a:b' => [ 'c', 'b:c' ],
	'a%3Ab' => [ 'c', ':c' ],
	'a%253Ab' => ['c'],
	':' => [ 'c', ':' ],
	'{key}' => [ 'c', '{database}' ],
	"odd \"name\" with 'quotes' \\ \n{index}*%s" => ['c'],
	"\xc3\xbc" => ['c']);
my %session = map { $_ => create_database($_, 'UTF8') } sort keys %locks;
my %expected;

foreach my $database (sort keys %locks)
{
	await_connected($session{$database});
	acquire_all($session{$database}, @{ $locks{$database} });
	my $held = held_values($session{$database});
	my $part = $database =~ s/([%:])/sprintf '%%%02X', ord $1/ger;
	$expected{"distlock:$part:$_"} = $held->{$_} foreach keys %$held;
}
is(scalar keys %expected, scalar(map { @$_ } values %locks), 'databases with odd names: no key twice');
eval { await('all of them', sub { keys %{ $redis->contents } >= keys %expected }) };
is_deeply($redis->contents, \%expected, '... all of them are there');
foreach my $database (sort keys %locks)
{
	ok(await_in_sync($session{$database}), "... and mirror_check() agrees in \"$database\"" =~ s/\n/ /r);
}
is(join(' ', grep { /^distlock-mirror:a:/ } $redis->own->keys), 'distlock-mirror:a:distlock:a:{key}', '... a book');
is(join(' ', grep { /^distlock-mirror:a%3Ab:/ } $redis->own->keys),
	'distlock-mirror:a%3Ab:distlock:a%3Ab:{key}', '... of each');

# What one gives back the other keeps.
$session{'a:b'}->query("SELECT distlock.force_release('c')");
await('a key to go', sub { !$redis->command('EXISTS', 'distlock:a%3Ab:c') });
delete $expected{'distlock:a%3Ab:c'};
is_deeply($redis->contents, \%expected, 'released in one: the others keep theirs');
foreach my $database (sort keys %locks)
{
	$session{$database}->quit;
	$admin->query('DROP DATABASE ' . identifier($database) . ';');
}
$redis->command('FLUSHALL');

# ---------------------------------------------------------------------------
# Templates
# ---------------------------------------------------------------------------

$admin->query('CREATE EXTENSION distlock');
await_connected($admin);
acquire_all($admin, 'job', 'a:b', '{index}');

# The mirror comes to have just these, once what went by another name has been
# taken away.
sub by_template
{
	my ($what, $template, @make) = @_;
	my $found = {};
	my $expected = {};

	set('distlock.redis_key', $template);
	eval {
		await($what, sub {
			my $held = held_values($admin);

			$expected = {};
			foreach my $make (@make)
			{
				$expected->{ $make->($_) } = $held->{$_} foreach keys %$held;
			}
			my $all = $redis->contents;
			$found = { map { $_ => $all->{$_} } grep { exists $all->{$_} } keys %$expected };
			return keys %$found == keys %$expected
			  && mirror_status($admin, 'state, keys') eq 'connected|' . keys %$expected;
		});
	};
	is_deeply($found, $expected, $what);
	is(mirror_status($admin, 'keys'), scalar keys %$expected, '... so many');
	ok(await_in_sync($admin), '... and mirror_check() agrees');
	return;
}

# Keys that begin like this and have no business to be there
sub surplus
{
	my ($beginning, $held) = @_;

	return join ' ', grep { /^\Q$beginning\E/ && $_ !~ $held } sort keys %{ $redis->contents };
}

by_template('plain', 'plain', sub { return $_[0] });
by_template('a text after the key', 'x {database}%s*{key}:y', sub { return "x postgres%s*$_[0]:y" });
by_template('the key first', '{key}@{database}', sub { return "$_[0]\@postgres" });

# Clients of the kind of rueidislock hold a lock when they hold a majority of its
# keys.
my @three = map { my $i = $_; sub { return "rueidislock:$i:$_[0]" } } 0 .. 2;
my @five = map { my $i = $_; sub { return "rueidislock:$i:$_[0]" } } 0 .. 4;
by_template('rueidislock', 'rueidislock', @three);
is(surplus('rueidislock:', qr/^rueidislock:[0-2]:/), '', '... three keys each');
my @ends = map { $redis->own->goes_at("rueidislock:$_:job") } 0 .. 2;
cmp_ok($_, '>', 0, '... which goes by itself') foreach @ends;
$redis->command('DEL', 'rueidislock:1:job');
is(check_mirror($admin) =~ s/^[^|]*\|//r, 'job|rueidislock:1:job|missing', '... each is missed');
ok(await_in_sync($admin), '... and comes back');
set('distlock.redis_majority', 3);
by_template('a majority of 3', 'rueidislock', @five);
set('distlock.redis_majority', 1);
by_template('a majority of 1', 'rueidislock', $three[0]);
await('the others to go', sub { surplus('rueidislock:', qr/^rueidislock:0:/) eq '' });
ok(1, '... one key each');
set('distlock.redis_majority', 2);
by_template('a majority of 2 again', 'rueidislock', @three);
$admin->query("SELECT distlock.force_release('job')");
await('the keys to go', sub { surplus('rueidislock:', qr/^rueidislock:[0-2]:(?:a:b|\{index\})$/) eq '' });
ok(1, 'released: all of them go');
by_template('{index} elsewhere', '{database}.{key}.{index}',
	map { my $i = $_; sub { return "postgres.$_[0].$i" } } 0 .. 2);

# What went by other names is of no interest any more.
by_template('plain again', 'plain', sub { return $_[0] });
$redis->command('FLUSHALL');
await_in_sync($admin);

# The token, for those who have to compare it
set('distlock.redis_value', 'token');
my $token = $admin->query("SELECT distlock.acquire('with token', '1 h', owner => 'me')");
await('the token', sub { ($redis->command('GET', 'with token') // '') eq $token });
ok(1, 'redis_value = token: it is what the client has');
my $own = join '', map { chr } grep { !/^(?:39|92)$/ } 1 .. 127;
$admin->query('SELECT distlock.acquire_with_token(\'own token\', ' . text($own) . ', \'1 h\');');
await('the token', sub { ($redis->command('GET', 'own token') // '') eq $own });
ok(1, '... also one with all kinds of characters');
ok(await_in_sync($admin), '... and mirror_check() agrees');
set('distlock.redis_value', 'json');
await('JSON', sub { ($redis->command('GET', 'with token') // '') =~ /^\{.*"me"/ });

# A lock that would be called as the book is: it cannot be shown, and does no harm.
my $book = 'distlock-mirror:postgres:{key}';
my $claim = $redis->command('HGET', $book, '');
acquire_all($admin, $book, 'after it');
await('the lock after it', sub { $redis->command('EXISTS', 'after it') });
await('the conflict', sub { mirror_status($admin, 'conflicts') eq '1' });
is($redis->command('HGET', $book, ''), $claim, 'a lock called as the book: the book stays as it is');
is(check_mirror($admin) =~ s/^[^|]*\|//r, "$book|$book|foreign", '... and it is reported');
$admin->query("SELECT distlock.force_release('$book')");
await('the conflict to end', sub { mirror_status($admin, 'conflicts') eq '0' });
ok(await_in_sync($admin), '... until it is released');

# ---------------------------------------------------------------------------
# Prefixes
# ---------------------------------------------------------------------------

$admin->query('SELECT count(distlock.force_release(key)) FROM distlock.locks');
my @chosen = ('a,b', 'a,bc', ' c', 'd"e', '*', '*x', "\xc3\xbc", "\xc3\xbcx", 'Case', '%:{key}');
my @others = ('a', 'b', 'c', 'd', 'de', 'x', 'case', "\xc3\xa4", 'A,B', 'distlock:a,b');
set('distlock.redis_prefixes', "'\"a,b\", \" c\",\"d\"\"e\" ,*, \xc3\xbc, Case, %:{'");
acquire_all($admin, @others, @chosen);
my %wanted = map { $_ => 1 } @chosen;
eval { await('those chosen', sub { join("\0", sort keys %{ $redis->contents }) eq join("\0", sort keys %wanted) }) };
is(join(' ', sort keys %{ $redis->contents }), join(' ', sort keys %wanted), 'prefixes are taken literally');
ok(await_in_sync($admin), '... and mirror_check() agrees');
set('distlock.redis_prefixes', '');
await('all of them', sub { keys %{ $redis->contents } == @chosen + @others });
ok(1, 'no prefixes: all of them');

# ---------------------------------------------------------------------------
# What cannot be set
# ---------------------------------------------------------------------------

my %bad = (
	redis_url => [
		'localhost', 'localhost:6379', 'http://localhost', 'redis', 'redis:', 'redis:/localhost', '//localhost',
		'redis://', 'redis:///0', 'redis://:6379', 'redis://user@', 'redis://user@:6379',
		'redis://host:0', 'redis://host:65536', 'redis://host:-1', 'redis://host:port', 'redis://host:',
		'redis://host:6379x', 'redis://host:0x10', 'redis://host:99999999999999999999',
		'redis://host/db', 'redis://host/-1', 'redis://host/1/2', 'redis://host/99999999999', 'redis://host?db=1',
		'redis://host/0?timeout=1', 'redis://host#1',
		'redis://ho st', 'redis://ho\\st', "redis://h\xc3\xb6st", "redis://host\n", "redis://host\x01", 'redis://ho*st',
		'redis://::1', 'redis://::1:6379', 'redis://[::1', 'redis://[::1]x', 'redis://[]', 'redis://[]:6379', 'redis://-host',
		'redis://' . 'x' x 1000, 'redis://' . 'x' x 1000 . '@host',
		',', 'redis://host,', ',redis://host', 'redis://a,,redis://b', 'redis://a redis://b', 'redis://a;redis://b',
		'redis://a,redis://a', 'redis://a,redis://a:6379/0', 'unix:///a,unix:///a?db=0',
		join(',', map { "redis://host$_" } 1 .. 5),
		'unix:', 'unix:/tmp/a', 'unix://', 'unix://relative', 'unix://host/path', 'unix:///a?db=', 'unix:///a?db=x',
		'unix:///a?base=1', 'unix:///a?db=1&db=2', 'unix:///' . 'x' x 120,
		'redis://%@host', 'redis://%4@host', 'redis://%zz@host', 'redis://%00@host', 'redis://%+1@host',
		'unix:///%zz', 'unix:///a%00b',
		'redis://user:secret@host', 'redis://:secret@host', 'redis://user:@host', 'unix://user:secret@/a',
		'rediss://user:secret@host', 'redis://good,redis://user:secret@host' ],
	redis_key => [
		'', 'text', '{database}', '{key}{key}', '{key}:{key}', '{key}{database}{database}', '{index}{index}{key}',
		'{Key}', '{name}:{key}', '{key}{', '{key', 'key}', '{}{key}', '{{key}}', '{ key }', '{index}:{database}', 'redisson' ],
	redis_prefixes => [ '"a', 'a,,b', ',', 'a,', 'a b', '""', 'a,""', '"a"b', 'x' x 513 ],
	redis_majority => [ 0, 8, -1, 'x', '' ],
	redis_value => [ 'xml', '', 'JSON TOKEN' ],
	redis_timeout => [ '0', '9ms', '61s', '-1', 'x' ],
	redis_reconcile => [ '0', '-1', 'x' ]);
foreach my $name (sort keys %bad)
{
	my (@accepted, @unexplained);

	foreach my $value (@{ $bad{$name} })
	{
		my $sql = "SET distlock.$name = '" . $value =~ s/'/''/gr . "';";

		push @accepted, $value if $admin->fails($sql) ne '22023';
		push @unexplained, $value if $admin->stderr !~ /(?:DETAIL|HINT):  [A-Z"].*\w/;
	}
	is(join("\n", @accepted), '', "refused: $name");
	# PostgreSQL itself says what is wrong with numbers.
	is(join("\n", @unexplained), '', '... with the reason')
	  if $name =~ /url|key|prefixes|value/;
}
foreach my $url (grep { /:secret@/ } @{ $bad{redis_url} })
{
	$admin->fails("SET distlock.redis_url = '$url'");
	like($admin->stderr, qr/HINT: .*redis_password_file/, 'a password in an address: what to do instead');
}

my %good = (
	redis_url => [
		'', ' ', 'redis://localhost', 'redis://localhost/', 'redis://127.0.0.1:6379/15', 'redis://a-b.c_d:1',
		'redis://user@host', 'redis://user%40with%3Acolon@host:6380/2', 'redis://[::1]', 'redis://[::1]:6379/1',
		'unix:///a', 'unix:///a?db=2', 'unix://user@/a/b.sock', 'unix:///a%20b', ' redis://a , redis://b ',
		'redis://a,redis://a/1,redis://a:1,unix:///a' ],
	redis_key => [ 'plain', 'rueidislock', '{key}', 'a{key}b', '{index}{key}{database}', '% * \\ {key}' ],
	redis_prefixes => [ '', 'a', 'a, b', '"a,b"', 'a"b', '"a""b"', 'x' x 512 ],
	redis_majority => [ 1, 7 ],
	redis_value => [ 'json', 'token' ],
	redis_timeout => [ '10ms', '60s' ],
	redis_reconcile => [ '1s', '1d' ]);
foreach my $name (sort keys %good)
{
	is(join("\n", grep { $admin->fails("SET distlock.$name = '$_';") ne '' } @{ $good{$name} }), '',
		"accepted: $name");
	$admin->query("RESET distlock.$name");
}
# With TLS or without, as it was built
my $tls = $admin->fails("SET distlock.redis_url = 'rediss://host'");
$admin->query('RESET distlock.redis_url') if $tls eq '';
ok($tls eq '' || $tls eq '22023' && $admin->stderr =~ /DETAIL:  .*TLS/, 'rediss:// is there, or says why not');

# Only superusers, and none of it for others to see
$admin->query('CREATE ROLE somebody LOGIN; GRANT ALL ON DATABASE postgres TO somebody');
my $somebody = session($node);
$somebody->query('SET SESSION AUTHORIZATION somebody');
is($somebody->fails("SET distlock.$_->[0] = '$_->[1]'"), '42501', "not for others: $_->[0]")
  foreach [ 'redis_url', '' ], [ 'redis_key', 'plain' ], [ 'redis_password_file', '' ], [ 'redis_ca_file', '' ],
  [ 'redis_majority', 1 ], [ 'redis_prefixes', '' ], [ 'redis_value', 'token' ], [ 'redis_timeout', '1s' ],
  [ 'redis_reconcile', '1s' ];
is($somebody->fails("SHOW distlock.$_"), '42501', "... nor to be seen: $_")
  foreach 'redis_url', 'redis_password_file', 'redis_ca_file';
$somebody->quit;

# A bad value in the configuration file is refused there, and what was set stays.
# A password that somebody has put into it does not get into the log.
my $position = log_position($node);
my $connections = mirror_status($admin, 'connections');
$node->append_conf('postgresql.conf', "distlock.redis_url = 'redis://user:secretly\@127.0.0.1'");
$admin->query('ALTER SYSTEM RESET distlock.redis_url');
$node->reload;
await('the bad value to be noticed', sub { log_lines($node, $position, qr/contains errors/) });
acquire_all($admin, 'after a bad value');
await('the lock', sub { $redis->command('EXISTS', 'after a bad value') });
is(mirror_status($admin, 'state, connections'), "connected|$connections",
	'a bad value in the configuration file: all goes on as it was');
is_deeply([ log_lines($node, $position, qr/secretly/) ], [], '... and a password is not in the log');
$node->append_conf('postgresql.conf', "distlock.redis_url = ''");
$node->reload;
await('no mirror', sub { mirror_status($admin) eq '' });

# ---------------------------------------------------------------------------
# Passwords
# ---------------------------------------------------------------------------

my $password = 'Sesame, 0pen "it" \\ #5';
my $guarded = DistlockRedis->new('guarded', password => $password);
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $path = "$dir/password";

sub write_password
{
	my ($text, $mode) = @_;

	unlink $path;
	open my $file, '>', $path or die "could not write $path: $!";
	print $file $text;
	close $file;
	chmod $mode, $path or die "could not chmod $path: $!";
	return;
}

# Wait until it cannot connect, for a reason like that.
sub refused
{
	my ($what, $pattern) = @_;
	my $error = '';

	eval {
		await($what, sub {
			(my $state, $error) = split /\|/, mirror_status($admin, 'state, last_error'), 2;
			return $state eq 'disconnected' && ($error // '') =~ $pattern;
		});
	};
	return like($error, $pattern, $what);
}

sub connects
{
	my ($what) = @_;

	await_connected($admin);
	$admin->query("SELECT distlock.acquire('$what', '1 h')");
	await('the lock', sub { $guarded->command('EXISTS', $what) });
	ok(1, $what);
	# Not that it was connected before.
	$guarded->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	return;
}

set('distlock.redis_url', $guarded->url);
refused('Redis wants a password, and there is none', qr/NOAUTH/);
set('distlock.redis_password_file', $path);
refused('the file is missing', qr/\Q$path\E.*No such file/s);
write_password("$password\n", 0600);
connects('a password from a file');
write_password($password, 0400);
connects('... without the end of the line, read only');
write_password("$password\nmore\nlines\n", 0600);
connects('... the first line counts');
foreach my $mode (0644, 0640, 0660, 0604, 0620, 0610, 0601)
{
	my $octal = sprintf '0%03o', $mode;

	write_password("wrong\n", 0600);
	$guarded->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	refused("a wrong password (then mode $octal)", qr/WRONGPASS|invalid password/);
	write_password("$password\n", $mode);
	refused("mode $octal: others might have access", qr/\Q$path\E.*(?:permission|access|mode|group|others)/is);
	chmod 0600, $path;
	connects("mode $octal: put right");
}
write_password('', 0600);
$guarded->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
refused('an empty file', qr/\Q$path\E.*empty|no password/is);
write_password("\n$password\n", 0600);
refused('an empty line', qr/\Q$path\E.*empty|no password/is);
unlink $path;
mkdir $path or die "could not make a directory: $!";
refused('a directory', qr/\Q$path\E.*(?:not a regular file|directory)/is);
rmdir $path;
POSIX::mkfifo($path, 0600) or die "could not make a FIFO: $!";
refused('a FIFO, at which to wait for ever', qr/\Q$path\E.*not a regular file/is);
unlink $path;
set('distlock.redis_password_file', '/etc/passwd');
refused('a file of root that everybody can read', qr{/etc/passwd.*(?:permission|access|mode|group|others)}is);
set('distlock.redis_password_file', 'redis_password');
refused('a relative path', qr/redis_password.*No such file/s);
$path = $node->data_dir . '/redis_password';
write_password("$password\n", 0600);
connects('... is in the data directory');
set('distlock.redis_password_file', '');
refused('no file any more', qr/NOAUTH/);
set('distlock.redis_password_file', 'redis_password');

# A user of Redis who may do what is documented, and nothing else
my @rights = qw(+select +script|load +evalsha +hget +hmget +hlen +hscan +get +mget +pttl +set +del +hset +hdel);
my $user_password = 'for the mirror alone';
sub define_user
{
	my (@more) = @_;

	$guarded->command('ACL', 'SETUSER', 'mirror', 'reset', 'on', ">$user_password",
		'~distlock:*', '~distlock-mirror:*', @rights, @more);
	return;
}
define_user();
set('distlock.redis_key', 'distlock:{database}:{key}');
set('distlock.redis_url', $guarded->url(2, 'mirror'));
refused('a user with another password', qr/WRONGPASS/);
write_password("$user_password\n", 0600);
await_connected($admin);
$guarded->command('ACL', 'LOG', 'RESET');
my $errors = mirror_status($admin, 'errors');
is(mirror_status($admin, 'mirror'), "redis://127.0.0.1:${\ $guarded->port}/2",
	'a user with the rights that are documented: connected; the view does not name him');
is_mirrored($guarded, $admin, '... the locks are there', db => 2);
ok(await_in_sync($admin), '... mirror_check() works');
$admin->query("SELECT distlock.acquire('as the user', '1 h', scope => 'session')");
$admin->query("SELECT distlock.force_release('after a bad value')");
is_mirrored($guarded, $admin, '... and follow', db => 2);
my $others = $guarded->client(db => 2);
$others->command('DEL', 'distlock:postgres:as the user');
like(check_mirror($admin), qr/\|as the user\|distlock:postgres:as the user\|missing$/, '... differences are found');
ok(await_in_sync($admin), '... and repaired');
is(mirror_status($admin, 'errors'), $errors, '... without an error');
is_deeply($guarded->command('ACL', 'LOG'), [], '... nor anything that Redis has refused');

define_user('-set');
$admin->query("SELECT distlock.acquire('not allowed', '1 h')");
await_mirror($admin, "last_error ~ 'NOPERM|permission|can''t run'", 'failing');
ok(1, 'a right is missing: failing');
define_user();
await_connected($admin);
is_mirrored($guarded, $admin, '... given: all is well', db => 2);
define_user('-evalsha');
$admin->query("SELECT distlock.acquire('not at all', '1 h')");
await_mirror($admin, "last_error ~ 'NOPERM|permission'", 'disconnected');
ok(1, 'one without which nothing works: disconnected');
define_user();
await_connected($admin);
is_mirrored($guarded, $admin, '... given: all is well', db => 2);

# None of the passwords can be seen anywhere.
my $log = slurp_file($node->logfile);
ok(index($log, $_) < 0, 'not in the log') foreach $password, $user_password, 'Sesame';
my $seen = join "\n", map { $admin->query("SELECT v::text FROM $_ v") } 'distlock.mirror_status',
  'distlock.worker_status', 'pg_settings', 'pg_stat_activity', 'pg_file_settings';
ok(index($seen, $_) < 0, '... nor in a view') foreach $password, $user_password, 'Sesame';
is_deeply([ log_lines($node, 0, qr/PANIC:|WARNING:|by signal/) ], [], 'no complaints in the log');

$admin->quit;
$node->stop;
done_testing();
