# Whatever pretends to be Redis, and replies as Redis never would: sessions do not
# notice, the worker stays, keeps its memory small, can be ended at once, says
# what is wrong, and two seconds after the fault has ended Redis has what it
# should.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockFaults;
use DistlockProxy;
use DistlockRedis;
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

skip_without_redis();

my $redis = DistlockRedis->new('main');
my $proxy = DistlockProxy->new(port => $redis->port);
my $node = new_node('main', conf => redis_conf('redis://127.0.0.1:' . $proxy->port, "distlock.redis_timeout = '3s'"));
my $faults = DistlockFaults->new($node, $redis);

sub fault { return $faults->proxy_fault($proxy, @_); }

# ---------------------------------------------------------------------------
# What is no reply at all, or none that anybody would want
# ---------------------------------------------------------------------------

my $TOO_MUCH = qr/long|large|many|limit/;
my %SAID = (
	'an HTTP server' => [ [ text => "HTTP/1.1 400 Bad Request\r\n\r\n" ], qr/Protocol error/ ],
	'garbage' => [ [ text => join '', map { chr } 0x80 .. 0xff, 0 .. 0x7f ], qr/Protocol error/ ],
	'garbage without end' => [ [ text => "\xff", then => "\xfe\x00garbage" x 100 ], qr/Protocol error/ ],
	'a text of 512 MB is to come' => [ [ text => "\$536870912\r\n" ], qr/no answer/ ],
	'a text of 512 MB comes' => [ [ text => "\$536870912\r\n", then => 'x' x 4096 ], $TOO_MUCH ],
	'a line without end' => [ [ text => '+' . 'x' x 4096, then => 'x' x 4096 ], $TOO_MUCH ],
	'an array of 1,000,000,000 is to come' => [ [ text => "*1000000000\r\n" ], $TOO_MUCH ],
	'an array of 1,000,000,000 comes' => [ [ text => "*1000000000\r\n", then => ":1\r\n" x 1000 ], $TOO_MUCH ],
	# Each for itself is small enough.
	'arrays of arrays without end' =>
	  [ [ text => "*65536\r\n" x 6, then => ":1\r\n" x 1000 ], $TOO_MUCH ],
	'arrays of texts without end' =>
	  [ [ text => "*65536\r\n" x 2, then => "\$1000\r\n" . 'x' x 1000 . "\r\n" ], $TOO_MUCH ],
	'an array in an array in an array' => [ [ text => "*1\r\n" x 100_000 ], qr/nested|$TOO_MUCH/ ],
	'a negative length' => [ [ text => "\$-17\r\n" ], qr/length/ ],
	'a length that is too long for a number' =>
	  [ [ text => "\$99999999999999999999999\r\n" ], qr/length/ ]);

foreach my $name (sort keys %SAID)
{
	my ($say, $error) = @{ $SAID{$name} };

	fault("it says: $name", [ 'say', @$say ], error => $error);
}

# ---------------------------------------------------------------------------
# Replies of the wrong kind, or too many
# ---------------------------------------------------------------------------

my %INSTEAD = (
	'an integer' => ":1\r\n",
	'a status' => "+OK\r\n",
	'nothing' => "\$-1\r\n",
	'a text' => "\$5\r\nhello\r\n",
	'an empty array' => "*0\r\n",
	'an array of odd things' => "*3\r\n:1\r\n\$-1\r\n*1\r\n+OK\r\n",
	'an error' => "-ERR something is wrong\r\n");

foreach my $name (sort keys %INSTEAD)
{
	fault("each reply is $name", [ 'replace', text => $INSTEAD{$name} ],
		error => $name eq 'an error' ? qr/something is wrong/ : qr/wrong kind/);
}

# Not the first replies of a connection
fault('later replies are integers', [ 'replace', text => ":1\r\n", skip => 3 ],
	error => qr/wrong kind/);
fault('more replies than were asked for', [ 'extra', text => "+OK\r\n" ],
	error => qr/nothing was asked|wrong kind/);

$faults->finish;
$proxy->stop;
$node->stop;
done_testing();
