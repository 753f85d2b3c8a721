# At each step of the conversation with Redis an answer that is not of the kind, or
# not of the size, that it has to be, and refusals: the mirror ends the connection,
# says why, and goes on as soon as the answers are right.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockFakeRedis;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use Test::More;

skip_without_redis();

my $fake = DistlockFakeRedis->new;
my $node = new_node('main', conf => redis_conf($fake->url, 'distlock.redis_timeout = 5s'));
my $session = session($node);
my $worker = await_worker($session, 'postgres');
my $db = 1;

sub text { return DistlockFakeRedis::text(@_); }
sub array { return DistlockFakeRedis::array(@_); }

$session->query("SELECT distlock.acquire_with_token('job', 'mine', '1 h', owner => 'me')");

# A mirror that is new, and so connects at once.  It has a name of its own, by which
# it is told from the one before.
sub begin_anew
{
	my (%answers) = @_;
	my $url = $fake->url . '/' . ($db = 3 - $db);

	$fake->answer(%answers);
	change_setting($session, 'distlock.redis_url', $url);
	await('a new mirror', sub { mirror_status($session, 'mirror') eq $url });
	return;
}

sub ends_with
{
	my ($error, $name, $state) = @_;
	my $shown = '';

	$state //= 'disconnected';
	eval {
		await($name, sub {
			$shown = mirror_status($session, 'state, last_error');
			return $shown =~ /^$state\|.*$error/;
		});
		1;
	};
	return like($shown, qr/^$state\|.*$error/, $name);
}

# ---------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------

my $WRONG = 'an answer of the wrong kind';
my @number = ('a number', ":1\r\n");
my @nothing = ('nothing', "\$-1\r\n");
my @pair_of_numbers = ('two numbers', array(":1\r\n", ":2\r\n"));
my @text_and_number = ('a text and a number', array(text('x'), ":2\r\n"));
my @short = ('an array too short', array(text('x')));

my @wrong = (
	[ select => @number ],
	[ script => @number ],
	[ script => 'a text too short', text('abc') ],
	[ claim => @number ], [ claim => @short ], [ claim => @pair_of_numbers ], [ claim => @text_and_number ],
	[ claim => 'a claim too short', array(text('x'), text('')) ],
	[ write => @number ], [ write => @short ], [ write => @pair_of_numbers ], [ write => @text_and_number ],
	[ write => 'letters for other keys', array(text('kk'), text('')) ],
	[ sweep => @number ],
	[ sweep => 'a cursor too long', text('1' x 21) ],
	[ ask => @number ],
	[ count => 'a text', text('1') ]);

foreach my $case (@wrong)
{
	my ($which, $what, $answer) = @$case;

	begin_anew($which => $answer);
	ends_with($WRONG, "$which: $what");
}

# What Redis says when it refuses; what it quotes is not repeated.
my @refused = (
	[ select => 'ERR DB index is out of range', 'Redis refused the number of the database: ERR DB index' ],
	[ script => 'ERR no scripts here', 'Redis refused a script: ERR no scripts here' ],
	[ claim => 'OCCUPIED 1', 'another server writes this mirror' ],
	[ claim => 'SUPERSEDED 1', 'superseded by a server with a newer epoch' ],
	[ claim => 'NOPERM this user has no right to that key', 'Redis refused to let this server write: NOPERM' ],
	[ write => 'SUPERSEDED 1', 'superseded: another worker' ],
	[ write => "ERR wrong number, with args beginning with: 'secret'", 'Redis refused to write: ERR wrong number$' ],
	[ write => 'NOPERM no right to this command', 'Redis refused to write: NOPERM' ],
	[ sweep => 'ERR busy', 'Redis refused to delete: ERR busy' ],
	[ ask => 'ERR busy', 'Redis refused to read: ERR busy' ],
	[ count => 'ERR busy', 'Redis refused to read: ERR busy' ]);

foreach my $case (@refused)
{
	my ($which, $says, $error) = @$case;

	begin_anew($which => "-$says\r\n");
	ends_with($error, "$which: $says");
}

# Of one key only: the others go on.
begin_anew(write => "-NOPERM no right to that key\r\n");
ends_with('NOPERM', 'write: no right to the key', 'failing');
begin_anew(write => array(text('o'), text('')));
ends_with('a newer fence', 'write: Redis has a newer fence', 'failing');

# The claim is another's, or has gone.
begin_anew(ask => text($DistlockFakeRedis::CLAIM =~ s/1/2/r));
ends_with('superseded: another worker', 'ask: another claim');

# What nobody has asked for
begin_anew(count => ":1\r\n-ERR too idle\r\n");
ends_with('Redis said: ERR too idle', 'an error that is no answer');
begin_anew(count => ":1\r\n+OK\r\n");
ends_with('an answer that nothing was asked for', 'an answer too many');

# ---------------------------------------------------------------------------
# Answers to a check
# ---------------------------------------------------------------------------

sub check_ends_with
{
	my ($name, $found, $error, %answers) = @_;

	begin_anew(%answers);
	await_connected($session);
	my $said = check_mirror($session);
	like($said, $found, "$name: what mirror_check() finds");
	# It may have connected again by now.
	ends_with($error, "$name: what is shown", '\w+') if $error;
	return;
}

my $ENDED = qr/\|not connected$/;

check_ends_with('compare: a number', $ENDED, $WRONG, compare => ":1\r\n");
check_ends_with('compare: an array too long', $ENDED, $WRONG, compare => array(text('k1'), text('k1')));
check_ends_with('compare: not texts', $ENDED, $WRONG, compare => array(":1\r\n"));
check_ends_with('compare: a text too short', $ENDED, $WRONG, compare => array(text('k')));
check_ends_with('list: a number', $ENDED, $WRONG, compare => array(text('k1000')), list => ":1\r\n");
check_ends_with('list: an array too short', $ENDED, $WRONG, list => array(text('0')));
check_ends_with('list: a cursor that is none', $ENDED, $WRONG, list => array(":0\r\n", array()));
check_ends_with('list: a cursor too long', $ENDED, $WRONG, list => array(text('1' x 21), array()));
check_ends_with('list: no keys', $ENDED, $WRONG, list => array(text('0'), ":0\r\n"));
check_ends_with('list: keys that are none', $ENDED, $WRONG, list => array(text('0'), array(":0\r\n")));

# The right kind
check_ends_with('compare: missing', qr/\|job\|distlock:postgres:job\|missing$/, undef);
check_ends_with('compare: another value', qr/\|different$/, undef, compare => array(text('d0')));
check_ends_with('compare: another program', qr/\|foreign$/, undef, compare => array(text('f0')));
check_ends_with('compare: too short a life', qr/\|expires early$/, undef, compare => array(text('k1000')));
check_ends_with('compare: no end of it', qr/\|expires late$/, undef, compare => array(text('k-1')));
check_ends_with('compare: too long a life', qr/\|expires late$/, undef, compare => array(text('k9999999')));
is(await_worker($session, 'postgres'), $worker, 'the worker is the same all along');
$fake->answer;
await_connected($session);
pass('with the right answers, all is well');

# Of any bytes, and any length; these are no text of any encoding.
check_ends_with('list: more than there should be', qr/\|\|a\?\?b\|surplus$/m, undef,
	list => array(text('0'), array(text("a\xff\0b"))));
check_ends_with('list: a long one', qr/\|\|a\?{20000}\|surplus$/m, undef,
	list => array(text('0'), array(text('a' . "\0" . "\xff" x 19999))));
is(await_worker($session, 'postgres'), $worker, '... and no process has crashed');

$fake->stop;
$session->quit;
$node->stop;
done_testing();
