
=pod

=head1 NAME

DistlockCalls - calls of every function of distlock, with arguments of every kind

=head1 SYNOPSIS

  my $calls = DistlockCalls->new($node);
  my $call = $calls->draw;
  $call->{sql};           # a statement
  $call->{parameters};    # undef, or those of the statement
  $calls->allows($call, $sqlstate);

=head1 DESCRIPTION

The functions and procedures are those that the catalog has, so that a new one is
called as soon as it is there; one with an argument of a type that is not known here
is an error.  What a call may answer is what the comment of the function names
after "Errors:", what the reference says of all functions, and what comes of an
argument before the function sees it, such as a text that is no interval.

Half of the calls have sensible arguments, so that locks are taken and given back;
in the others each argument may be anything.  Everything is drawn from rand().

=cut

package DistlockCalls;

use strict;
use warnings;

# What docs/reference.md says of every function.
our @ALWAYS = qw(22004 22023 22001 42501 25006 25000 54000 53200 57014 55000 40P01);

# Functions that read or change much are called less often.
my %WEIGHT = (
	purge => 0.1,
	advance_fence => 0.1,
	start_worker => 0.05,
	stop_worker => 0.05,
	mirror_check => 0.2,
	release_all => 0.3,
	extend_all => 0.3,
	require_lock => 0.2,
	read_histograms => 0.2,
	reset_stats => 0.2,
	acquire => 2,
	try_acquire => 2,
	acquire_with_token => 2,
	try_acquire_with_token => 2,
	do_exclusively => 2,
	try_do_exclusively => 2,
	run_exclusively => 2);

my $LEASE_KEYS = 40;
my $ANY_KEYS = 15;

=pod

=head1 METHODS

=head2 DistlockCalls->new($node, $database)

Reads the catalog.

=cut

sub new
{
	my ($class, $node, $database) = @_;
	my $self = bless { functions => [], tokens => [], number => 0, id => $$ }, $class;
	my $rows = $node->safe_psql($database // 'postgres', <<'EOQ');
SELECT p.oid, p.proname, p.prokind, p.pronargdefaults, p.prorettype::regtype,
	(SELECT string_agg(t::regtype::text, ',' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY a(t, n)),
	array_to_string(p.proargnames[1:p.pronargs], ','),
	array_to_string(ARRAY(SELECT m[1] FROM regexp_matches(
		substring(obj_description(p.oid, 'pg_proc') FROM 'Errors:.*'), '\m([0-9A-Z]{5})\M', 'g') m), ' ')
FROM pg_proc p WHERE p.pronamespace = 'distlock'::regnamespace
ORDER BY p.proname, p.oid
EOQ
	my $weight = 0;

	for my $row (split /\n/, $rows)
	{
		my ($oid, $name, $kind, $defaults, $returns, $types, $names, $errors) = split /\|/, $row, -1;
		my @types = split /,/, $types;
		my @names = split /,/, $names;

		# A trigger function or what has only OUT arguments has none.
		$weight += $WEIGHT{$name} // 1;
		push @{ $self->{functions} },
		  { index => scalar @{ $self->{functions} },
			name => $name,
			procedure => $kind eq 'p',
			returns => $returns,
			defaults => $defaults,
			upto => $weight,
			args => [ map { { name => $names[$_], type => $types[$_] } } 0 .. $#types ],
			errors => { map { $_ => 1 } @ALWAYS, split / /, $errors },
			documented => [ split / /, $errors ],
			judged_by_owner => scalar $name =~ /^force_acquire$|acquire_with_token$/, };
		$self->generator($_) foreach @{ $self->{functions}[-1]{args} };
	}
	$self->{weight} = $weight;
	return $self;
}

sub functions { return @{ $_[0]->{functions} }; }

sub one_of { return $_[ int rand @_ ]; }

=pod

=head2 $calls->draw(function => ..., sensible => ..., literal => 1)

A call, of any function or of a certain one.  With C<literal> it has no
parameters; with C<literal =E<gt> 0> it has all that it can have.

=cut

sub draw
{
	my ($self, %how) = @_;
	my $function = $how{function};

	unless (defined $function)
	{
		my $at = rand $self->{weight};
		my ($low, $high) = (0, $#{ $self->{functions} });

		while ($low < $high)
		{
			my $middle = ($low + $high) >> 1;

			if ($self->{functions}[$middle]{upto} > $at) { $high = $middle; }
			else { $low = $middle + 1; }
		}
		$function = $self->{functions}[$low];
	}

	my $call = {
		function => $function,
		errors => {},
		sensible => $how{sensible} // (rand() < 0.6), };
	my $args = $function->{args};
	my $given = @$args;

	# Optional ones are left out from the end, or, if named, anywhere.
	$given -= int rand($function->{defaults} + 1) if $function->{defaults} && rand() < 0.8;
	my $named_from = rand() < 0.3 ? int rand(@$args + 1) : @$args;
	my $literal = $how{literal} // (rand() < 0.5);
	my (@sql, @parameters);

	$self->choose_key($call);
	for my $i (0 .. $#$args)
	{
		my $optional = $i >= @$args - $function->{defaults};

		next if $i >= $named_from ? $optional && rand() < 0.5 : $i >= $given;
		last if $i < $named_from && $i >= $given;

		my $arg = $args->[$i];
		my $value = $self->generator($arg)->($self, $call, $arg, $call->{sensible} || rand() < 0.6);
		my $sql;

		if (ref $value) { $sql = $$value; }
		elsif ($literal) { $sql = literal($value); }
		else
		{
			push @parameters, $value;
			$sql = '$' . @parameters;
		}
		push @sql, $i >= $named_from ? "\"$arg->{name}\" => $sql" : $sql;
	}
	# Who judges has to be told of force, and of tokens that were not drawn.
	push @sql, '"owner" => ' . literal(owner($self, $call))
	  if $function->{judged_by_owner} && !$call->{owner_given};
	my $list = 'distlock.' . $function->{name} . '(' . join(', ', @sql) . ')';

	$call->{expression} = $list;
	$call->{sql} = ($function->{procedure} ? 'CALL ' : 'SELECT ') . $list;
	$call->{parameters} = $literal ? undef : \@parameters;
	return $call;
}

=pod

=head2 $calls->allows($call, $sqlstate)

Whether the documentation lets the call fail in this way.

=cut

sub allows
{
	my ($self, $call, $sqlstate) = @_;

	return $call->{function}{errors}{$sqlstate} || $call->{errors}{$sqlstate};
}

=pod

=head2 $calls->result($call, $value)

Tell what a call has returned, so that its token is used in others.

=cut

sub result
{
	my ($self, $call, $value) = @_;

	return unless defined $value && $call->{function}{returns} eq 'text' && $value =~ /^[0-9a-f]{32}$/;
	push @{ $self->{tokens} }, [ $call->{key}, $value ];
	shift @{ $self->{tokens} } if @{ $self->{tokens} } > 30;
	return;
}

# ---------------------------------------------------------------------------
# Literals
# ---------------------------------------------------------------------------

sub literal
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	return "'$text'" if $text !~ /['\\\0]/;
	return "E'" . $text =~ s/([\\'])/\\$1/gr =~ s/\0/\\000/gr . "'";
}

# ---------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------

# Sessions and transactions mostly use keys of their own, so that leases come to be extended.
sub choose_key
{
	my ($self, $call) = @_;
	my $name = $call->{function}{name};
	my %has = map { $_->{name} => 1 } @{ $call->{function}{args} };

	$call->{scope} =
	  !$has{scope} || rand() < 0.8 ? 'lease' : one_of('session', 'session', 'transaction');
	$call->{session} = $name eq 'run_exclusively' || $call->{scope} eq 'session';

	# Of a lock whose token is known, or any
	if (!$call->{session} && $has{token} && @{ $self->{tokens} } && rand() < 0.4)
	{
		($call->{key}, $call->{token}) = @{ one_of(@{ $self->{tokens} }) };
		return if defined $call->{key};
	}
	my $of_any = $call->{session} || rand() < 0.2;
	my $choice = rand;

	$call->{key} =
		$choice < 0.1 ? ($of_any ? 'any' : 'lease') . " new $self->{id} " . ++$self->{number}
	  : $choice < 0.5 ? ($of_any ? 'any' : 'lease') . " own $self->{id} " . int rand 10
	  : $of_any ? 'any ' . int rand $ANY_KEYS
	  : 'lease ' . int rand $LEASE_KEYS;
	$call->{token} = 'tok~' . int(rand 2) . "~$call->{key}";
	return;
}

# By the name of an argument, or else by its type: code that is given the call, the
# argument, and whether to be sensible, and returns a text, undef for NULL, or a reference to
# an expression of SQL.
my %BY_NAME = (
	key => \&key,
	token => \&token,
	scope => \&scope,
	owner => \&owner,
	data => \&data,
	command => \&command);
my %BY_TYPE = (
	'text' => \&any_text,
	'interval' => \&interval,
	'integer' => \&integer,
	'bigint' => \&integer,
	'boolean' => \&boolean,
	'timestamp with time zone' => \&timestamp,
	'distlock.retry' => \&retry);

sub generator
{
	my ($self, $arg) = @_;

	return $arg->{generator} //= ($arg->{type} eq 'text' ? $BY_NAME{ $arg->{name} } : undef)
	  // $BY_TYPE{ $arg->{type} }
	  // die "no arguments of type $arg->{type} can be made: add them to DistlockCalls.pm";
}

my $MEGABYTE = 'x' x (1 << 20);

# Bytes; those that are no UTF-8 are refused by the server with 22021.
my @TEXTS = (
	undef, '',
	' ', 'a',
	"x" x 255, "x" x 256,
	"x" x 257, "x" x 511,
	"x" x 512, "x" x 513,
	"\xc3\xa4" x 128, "\xc3\xa4" x 128 . 'x',
	'x' . "\xc3\xa4" x 128, "\xc3\xa4" x 256,
	'x' . "\xc3\xa4" x 256, 'x' . "\xc3\xa4" x 255,
	"\xf0\x9f\x94\x92" x 128, "\xf0\x9f\x94\x92" x 128 . 'x',
	"x" x 4096, "x" x 4097,
	"\xe6\xbc\xa2" x 1365 . 'x', "\xe6\xbc\xa2" x 1366,
	"\x01", "\x01\x02\x1f\x7f",
	"\n", "\r\n",
	"a\tb\nc\x0b", "\x1b[31mred",
	"'", '"',
	'\\', '\\\\',
	"'; DROP TABLE distlock.lock; --", '$$',
	'$1', ':key',
	"\\000", '%',
	'%s%n%d%x%%', '%1$s',
	'{"a":[1,null]}', '"',
	'{key}', '{database}',
	'[]', 'null',
	'NULL', 'true',
	'0', '-1',
	"\xef\xbf\xbf", "\xef\xbb\xbfa",
	"\xe2\x80\x8b", "\xc2\xa0",
	"\xe2\x80\xaeabc", "e\xcc\x81",
	"\xf4\x8f\xbf\xbf", "trailing  ",
	"  leading", "\xc2\x80",
	"distlock", "lease 1",
	"any 1");
my @NO_TEXTS =
  ("\xff\xfe", "\xc0\x80", "\xc3", "a\xed\xa0\x80b", "\xf4\x90\x80\x80", "\xe6\xbc", "\x80");

sub any_text
{
	my ($self, $call) = @_;
	my $choice = rand;

	if ($choice < 0.02)
	{
		$call->{errors}{22021} = 1;
		return one_of(@NO_TEXTS);
	}
	return $MEGABYTE if $choice < 0.022;
	return join '', map { chr(1 + int rand 127) } 1 .. 1 + int rand 20 if $choice < 0.1;
	return one_of(@TEXTS);
}

sub key
{
	my ($self, $call, $arg, $sensible) = @_;

	return $sensible || rand() < 0.3 ? $call->{key} : any_text($self, $call);
}

sub token
{
	my ($self, $call, $arg, $sensible) = @_;

	# Wrong, but well-formed
	return 'tok~wrong' if rand() < 0.05;
	return $sensible || rand() < 0.3 ? $call->{token} : any_text($self, $call);
}

sub scope
{
	my ($self, $call, $arg, $sensible) = @_;

	return $call->{scope} if $sensible;
	return one_of('lease', 'LEASE', 'session ', 'transaction', 'Transaction', 'se') if rand() < 0.5;
	return any_text($self, $call);
}

# The judge is told by the owner what was taken by force, and that a token was not
# generated.
sub owner
{
	my ($self, $call, $arg, $sensible) = @_;

	$call->{owner_given} = 1;
	return $call->{function}{name} eq 'force_acquire' ? 'forced' : 'own token'
	  if $call->{function}{name} =~ /^force|_with_token/;
	return $sensible ? one_of(undef, '', 'me', "batch \xc3\xa4 \"7\"") : any_text($self, $call);
}

sub data
{
	my ($self, $call, $arg, $sensible) = @_;

	return $sensible ? one_of(undef, '', 'some data', '{"a": 1}', 'x' x 300) : any_text($self, $call);
}

my @INTERVALS = (
	undef,
	'0',
	'-0',
	'-1 s',
	'-1 us',
	'1 us',
	'999 us',
	'1000 us',
	'1001 us',
	'0.0004 s',
	'1 ms',
	'24 h',
	'24:00:00.000001',
	'1 day',
	'1 day -24 h',
	'-1 day 25 h',
	'1 mon',
	'1 mon -30 days',
	'-1 mon 30 days',
	'-1 mon 60 days',
	'12 years',
	'1 year -12 mons 1 s',
	'178000000 years',
	'-178000000 years',
	'106751991 days',
	'-106751991 days',
	'2147483647 days',
	'-2147483648 days',
	'2147483647 days 2562047788:00:54.775807',
	'2562047788:00:54.775807',
	'-2562047788:00:54.775808',
	'106751991 days 04:00:54.775807',
	'106751991 days 04:00:54.775808',
	'292277 years',
	'9000000000 s',
	'2540400 h',
	'100000000:00:00',
	'P1D',
	'PT1S',
	'@ 1 sec ago',
	"1 s\n");
my @NO_INTERVALS = (
	'', 'x', '1 s 1 s x',
	'1000000000 years',
	'9999999999999999999 s',
	'infinity', '-infinity', 'now', '1:2:3:4', "1\xc2\xa0s", '-2147483648 mons -1 mon',
	"'", '1e400 s', 'NaN');

sub interval
{
	my ($self, $call, $arg, $sensible) = @_;

	if ($sensible)
	{
		return rand() < 0.95 ? '0' : one_of('1 ms', '2 ms', '4 ms') if $arg->{name} eq 'wait';
		return one_of('1 ms', '5 ms', '20 ms', '100 ms') if rand() < 0.8;
		return one_of('1 s', '5 s', '1 min');
	}
	@{ $call->{errors} }{qw(22007 22008 22015)} = (1, 1, 1);
	return \one_of(
		'make_interval(years => 300000000)',
		'make_interval(secs => 1e-7)',
		"'1 s'::interval * 1e9",
		"interval '1 s' - interval '1 s'",
		"interval '1 mon' - interval '30 days'",
		'NULL::interval') if rand() < 0.1;
	return rand() < 0.15 ? one_of(@NO_INTERVALS) : one_of(@INTERVALS);
}

sub integer
{
	my ($self, $call, $arg, $sensible) = @_;

	return 1 + int rand 4 if $sensible;
	@{ $call->{errors} }{qw(22003 22P02)} = (1, 1);
	return one_of(
		undef, 0, -1, 1,
		2, 60, 61, 62,
		63, 64, 65, 1000,
		2147483647, -2147483648, 2147483648, -2147483649,
		'9223372036854775807', '-9223372036854775808', '9223372036854775808', 'x',
		'', ' 7 ', '1e3', '0x10');
}

sub boolean
{
	my ($self, $call, $arg, $sensible) = @_;

	return one_of('true', 'false') if $sensible;
	$call->{errors}{'22P02'} = 1;
	return one_of('t', 'f', undef, 'x', '');
}

sub timestamp
{
	my ($self, $call, $arg, $sensible) = @_;

	return 'now' if $sensible;
	@{ $call->{errors} }{qw(22007 22008)} = (1, 1);
	return one_of(
		undef, 'now', 'infinity', '-infinity',
		'294276-12-31 23:59:59.999999+00',
		'4713-01-01 BC',
		'294277-01-01', '1970-01-01', '2000-01-01', 'x', '', '2024-02-30', '4714-11-24 00:00:00+00 BC');
}

sub retry
{
	my ($self, $call, $arg, $sensible) = @_;

	return one_of(
		(undef) x 6,
		'("1 ms","2 ms",1)',
		\"distlock.limit_retry(distlock.linear_backoff('1 ms'), 2)"
	) if $sensible && $call->{function}{name} =~ /acquire/;
	return one_of('("1 ms","2 ms",3)', \"distlock.exponential_backoff('1 ms', '1 s')") if $sensible;

	@{ $call->{errors} }{qw(22P02 22007 22008 22015 22003 42601 42846)} = (1) x 7;
	return one_of(
		undef,
		'(,,)',
		'("1 ms",,)',
		'(,"1 ms",)',
		'("1 ms","2 ms",)',
		'("1 ms","2 ms",0)',
		'("1 ms","2 ms",-1)',
		'("2 ms","1 ms",1)',
		'("1 ms","1 ms",2147483647)',
		'("1 ms","2 ms",-2147483648)',
		'(0,0,1)',
		'("-1 s","1 s",1)',
		'("1 us","1 us",100000)',
		'("178000000 years","178000000 years",1)',
		'("1 mon -30 days","1 mon",1)',
		'("24 h","24 h",5)',
		'("24 h","24:00:00.000001",5)',
		'(1)',
		'(1,2,3,4)',
		'',
		'()',
		'x',
		'("1 ms","2 ms",x)',
		'("2562047788:00:54.775807","2562047788:00:54.775807",1)',
		\'ROW(NULL, NULL, NULL)::distlock.retry',
		\"ROW('1 ms', '3 ms', NULL)::distlock.retry",
		\"ROW('-1 ms', NULL, 5)::distlock.retry",
		\"ROW('1 ms', '1 ms', 3, 4)::distlock.retry",
		\'ROW()::distlock.retry',
		\"distlock.linear_backoff('0')",
		\"distlock.linear_backoff(NULL)",
		\"distlock.limit_retry(NULL, NULL)",
		\"distlock.limit_retry(distlock.linear_backoff('1 ms'), -1)",
		\"(SELECT r FROM (SELECT distlock.linear_backoff('1 ms') AS r OFFSET 0) s WHERE false)",
		\"distlock.exponential_backoff('2 s', '1 s')");
}

# A command and what it may be answered with besides.  All but the ones with "one" in
# their name leave locks and settings as they were.
my @COMMANDS = (
	['SELECT 1'],
	['SELECT 1'],
	['SELECT 1; SELECT 2;'],
	['SELECT distlock.current_fence()'],
	['VALUES (1), (2), (3)'],
	['SELECT generate_series(1, 100)'],
	['INSERT INTO torture.plain VALUES (1)'],
	['DELETE FROM torture.plain'],
	[ 'UPDATE torture.plain SET a = a + 1', '22003' ],
	[ ';', ],
	[';;;'],
	[' '],
	['--'],
	['/* nothing */'],
	[ '/*', '42601' ],
	[ 'SELECT', ],
	[ 'SELEC 1', '42601' ],
	[ "'", '42601' ],
	[ 'SELECT 1; SELEC 2', '42601' ],
	[ 'SELECT $1', '42P02' ],
	[ 'SELECT 1/0', '22012' ],
	[ 'SELECT 1; SELECT 1/0', '22012' ],
	[ 'SELECT no_such_function()', '42883' ],
	[ 'TABLE no_such_table', '42P01' ],
	['SELECT 1 AS a, 2 AS a'],
	(   map { [ $_, '2D000', '0A000' ] } 'BEGIN',
		'COMMIT',
		'ROLLBACK',
		'END',
		'ABORT',
		'START TRANSACTION',
		'SAVEPOINT s',
		'ROLLBACK TO s',
		'RELEASE s',
		"PREPARE TRANSACTION 'x'",
		"COMMIT PREPARED 'x'",
		"ROLLBACK PREPARED 'x'",
		'COMMIT AND CHAIN',
		'BEGIN; SELECT 1; COMMIT',
		'SELECT 1; COMMIT; SELECT 2',
		'ROLLBACK; ROLLBACK'),
	(   map { [ $_, '0A000', '25001', '2D000', '42501' ] } 'COPY torture.plain FROM STDIN',
		'COPY torture.plain TO STDOUT',
		'COPY (SELECT 1) TO STDOUT',
		'VACUUM',
		'VACUUM torture.plain',
		'CREATE DATABASE torture_no',
		'DROP DATABASE torture_no',
		'CREATE INDEX CONCURRENTLY ON torture.plain (a)',
		"ALTER SYSTEM SET work_mem = '1MB'",
		'REINDEX DATABASE postgres',
		'CLUSTER'),
	[ "DO 'BEGIN RAISE EXCEPTION ''mine''; END'", 'P0001' ],
	[ "DO 'BEGIN RAISE USING ERRCODE = ''LK001''; END'", 'LK001' ],
	[ "DO 'BEGIN RAISE USING ERRCODE = ''55P03''; END'", '55P03' ],
	[ "DO 'BEGIN ASSERT false; END'", 'P0004' ],
	[ "DO 'BEGIN COMMIT; END'", '2D000' ],
	[ "DO 'BEGIN ROLLBACK; END'", '2D000' ],
	[   "DO 'BEGIN INSERT INTO torture.plain VALUES (2); COMMIT; INSERT INTO torture.plain VALUES (3); ROLLBACK; END'",
		'2D000' ],
	[ "DO 'BEGIN COMMIT; PERFORM 1/0; END'", '2D000', '22012' ],
	["DO 'BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN others THEN NULL; END; END'"],
	[   "SELECT distlock.do_exclusively('lease in 1', '1 s', 'SELECT distlock.current_fence()')",
		'55P03' ],
	[   "SELECT distlock.do_exclusively('lease in 2', '1 s', 'SELECT distlock.do_exclusively(''lease in 3'', ''1 s'', ''SELECT 1/0'')')",
		'22012',
		'55P03' ],
	["SELECT distlock.try_do_exclusively('lease in 4', '1 s', 'SELECT 1')"],
	[ "CALL distlock.run_exclusively('any in 1', '1 s', 'SELECT 1')", '2D000', '55P03', 'LK001' ],
	[   "DO 'BEGIN CALL distlock.run_exclusively(''any in 2'', ''1 s'', ''SELECT 1''); END'", '2D000',
		'55P03', 'LK001' ],
	[ 'CALL distlock.purge()', '2D000', '42501' ],
	[ "SELECT distlock.acquire('lease in 5', '5 ms')", '55P03', '40001' ],
	[ 'SELECT pg_advisory_unlock_all()', 'LK001' ],
	[ 'DISCARD ALL', '25001', '0A000', 'LK001' ],
	[ 'DISCARD TEMP', ],
	['DISCARD PLANS'],
	["SET LOCAL search_path = nowhere"],
	["SET LOCAL work_mem = '1MB'"],
	['SHOW work_mem'],
	[ 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', '25001' ],
	[ 'SET TRANSACTION READ ONLY', ],
	['SET CONSTRAINTS ALL DEFERRED'],
	[ "SET no_such_setting = 1", '42704' ],
	['LISTEN torture'],
	["NOTIFY torture, 'x'"],
	['UNLISTEN *'],
	[ 'EXECUTE no_such_statement', '26000' ],
	[ 'FETCH ALL FROM no_such_cursor', '34000' ],
	[ 'CLOSE ALL', '24000' ],
	['DEALLOCATE ALL'],
	[ 'MOVE no_such_cursor', '34000' ],
	[   'CREATE TEMP TABLE torture_temp (a int) ON COMMIT DROP; DROP TABLE torture_temp',
		'42P07', '42501' ],
	[ 'CREATE TABLE torture.no (a int); DROP TABLE torture.no', '42501', '42P07', '23505' ],
	[ 'SELECT * FROM torture.plain FOR UPDATE', ],
	[ 'INSERT INTO torture.guarded VALUES (1)', 'LK001' ],
	[ 'LOCK TABLE torture.plain IN ACCESS EXCLUSIVE MODE NOWAIT', '55P03' ],
	[ 'SELECT pg_terminate_backend(0)', '42501' ],
	['SELECT set_config(\'statement_timeout\', \'5ms\', true)'],
	['EXPLAIN ANALYZE SELECT distlock.current_fence()'],
	['EXPLAIN SELECT 1'],
	['SELECT * FROM distlock.locks'],
	[ 'DECLARE c CURSOR FOR SELECT 1; FETCH c; CLOSE c', '42P03' ],
	[ 'SELECT query_to_xml(\'SELECT 1\', true, false, \'\')', '0A000' ],
	[ 'SELECT ' . '(' x 3000 . '1' . ')' x 3000, '54001' ],
	[ 'SELECT 1;' x 100 ],
	[ '-- ' . $MEGABYTE ],
	[ "SELECT length('" . 'x' x 100_000 . "')" ]);

sub command
{
	my ($self, $call, $arg, $sensible) = @_;

	if (!$sensible && rand() < 0.15)
	{
		# Any text is a syntax error, or else nothing.  Without an encoding PostgreSQL quotes
		# half characters in it.
		@{ $call->{errors} }{qw(42601 42P02 42703 22021)} = (1) x 4;
		return any_text($self, $call);
	}
	# The large ones are rare.
	my $command = one_of(rand() < 0.01 ? @COMMANDS : @COMMANDS[ 0 .. $#COMMANDS - 4 ]);

	$call->{errors}{$_} = 1 foreach @$command[ 1 .. $#$command ];
	# What a command of ours may be answered with, under a lock of its own
	@{ $call->{errors} }{qw(40001)} = (1);
	return $command->[0];
}

1;
