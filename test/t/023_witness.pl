# The witness sees what it is there to see: records of clients with exactly one
# thing wrong, and some with nothing wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockWitness;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();

# "1000-1010 acquire lease k1 A 1.0.0 ttl 50 ok 7 C" and so on: times, what, scope,
# key, token, owner, outcome, value and state.
sub record
{
	my ($line) = @_;
	my ($times, $verb, $scope, $key, $token, $owner, $ttl, $outcome, $value, $state) =
	  split / /, $line;
	my ($asked, $answered) = split /-/, $times;

	return join("\t", $asked, $answered, $verb, $scope, $key, $token, $owner, $ttl, $outcome,
		$value eq '.' ? '' : $value, $state) . "\n";
}

# What the judge saw: "grant OWNER KEY TOKEN FENCE", "release TOKEN" and so on.
sub sight
{
	my %sight = (grants => {}, extended => {}, released => {}, taken => {}, works => {});

	foreach (@_)
	{
		my ($what, $name, @rest) = split / /;

		if ($what eq 'grant')
		{
			$sight{grants}{$name} = { owner => $name, key => $rest[0], token => $rest[1], fence => $rest[2] };
		}
		elsif ($what eq 'release') { $sight{released}{$name} = 'l'; }
		elsif ($what eq 'extend') { $sight{extended}{$name} = 1; }
		elsif ($what eq 'taken') { $sight{taken}{$name} = 1; }
		else { $sight{works}{$name} = 1; }
	}
	return \%sight;
}

# Two holders, one after the other.
my @first = ('100-110 a l k1 A 1.0.0 50 ok 7 C', '130-140 r l k1 A - 0 ok t C');
my @second = ('125-145 a l k1 B 1.1.0 50 ok 8 C');
my @seen = ('grant 1.0.0 k1 A 7', 'release A', 'grant 1.1.0 k1 B 8');

my @cases = (
	[ 'nothing wrong', [ @first, @second ], \@seen, [] ],
	[
		'nothing wrong: expired, extended, another key',
		[
			'100-110 a l k1 A 1.0.0 50 ok 7 C', '120-125 x l k1 A - 50 ok . C',
			'160-171 a l k1 B 1.1.0 50 ok 8 C', '110-112 a l k2 C 1.2.0 50 ok 9 C'
		],
		[ 'grant 1.0.0 k1 A 7', 'extend A', 'grant 1.1.0 k1 B 8', 'grant 1.2.0 k2 C 9' ], []
	],
	[
		'nothing wrong: nobody knows',
		[ '100-110 a l k1 A 1.0.0 50 lost . U', '120-130 a l k1 B 1.1.0 50 lost . U' ],
		['grant 1.0.0 k1 A 7'], []
	],
	[
		'nothing wrong: taken by force',
		[ '100-110 a l f1 A 1.0.0 50 ok 7 C', '120-130 a l f1 B 1.1.0 50 ok 8 C' ],
		[ 'grant 1.0.0 f1 A 7', 'taken A', 'grant 1.1.0 f1 B 8' ], []
	],
	[
		'nothing wrong: rolled back',
		[ '100-110 a l k1 A 1.0.0 50 ok 7 R', '120-130 a l k1 B 1.1.0 50 ok 8 C' ],
		['grant 1.1.0 k1 B 8'], []
	],
	[
		'granted while held',
		[ $first[0], '100-120 a l k1 B 1.1.0 50 ok 8 C' ],
		[ 'grant 1.0.0 k1 A 7', 'grant 1.1.0 k1 B 8' ], ['held_twice']
	],
	[
		'granted while held, after an extend',
		[
			$first[0], '140-145 x l k1 A - 50 ok . C', '160-170 a l k1 B 1.1.0 50 ok 8 C'
		],
		[ 'grant 1.0.0 k1 A 7', 'extend A', 'grant 1.1.0 k1 B 8' ], ['held_twice']
	],
	[
		'granted while a transaction holds it',
		[
			'100-110 a t k1 A 1.0.0 50 ok 7 C', '300-310 e t k1 A - 0 ok . C',
			'200-220 a l k1 B 1.1.0 50 ok 8 C'
		],
		['grant 1.1.0 k1 B 8'], ['held_twice']
	],
	[
		'granted while pinned',
		[
			$first[0], '120-125 g l k1 A - 0 ok 7 C', '300-310 e l k1 A - 0 ok . C',
			'200-220 a l k1 B 1.1.0 50 ok 8 C'
		],
		[ 'grant 1.0.0 k1 A 7', 'grant 1.1.0 k1 B 8' ], ['held_twice']
	],
	[
		'granted while a session holds it',
		[
			'100-110 a s k1 A 1.0.0 5 ok 7 C', '300-310 w s k1 A 1.0.1 0 ok 1 C',
			'200-220 a l k1 B 1.1.0 50 ok 8 C'
		],
		[ 'grant 1.0.0 k1 A 7', 'grant 1.1.0 k1 B 8', 'work 1.0.1' ], ['held_twice']
	],
	[
		'the same fence for two, one of them rolled back',
		[ '100-110 a l k1 A 1.0.0 50 ok 7 R', '120-130 a l k1 B 1.1.0 50 ok 7 C' ],
		['grant 1.1.0 k1 B 7'], [ 'repeated_fences', 'fence_order' ]
	],
	[
		'a lower fence for who asked later',
		[ @first, '145-150 a l k1 B 1.1.0 50 ok 6 C' ],
		[ @seen[ 0, 1 ], 'grant 1.1.0 k1 B 6' ], ['fence_order']
	],
	[ 'a wrong token', [ '100-110 ! l k1 wrong - 0 ok . C' ], [], ['wrong_tokens'] ],
	[ 'a grant is lost', [@first], ['release A'], ['lost_grants'] ],
	[
		'a refusal that was a grant', [ '100-110 a l k1 A 1.0.0 50 none . C' ],
		['grant 1.0.0 k1 A 7'], ['ghost_grants']
	],
	[
		'what was rolled back is there', [ '100-110 a l k1 A 1.0.0 50 ok 7 R' ],
		['grant 1.0.0 k1 A 7'], ['ghost_grants']
	],
	[ 'a grant that nobody asked for', [], ['grant 1.0.0 k1 A 7'], ['ghost_grants'] ],
	[
		'another fence than was said', [@first],
		[ 'grant 1.0.0 k1 A 8', 'release A' ], ['false_answers']
	],
	[
		'another token than was said', [@first],
		[ 'grant 1.0.0 k1 B 7', 'release A' ], ['false_answers']
	],
	[ 'released by nobody', [ $first[0] ], [ @seen[ 0, 1 ] ], ['ghost_releases'] ],
	[
		'released by what was rolled back',
		[ $first[0], '130-140 r l k1 A - 0 ok t R' ], [ @seen[ 0, 1 ] ], ['ghost_releases']
	],
	[ 'a release is lost', [@first], [ $seen[0] ], ['lost_releases'] ],
	[
		'extended by nobody', [ $first[0] ],
		[ $seen[0], 'extend B' ], ['ghost_extends']
	],
	[ 'a line is lost', [ '100-110 w l k1 A 1.0.1 0 ok 1 C' ], [], ['lost_works'] ],
	[
		'a line that was rolled back', [ '100-110 w l k1 A 1.0.1 0 ok 1 R' ],
		['work 1.0.1'], ['ghost_works']
	],
	[ 'a line that nobody wrote', [], ['work 1.0.1'], ['ghost_works'] ]);

sub heard
{
	my ($witness, $records, $sight, %options) = @_;

	append_to_file("$directory/log", join '', map { record($_) } @$records);
	$witness->hear("$directory/log");
	unlink "$directory/log";
	$witness->compare(sight(@$sight), %options);
	return;
}

foreach my $case (@cases)
{
	my ($name, $records, $sight, $violations) = @$case;
	my $witness = DistlockWitness->new;

	# An empty file, too, is one.
	append_to_file("$directory/log", '');
	heard($witness, $records, $sight);
	is_deeply([ sort $witness->violations ], [ sort @$violations ], $name)
	  or diag $witness->evidence;
}

my $witness = DistlockWitness->new;
heard($witness, [@first], [ $seen[0] ], crashed => 1);
is_deeply([ $witness->violations ], [], 'a crash may lose a release');
is($witness->count('acknowledged'), 1, 'one grant was acknowledged');

$witness = DistlockWitness->new;
heard($witness, [@first], [], crashed => 1);
is_deeply([ $witness->violations ], ['lost_grants'], 'but no grant');

$witness = DistlockWitness->new;
heard($witness,
	[ '100-110 a l k1 A 1.0.0 50 lost . U', '120-130 a l k2 B 1.1.0 50 lost . U' ],
	['grant 1.0.0 k1 A 7']);
is($witness->count('committed'), 1, 'one that nobody knew of was committed');
is($witness->count('undone'), 1, 'the other was not');

# From one round to the next
$witness = DistlockWitness->new;
heard($witness, [ $first[0] ], [ $seen[0] ]);
heard($witness, ['140-145 a l k1 B 2.1.0 50 ok 8 C'], ['grant 2.1.0 k1 B 8']);
is_deeply([ $witness->violations ], ['held_twice'], 'a lease of the round before is remembered');
heard($witness, ['300-310 a l k1 C 3.1.0 50 ok 8 C'], ['grant 3.1.0 k1 C 8']);
is_deeply([ sort $witness->violations ], [ 'fence_order', 'held_twice' ], 'and its fence');

done_testing();
