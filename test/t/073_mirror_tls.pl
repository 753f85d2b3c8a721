# The mirror by TLS: only to a server that has a certificate for its name from
# somebody who is trusted; and a handshake that does not come to its end holds up
# nothing.  Where hiredis has no TLS, rediss:// is refused.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $dir = PostgreSQL::Test::Utils::tempdir;
my $tls_port = PostgreSQL::Test::Cluster::get_free_port();

sub openssl
{
	my ($output, $errors) = ('', '');

	IPC::Run::run([ 'openssl', @_ ], '<', \undef, '>', \$output, '2>', \$errors)
	  or die "openssl @_ failed: $errors";
	return;
}

# An authority, whose certificate is NAME.crt.
sub make_authority
{
	my ($name) = @_;

	openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
		'-days', '7', '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
	return;
}

# What Redis needs to show a certificate for these names.
sub make_certificate
{
	my ($name, $authority, $names) = @_;

	append_to_file("$dir/$name.ext", "subjectAltName=$names\n");
	openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
		'-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/$authority.crt", '-CAkey',
		"$dir/$authority.key", '-CAcreateserial', '-days', '7', '-extfile', "$dir/$name.ext",
		'-out', "$dir/$name.crt");
	return ("tls-cert-file $dir/$name.crt", "tls-key-file $dir/$name.key");
}

my $node = new_node('main', conf => preloaded("distlock.redis_timeout = '500ms'"));
my $session = session($node);

sub set
{
	my ($name, $value) = @_;

	$session->query("ALTER SYSTEM SET distlock.$name = '$value'");
	$session->query('SELECT pg_reload_conf()');
	return;
}

# The mirror cannot connect, for a reason.
sub is_refused
{
	my ($reason, $name) = @_;

	await($name, sub {
		return $session->query("SELECT state = 'disconnected' AND last_error ~ '$reason' FROM distlock.mirror_status")
		  eq 't';
	});
	return pass($name);
}

# What the build can do
if ($session->fails("ALTER SYSTEM SET distlock.redis_url = 'rediss://127.0.0.1:$tls_port'"))
{
	like($session->stderr, qr/DETAIL: +This distlock was built without TLS for Redis/,
		'without TLS, rediss:// is refused, and why');
	done_testing();
	exit;
}

make_authority('ours');
make_authority('others');
my @certificate = make_certificate('server', 'ours', 'IP:127.0.0.1');
my @tls = ("tls-port $tls_port", "tls-ca-cert-file $dir/ours.crt", 'tls-auth-clients no');
my $redis = DistlockRedis->new('main', conf => [ @tls, @certificate ]);

$session->query('CREATE EXTENSION IF NOT EXISTS distlock');
await_worker($session, 'postgres');
$session->query("SELECT distlock.acquire('job', '1 h', owner => 'me')");

# Nobody is trusted who is not said to be.
set('redis_url', "rediss://127.0.0.1:$tls_port");
is_refused('certificate verify failed', 'an authority that the system does not know');
set('redis_ca_file', "$dir/others.crt");
is_refused('certificate verify failed', 'an authority that is not the one that is trusted');
set('redis_ca_file', "$dir/missing.crt");
is_refused('could not set up TLS', 'a file of authorities that is not there');

set('redis_ca_file', "$dir/ours.crt");
await_connected($session);
is_mirrored($redis, $session, 'the right authority');
like($session->query('SELECT mirror FROM distlock.mirror_status'), qr{^rediss://127\.0\.0\.1:$tls_port/0$},
	'it is shown as such');
await_in_sync($session);

# Many, so that more is written and read than goes into one record of TLS
$session->query("SELECT count(distlock.acquire('many ' || i, '1 h', owner => repeat('x', 200))) FROM generate_series(1, 1000) i");
is_mirrored($redis, $session, 'thousands');
$session->query("SELECT count(distlock.force_release('many ' || i)) FROM generate_series(1, 1000) i");
is_mirrored($redis, $session, '... that are released');

# The name in the certificate
set('redis_url', "rediss://localhost:$tls_port");
is_refused('certificate verify failed', 'a certificate for another name');
$redis->stop;
$redis->append_conf(make_certificate('named', 'ours', 'DNS:localhost'));
$redis->start;
await_connected($session);
is_mirrored($redis, $session, 'a certificate for this name');
set('redis_url', "rediss://127.0.0.1:$tls_port");
is_refused('certificate verify failed', '... is none for the address');

# A server that speaks no TLS, and one that says nothing at all
set('redis_url', 'rediss://127.0.0.1:' . $redis->port);
is_refused('.', 'a server without TLS');

my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die "could not listen: $!";
set('redis_url', 'rediss://127.0.0.1:' . $silent->sockport);
is_refused('no answer within 500 ms', 'a handshake that does not go on');

# Does waiting for it cost anything but time?  Processor time is counted in
# hundredths of a second.
sub ticks
{
	my ($pid) = @_;

	return eval("$2 + $3") if slurp_file("/proc/$pid/stat") =~ /^(.*\)) (?:\S+ ){11}(\d+) (\d+) /s;
	die 'could not read the time that the worker has used';
}

my $worker = $session->query('SELECT pid FROM distlock.worker_status WHERE database = current_database()');
my ($errors, $before) = ($session->query('SELECT errors FROM distlock.mirror_status'), ticks($worker));
await('more tries', sub { $session->query("SELECT errors >= $errors + 4 FROM distlock.mirror_status") eq 't' });
cmp_ok(ticks($worker) - $before, '<', 60, 'it takes no processor time to wait for a handshake');

set('redis_url', "rediss://localhost:$tls_port");
await_connected($session);
is_mirrored($redis, $session, 'and back again');

done_testing();
