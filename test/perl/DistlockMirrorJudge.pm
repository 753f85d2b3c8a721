
=pod

=head1 NAME

DistlockMirrorJudge - find out whether Redis shows the locks as they are

=head1 SYNOPSIS

  my $judge = DistlockMirrorJudge->new($redis);
  $judge->attach;              # and again whenever Redis has been restarted
  ...
  $judge->read;                # as often as one likes
  is_deeply([ $judge->regressions ], [], 'no fence went back');
  is_deeply([ differences($session, $redis) ], [], 'Redis shows what is held');

=head1 DESCRIPTION

The judge knows nothing of how the mirror works; it knows the view distlock.locks
and the format of keys and values.

It reads by MONITOR what Redis was told, what scripts do included.  Per Redis key
the fences in the values that are set must never go back, whatever happens to
PostgreSQL, to the worker or to Redis in between.

=cut

package DistlockMirrorJudge;

use strict;
use warnings;

use DistlockListener;
use DistlockRedis;
use DistlockTest;
use Digest::SHA qw(sha1_hex);
use Encode qw(encode_utf8);
use Exporter 'import';
use JSON::PP;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(differences await_no_differences shows_what_is_held fence_of
  database_in_key held_locks);

# Descriptions of so many regressions are kept.
my $DESCRIBED = 20;

# A key may live longer than the lock by as long as a command may be under way,
# in microseconds; that is the default of distlock.redis_timeout.
my $LATEST = 1_100_000;

# A lock of a session gets at least so much, in milliseconds.
my $SESSION_TTL = 10_000;

# ---------------------------------------------------------------------------
# What Redis was told
# ---------------------------------------------------------------------------

sub new
{
	my ($class, $redis) = @_;

	return bless {
		redis => $redis,
		monitor => undef,
		sets => 0,            # that had a fence
		dels => 0,
		highest => {},        # by database and key: the highest fence ever set
		seen => {},           # by fence: the Redis key it was set under, the last one
		history => {},        # by Redis key: fences that were set, 0 for a DEL
		said => '',           # all arguments, if they are kept
		keep => 0,
		regressions => [] }, $class;
}

# Keep all that is told, so that it can be searched by has_said().
sub keep_all
{
	my ($self) = @_;

	$self->{keep} = 1;
	return;
}

# From now on MONITOR is read, on a new connection.
sub attach
{
	my ($self) = @_;

	$self->{monitor} = $self->{redis}->monitor;
	return;
}

# Until then, read no more.
sub detach
{
	my ($self) = @_;

	$self->read;
	$self->{monitor}->close;
	$self->{monitor} = undef;
	return;
}

# All that Redis has done before this call.
sub read
{
	my ($self) = @_;

	$self->command($_) foreach $self->{monitor}->commands;
	return;
}

# What is left when Redis has died or ended the connection.
sub read_rest
{
	my ($self) = @_;

	return unless $self->{monitor};
	while (defined(my $line = eval { $self->{monitor}{client}->reply }))
	{
		$self->command(DistlockRedis::Monitor::parse($line));
	}
	die $@ unless $@ =~ /closed the connection/;
	$self->{monitor} = undef;
	return;
}

sub command
{
	my ($self, $command) = @_;
	my ($verb, $key, $value) = @{ $command->{args} };

	$self->{said} .= join("\0", @{ $command->{args} }) . "\n" if $self->{keep};
	if (lc $verb eq 'set')
	{
		my $fence = fence_of($value);
		my $name = "$command->{db} $key";

		return unless defined $fence;
		$self->{sets}++;
		$self->{seen}{$fence} = $key;
		push @{ $self->{history}{$key} }, $fence;
		if ($fence < ($self->{highest}{$name} // 0))
		{
			push @{ $self->{regressions} }, "$key: $fence after $self->{highest}{$name}"
			  if @{ $self->{regressions} } < $DESCRIBED;
		}
		else
		{
			$self->{highest}{$name} = $fence;
		}
	}
	elsif (lc $verb eq 'del' || lc $verb eq 'unlink')
	{
		my (undef, @keys) = @{ $command->{args} };

		$self->{dels} += @keys;
		push @{ $self->{history}{$_} }, 0 foreach @keys;
	}
	return;
}

# How many values with a fence were set, and how many keys were deleted.
sub sets { return $_[0]->{sets}; }
sub dels { return $_[0]->{dels}; }

# Where a fence went back.
sub regressions { return @{ $_[0]->{regressions} }; }

# The key under which a fence was set, undef if it was not.
sub saw { return $_[0]->{seen}{ $_[1] }; }

# Was this text in anything that Redis was told, of what is kept?
sub has_said { return index($_[0]->{said}, $_[1]) >= 0; }

# What happened to a Redis key: the fences that were set, 0 for each DEL.
sub history { return @{ $_[0]->{history}{ $_[1] } // [] }; }

# The fence in a value in JSON, undef if it is something else.
sub fence_of
{
	my ($value) = @_;

	return defined $value && $value =~ /^\{"fence":(\d+),/ ? 0 + $1 : undef;
}

# ---------------------------------------------------------------------------
# What is in Redis, and what should be
# ---------------------------------------------------------------------------

# The name of a database as {database} stands for it.
sub database_in_key
{
	my ($name) = @_;

	$name =~ s/([%:])/sprintf '%%%02X', ord $1/ge;
	return $name;
}

# The locks that are held in a session's database: by key, each with fence (a
# number), scope, owner, ttl (in milliseconds), expires_at (in microseconds, undef
# while a session holds it).  What is held by a transaction only is not among them.
sub held_locks
{
	my ($session) = @_;
	my $lines = $session->query(<<'EOQ');
SELECT json_build_object('key', l.key, 'fence', l.fence, 'scope', l.scope, 'owner', l.owner,
	'ttl', (SELECT ttl / 1000 FROM distlock.lock r WHERE r.key = l.key AND r.token IS NOT NULL),
	'expires_at', CASE WHEN isfinite(l.expires_at)
		THEN (extract(epoch FROM l.expires_at) * 1000000)::bigint END)
FROM distlock.locks l WHERE l.scope <> 'transaction'
EOQ
	my $json = JSON::PP->new->utf8;

	return { map { my $lock = $json->decode($_); ($lock->{key} => $lock) } split /\n/, $lines };
}

# Everything that is not as it should be in Redis, each in a line.  A change that
# is under way is a difference too.  Options:
#	db			number of the database in Redis
#	database	the one in PostgreSQL
sub differences
{
	my ($session, $redis, %options) = @_;
	my $database = database_in_key($options{database} // 'postgres');
	my $prefix = encode_utf8("distlock:$database:");
	my $client = $redis->client(db => $options{db} // 0);
	my $locks = held_locks($session);
	my %redis_keys = map { ($prefix . encode_utf8($_) => $locks->{$_}) } keys %$locks;
	my %book = @{ $client->command('HGETALL', "distlock-mirror:$database:distlock:$database:{key}") };
	my @differences;

	push @differences, "not held: $_" foreach
	  grep { index($_, $prefix) == 0 && !exists $redis_keys{$_} } $client->keys;

	foreach my $key (sort keys %redis_keys)
	{
		my $before = 1_000_000 * time();
		my $ttl = $client->command('PTTL', $key);
		my $after = 1_000_000 * time();
		my $lock = $redis_keys{$key};
		my $reply = $client->reply_to('GET', $key);

		if (!defined $reply || ref $reply)
		{
			# The lease may have expired since the locks were read.
			push @differences, "missing: $key"
			  unless defined $lock->{expires_at} && $lock->{expires_at} <= $after;
			next;
		}
		push @differences, map { "$key: $_" } wrong_value($reply, $lock),
		  wrong_ttl($lock, $ttl, $before, $after),
		  wrong_entry($book{$key}, $lock, $reply);
	}
	$client->close;
	return @differences;
}

# What is wrong with a value: a list.
sub wrong_value
{
	my ($value, $lock) = @_;
	my $told = eval { JSON::PP->new->utf8->decode($value) };
	my @wrong;

	return "no JSON: $value" unless ref $told eq 'HASH';
	my $names = join ' ', sort keys %$told;
	my $expires_at = eval {
		defined $told->{expires_at} ? DistlockListener::microseconds($told->{expires_at}) : undef };

	push @wrong, "bad expires_at in $value" if $@;
	push @wrong, "has $names" if $names ne 'expires_at fence owner';
	push @wrong, "fence $told->{fence} instead of $lock->{fence}" if $told->{fence} != $lock->{fence};
	push @wrong, 'owner ' . shown($told->{owner}) . ' instead of ' . shown($lock->{owner})
	  if shown($told->{owner}) ne shown($lock->{owner});
	push @wrong, 'expires_at ' . shown($expires_at) . ' instead of ' . shown($lock->{expires_at})
	  if shown($expires_at) ne shown($lock->{expires_at});
	return @wrong;
}

sub shown { return defined $_[0] ? encode_utf8("\"$_[0]\"") : 'null'; }

# What is wrong with the time that a key has left, in milliseconds, which was
# asked for between two moments, in microseconds.
sub wrong_ttl
{
	my ($lock, $ttl, $before, $after) = @_;

	return $ttl == -1 ? 'never expires' : () if $ttl < 0;
	if (!defined $lock->{expires_at})
	{
		my $most = max($lock->{ttl} // 0, $SESSION_TTL) + $LATEST / 1000;

		return $ttl > $most ? "a session's, but has $ttl ms left" : ();
	}
	# Redis counts in whole milliseconds.
	return "expires early, in $ttl ms"
	  if $after + 1000 * ($ttl + 1) < $lock->{expires_at};
	return "expires late, in $ttl ms"
	  if $before + 1000 * ($ttl - 1) > $lock->{expires_at} + $LATEST;
	return;
}

# What is wrong with a key's entry in the book.
sub wrong_entry
{
	my ($entry, $lock, $value) = @_;

	return 'is not in the book' unless defined $entry;
	return "has the entry $entry" unless $entry =~ /^(\d{19}) .*\b([0-9a-f]{40})$/s;
	return "has the entry $entry" if $1 != $lock->{fence} || $2 ne sha1_hex($value);
	return;
}

# Wait until there are no differences.
sub await_no_differences
{
	my ($session, $redis, %options) = @_;
	my @differences;

	eval {
		await('Redis to show what is held', sub {
			@differences = differences($session, $redis, %options);
			return !@differences;
		});
		1;
	} or die join "\n", $@, @differences;
	return 1;
}

# Redis shows what is held, as we find, and so does the extension.  In this order:
# when mirror_check() finds something, the worker puts it right.
sub shows_what_is_held
{
	my ($session, $redis, $what, %options) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(await_no_differences($session, $redis, %options), "$what: Redis shows what is held");
	is(check_connected($session), '', '... mirror_check() agrees');
	return;
}

1;
