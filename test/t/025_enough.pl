# A run in which too little happened has failed, and so has a full one that has missed a
# goal.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use Test::More;

# What becomes of a run that does that.
sub outcome
{
	my ($code, %environment) = @_;
	my ($out, $err) = ('', '');

	%environment = (DISTLOCK_SLOWNESS => 1, DISTLOCK_TORTURE_FULL => 0, %environment);
	local @ENV{ keys %environment } = values %environment;
	my $passed = IPC::Run::run(
		[
			$^X, "-I$FindBin::RealBin/../perl", '-MDistlockTorture', '-e',
			'my $run = DistlockTorture->new("some", seconds => 1, goals => { crashes => 3 }); '
			  . "$code; \$run->finish"
		],
		'>', \$out, '2>', \$err);
	my @failed = map { /^not ok \d+ - (.*)/ ? $1 : () } split /\n/, $out;

	diag $err if $passed && @failed;
	return $passed ? 'passed' : join '; ', @failed;
}

my $RATE = 'at least 500 grants a second';
my $CONTENTION = 'at least 5 % contention';
my @cases = (
	[ 'passed', 'worked(10, grants => 5000, refusals => 500)' ],
	[ 'passed', 'worked(10, grants => 5000, waits => 250)' ],
	[ 'passed', 'worked(5, grants => 4000); $run->worked(5, grants => 1000, refusals => 300)' ],
	[ $RATE, 'worked(10, grants => 4999, refusals => 500)' ],
	[ $CONTENTION, 'worked(10, grants => 5000, refusals => 263)' ],
	[ $CONTENTION, 'worked(10, grants => 5000, waits => 249)' ],
	["$RATE; $CONTENTION", 'worked(10, grants => 0)' ],
	[ "$RATE; $CONTENTION", 'seed' ]);

foreach my $case (@cases)
{
	my ($expected, $code) = @$case;

	is(outcome("\$run->$code; \$run->did_enough"), $expected, $code);
}
is(outcome('$run->worked(10, grants => 250, refusals => 100); $run->did_enough', DISTLOCK_SLOWNESS => 20),
	'passed', 'less is enough on a server that is 20 times as slow');

is(outcome('Test::More::ok(1); $run->add(crashes => 2)'), 'passed', 'a goal is for full runs');
is(outcome('Test::More::ok(1); $run->add(crashes => 2)', DISTLOCK_TORTURE_FULL => 1),
	'some: the goal of crashes', '... in which it must not be missed');
is(outcome('Test::More::ok(1); $run->add(crashes => 3)', DISTLOCK_TORTURE_FULL => 1), 'passed', '... but reached');

done_testing();
