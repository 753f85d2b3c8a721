# The judges of test/torture/failover.pl and clock.pl notice what they are for: histories
# in which nothing is wrong are passed, those in which one thing is wrong are not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockHistory;
use DistlockVerdict;
use Test::More;

my $START = 1_577_836_800;    # 2020-01-01 00:00 UTC
my ($history, $place, $clerk, $verdict);

# ---------------------------------------------------------------------------
# What the slot tells; times are in seconds from the start.
# ---------------------------------------------------------------------------

sub timestamp
{
	my ($seconds) = @_;

	return sprintf '2020-01-01 00:%02d:%02d+00', int($seconds / 60), $seconds % 60;
}

sub row
{
	my (%row) = @_;
	my $text = sub { defined $_[0] ? "'$_[0]'" : 'null' };

	return sprintf 'fence[bigint]:%d acquired_at[timestamp with time zone]:\'%s\' '
	  . 'expires_at[timestamp with time zone]:\'%s\' ttl[bigint]:%d scope["char"]:\'%s\' key[text]:\'k\' '
	  . 'token[text]:%s owner[text]:%s',
	  $row{fence}, timestamp($row{at}), timestamp($row{until}), 1e6 * ($row{ttl} // $row{until} - $row{at}),
	  $row{scope} // 'l', $text->($row{token}), $text->($row{owner} // $row{token});
}

sub change
{
	my ($line) = @_;

	$verdict->change($line);
	return;
}

sub grant { my ($call, $fence, $at, $until) = @_;
	return change('table distlock.lock: UPDATE: ' . row(fence => $fence, at => $at, until => $until, token => $call)); }
sub extend { my ($call, $fence, $at, $moment, $until) = @_;
	return change('table distlock.lock: UPDATE: '
		  . row(fence => $fence, at => $at, until => $until, ttl => $until - $moment, token => $call)); }
sub free { my ($fence, $at, $until, $scope) = @_;
	return change('table distlock.lock: UPDATE: ' . row(fence => $fence, at => $at, until => $until, scope => $scope)); }
sub remove { return change("table distlock.lock: DELETE: key[text]:'k' permit[smallint]:0"); }
sub work { my ($call, $fence) = @_;
	return change("table public.work: INSERT: key[text]:'k' fence[bigint]:$fence work[text]:'${call}w1'"); }
sub elsewhere { my ($fence) = @_;
	return change("table public.elsewhere: UPDATE: key[text]:'k' fence[bigint]:$fence"); }

# ---------------------------------------------------------------------------
# What clients say
# ---------------------------------------------------------------------------

sub say_that { $history->note($clerk, $_) for @_; return; }
sub ask { say_that(map { "ask $_ lease k 10000" } @_); return; }

sub begin
{
	my (%options) = @_;

	$history = DistlockHistory->new(keys => ['k'], clock => $options{clock});
	$place = { serial => 'p1', floor => $options{floor} // 0, ceiling => $options{ceiling}, highest => 0,
		calls => [], forced => {}, rows => {} };
	$clerk = { place => $place, mode => $options{mode} // 'on', last_fence => 0, read_at => 0 };
	$verdict = DistlockVerdict->without_slot($history, $place);
	return;
}

# The next place has these rows and works.
sub moved
{
	my ($kept, $rows, @works) = @_;
	my $to = { serial => 'p2', rows => { map { $_->{key} => $_ } @$rows }, prepared => {}, dbname => 'db',
		server => Works->new(@works) };

	$history->check_kept($place, $to, $kept);
	return;
}

sub kept { my ($fence, $call) = @_; return { key => 'k', fence => $fence, token => $call, owner => $call, expires_at => 1 }; }

package Works;
sub new { my ($class, @works) = @_; return bless [@works], $class; }
sub safe_psql { return join "\n", @{ $_[0] }; }

package main;

my @right = (
	[ 'a lock is used as it should be', sub {
		ask('a', 'b', 'c');
		grant('a', 1, 0, 10);
		extend('a', 1, 0, 9, 30);
		work('a', 1);
		say_that('do a release');
		free(1, 0, 20);
		grant('b', 3, 20, 21);
		elsewhere(3);
		free(3, 20, 21);
		remove();
		grant('c', 4, 30, 40);
		$place->{forced}{k} = 1;
		free(5, 30, 31);
	} ],
	[ 'by a transaction, too', sub {
		ask('a', 'b');
		grant('a', 1, 0, 10);
		work('b', 2);
		free(2, 0, 10, 't');
	} ],
	[ 'what was promised is there', sub {
		ask('a', 'b', 'c');
		say_that('shown a 1', 'got a 1', 'do a work aw1', 'worked a aw1', 'not b', 'do c release');
		moved('synchronous', [ kept(1, 'a') ], 'aw1');
	} ],
	[ 'what was not promised can be lost', sub {
		ask('a');
		say_that('got a 1');
		moved('before', []);
	} ],
	[ 'who does not wait for a standby can lose it', sub {
		$clerk->{mode} = 'local';
		ask('a');
		say_that('got a 1');
		moved('synchronous', []);
	} ],
	[ 'what was not answered can be there', sub {
		ask('a');
		moved('synchronous', [ kept(1, 'a') ]);
		die unless $history->count('resolved') == 1;
	} ]);

my @wrong = (
	[ 'granted while held', sub { ask('a', 'b'); grant('a', 1, 0, 10); grant('b', 2, 9, 19) } ],
	[ 'granted while held', sub {
		ask('a', 'b'); say_that('do a release'); grant('a', 1, 0, 10); free(1, 0, 5); grant('b', 2, 4, 9) } ],
	[ 'expiry is not grant plus ttl', sub { ask('a'); extend('a', 1, 0, 5, 10) } ],
	[ 'fence not above', sub { ask('a', 'b'); grant('a', 2, 0, 1); grant('b', 1, 1, 2) } ],
	[ 'fence not above', sub { ask('a', 'b'); grant('a', 2, 0, 1); free(2, 0, 1); remove(); grant('b', 1, 1, 2) } ],
	[ 'was given to', sub { ask('a', 'b'); say_that('shown a 1', 'shown b 1') } ],
	[ 'was shown 1, then 2', sub { ask('a'); say_that('shown a 1', 'shown a 2') } ],
	[ 'after 2 in the same session', sub { ask('a', 'b'); say_that('shown a 2', 'shown b 1') } ],
	[ 'has the fences', sub { ask('a'); say_that('shown a 1'); grant('a', 2, 0, 1) } ],
	[ 'who has not asked', sub { grant('a', 1, 0, 1) } ],
	[ 'extended after it had expired', sub { ask('a'); grant('a', 1, 0, 10); extend('a', 1, 0, 10, 20) } ],
	[ 'extend changed acquired_at', sub { ask('a'); grant('a', 1, 0, 10); extend('a', 1, 1, 9, 20) } ],
	[ 'released by who has not asked', sub { ask('a'); grant('a', 1, 0, 10); free(1, 0, 5) } ],
	[ 'released after it had expired', sub { ask('a'); say_that('do a release'); grant('a', 1, 0, 10); free(1, 0, 11) } ],
	[ 'released when free', sub { free(1, 0, 1) } ],
	[ 'forced by nobody', sub { ask('a'); grant('a', 1, 0, 10); free(2, 0, 5) } ],
	[ 'locked by a transaction while held', sub { ask('a'); grant('a', 1, 0, 10); free(2, 0, 5, 't') } ],
	[ 'deleted while not free', sub { ask('a'); grant('a', 1, 0, 10); remove() } ],
	[ 'work under a lock that another one has', sub {
		ask('a', 'b'); grant('a', 1, 0, 1); grant('b', 2, 1, 2); work('a', 1) } ],
	[ 'work after that of fence 2', sub { ask('a', 'b'); work('b', 2); work('a', 1) } ],
	[ 'work of who has not asked', sub { work('a', 1) } ],
	[ 'written after fence 2', sub { elsewhere(2); elsewhere(1) } ],
	[ 'has gone', sub { ask('a'); say_that('got a 1'); moved('all', []) } ],
	[ 'has gone', sub { ask('a'); say_that('got a 2'); moved('synchronous', [ kept(1, 'x') ]) } ],
	[ 'the work aw1 has gone', sub { ask('a'); say_that('do a work aw1', 'worked a aw1'); moved('synchronous', []) } ],
	[ 'is held by b', sub { ask('a'); say_that('got a 1'); moved('all', [ kept(1, 'b') ]) } ],
	[ 'was extended to 2', sub { ask('a'); say_that('got a 1', 'do a extend', 'extended a 2'); moved('all', [ kept(1, 'a') ]) } ],
	[ 'was refused or undone', sub { ask('a'); say_that('shown a 1', 'not a'); moved('all', [ kept(1, 'a') ]) } ],
	[ 'had the fence 5', sub { $place->{rows}{k} = kept(5, 'x'); moved('before', [ kept(4, 'y') ]) } ],
	[ 'there are locks', sub { moved('nothing', [ kept(1, 'x') ]) } ],
	[ 'a client got', sub { $history->said($clerk, 'XX000: internal error') } ]);

for my $case (@right)
{
	my ($name, $events) = @$case;

	begin();
	$events->();
	is_deeply([ $history->problems ], [], $name);
}
for my $case (@wrong)
{
	my ($name, $events) = @$case;

	begin();
	$events->();
	like(join("\n", $history->problems), qr/\Q$name\E/, $name);
}

# Fences in relation to those of other places
begin(floor => 100, ceiling => 200);
ask('a', 'b', 'c');
say_that('shown a 101', 'shown b 199');
is_deeply([ $history->problems ], [], 'fences between those of other places');
begin(floor => 100, ceiling => 200);
ask('a');
say_that('shown a 100');
like(join("\n", $history->problems), qr/not above 100/, 'a fence of before');
begin(floor => 100, ceiling => 200);
ask('a');
say_that('shown a 200');
like(join("\n", $history->problems), qr/not below 200/, 'a fence of those who came later');

# A clock that is set back: the end of what was released says nothing.
begin(clock => sub { return @_ ? undef : 1e6 * ($START + 1000) });
ask('a', 'b');
say_that('do a release');
grant('a', 1, 100, 200);
free(1, 100, 150);
grant('b', 2, 50, 60);
is_deeply([ $history->problems ], [], 'the clock is set back between release and grant');
begin(clock => sub { return @_ ? undef : 1e6 * ($START + 1000) });
ask('a', 'b');
grant('a', 1, 100, 200);
grant('b', 2, 50, 60);
like(join("\n", $history->problems), qr/granted while held/, '... but not while it is held');
begin(clock => sub { return @_ ? 'not then' : 1e6 * ($START + 1000) });
ask('a');
grant('a', 1, 100, 200);
like(join("\n", $history->problems), qr/a time that was not: not then/, 'a time that the clock has not shown');
begin(clock => sub { return @_ ? undef : 1e6 * ($START + 199) });
ask('a');
grant('a', 1, 100, 200);
free(1, 100, 200);
like(join("\n", $history->problems), qr/freed before it had expired/, 'freed before the clock has come so far');

done_testing();
