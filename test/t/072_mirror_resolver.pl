# A name of Redis that cannot be resolved, or that nobody answers for: nobody
# notices, and the mirror is there as soon as the name is known.
#
# This runs in a network of its own, in which there is a resolver that never
# answers.  Where the system does not let us make one (Linux, user namespaces),
# only names that cannot be resolved are tested.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use Socket;
use Test::More;

my $AF_UP = 0x41;               # IFF_UP | IFF_RUNNING
my $SET_FLAGS = 0x8914;         # SIOCSIFFLAGS

# Before anything is set up for this process
BEGIN
{
	my @unshare = ('unshare', '--user', '--map-current-user', '--keep-caps', '--net', '--mount');

	if (!$^C && !defined $ENV{DISTLOCK_OWN_NETWORK})
	{
		$ENV{DISTLOCK_OWN_NETWORK} =
		  -e '/etc/resolv.conf' && -e '/etc/hosts' && system("@unshare true >/dev/null 2>&1") == 0 ? 1 : 0;
		exec(@unshare, $^X, (map { "-I$_" } grep { !ref } @INC), $0) or die "could not execute $^X again: $!"
		  if $ENV{DISTLOCK_OWN_NETWORK};
	}
}

use DistlockFaults;
use DistlockRedis;
use DistlockTest;
use PostgreSQL::Test::Utils;

skip_without_redis();

my $LENGTH = $ENV{DISTLOCK_LONG} ? 30 : 3;
my $own_network = $ENV{DISTLOCK_OWN_NETWORK};
my $hosts = "$PostgreSQL::Test::Utils::tmp_check/hosts";
my $resolver;

sub hosts
{
	my (@lines) = @_;

	# In place, since it is mounted.
	open my $file, '>', $hosts or die "could not open $hosts: $!";
	print $file "$_\n" foreach '127.0.0.1 localhost', @lines;
	close $file;
	return;
}

# In place of a file of the system, for us alone
sub mount
{
	my ($what, $where) = @_;

	system('mount', '--bind', $what, $where) == 0 or die "could not mount $where";
	return;
}

if ($own_network)
{
	my $servers = "$PostgreSQL::Test::Utils::tmp_check/resolv.conf";
	my $switch = "$PostgreSQL::Test::Utils::tmp_check/nsswitch.conf";

	hosts();
	append_to_file($servers, "nameserver 127.0.0.1\n");
	append_to_file($switch, "hosts: files dns\npasswd: files\ngroup: files\n");
	mount($hosts, '/etc/hosts');
	mount($servers, '/etc/resolv.conf');
	mount($switch, '/etc/nsswitch.conf') if -e '/etc/nsswitch.conf';
	socket(my $any, PF_INET, SOCK_DGRAM, 0) or die "could not make a socket: $!";
	ioctl($any, $SET_FLAGS, pack('Z16 s x14', 'lo', $AF_UP)) or die "there is no loopback interface: $!";
	$resolver = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => 53)
	  or die "could not bind to the port of the resolver: $!";
}

my $redis = DistlockRedis->new('main');
my $port = $redis->port;
hosts('127.0.0.1 redis.test') if $own_network;
my $name = $own_network ? 'redis.test' : 'localhost';
my $node = new_node('main', conf => redis_conf("redis://$name:$port"));
my $faults = DistlockFaults->new($node, $redis);

sub set_url
{
	my ($url) = @_;

	$faults->sql->query("ALTER SYSTEM SET distlock.redis_url = '$url'");
	$faults->sql->query('SELECT pg_reload_conf()');
	return;
}

# A part of a name has 63 bytes at most, so nobody has to be asked.  Another mirror
# has other lines in the log.
my $nobody = 'x' x 64 . '.invalid';
$faults->fault(
	'a name that there is not',
	begin => sub { set_url("redis://$nobody:$port") },
	end => sub { set_url("redis://$name:$port") },
	lines => undef,
	error => qr/could not find the address of "$nobody"/);

SKIP:
{
	skip 'this system does not let us have a network of our own', 1 unless $own_network;

	$faults->fault(
		'the resolver does not answer',
		begin => sub {
			hosts();
			$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
		},
		end => sub { hosts('127.0.0.1 redis.test') },
		length => $LENGTH,
		error => qr/no answer/);

	# Nothing of the children that have waited for the resolver is left.
	my ($worker) = split /\n/, $faults->sql->query(
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'distlock worker'");
	my $children = "/proc/$worker/task/$worker/children";
	is(-r $children ? slurp_file($children) : '', '', 'no process is left');

	# Several packets a time: somebody has asked.
	my $asked = 0;
	$resolver->blocking(0);
	$asked++ while defined $resolver->recv(my $packet, 512);
	cmp_ok($asked, '>', 0, 'the resolver was asked');
}

$faults->finish;
$node->stop;
done_testing();
