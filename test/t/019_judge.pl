# The judge of the stress test sees what it is there to see: histories with
# exactly one thing wrong, and one with nothing wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockJudge;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->start;

# A table like distlock.lock, but for everybody to write to; times are in
# seconds from some moment.
$node->safe_psql('postgres', q{
	CREATE EXTENSION distlock;
	CREATE SCHEMA judged;
	CREATE TABLE judged.lock (LIKE distlock.lock, PRIMARY KEY (key, permit));
	CREATE FUNCTION moment(s numeric) RETURNS timestamptz
	LANGUAGE sql IMMUTABLE AS
	$$ SELECT '2020-01-01 00:00+00'::timestamptz + s * interval '1 s' $$;
	CREATE PROCEDURE grant_lock(f bigint, t text, acquired numeric,
		seconds numeric, o text DEFAULT NULL)
	LANGUAGE sql AS $$
		INSERT INTO judged.lock (key, permit, scope, pid, role, fence, token,
			acquired_at, expires_at, ttl, owner)
		VALUES ('it''s a [key]:1', 0, 'l', 1, 1, f, t, moment(acquired),
			moment(acquired + seconds), seconds * 1000000, o)
		ON CONFLICT (key, permit) DO UPDATE SET fence = excluded.fence,
			token = excluded.token, scope = excluded.scope,
			acquired_at = excluded.acquired_at,
			expires_at = excluded.expires_at, ttl = excluded.ttl,
			owner = excluded.owner
	$$;
	CREATE PROCEDURE extend_lock(at numeric, seconds numeric)
	LANGUAGE sql AS $$
		UPDATE judged.lock SET ttl = seconds * 1000000,
			expires_at = moment(at + seconds)
	$$;
	CREATE TABLE judged.ledger (key text, line bigint, fence bigint, owner text);
	CREATE PROCEDURE touch_lock(f bigint)
	LANGUAGE sql AS $$
		UPDATE judged.lock SET token = NULL, owner = NULL, scope = 't', fence = f
	$$;
	CREATE PROCEDURE free_lock(at numeric, f bigint DEFAULT NULL)
	LANGUAGE sql AS $$
		UPDATE judged.lock SET token = NULL, owner = NULL,
			expires_at = moment(at), fence = coalesce(f, fence)
	$$;});

my @histories = (
	{
		name => 'nothing wrong',
		sql => q{CALL grant_lock(1, 'a', 0, 10);
			CALL extend_lock(9, 10);
			CALL free_lock(12);
			CALL grant_lock(3, 'a', 12, 1, 'own token');
			CALL grant_lock(5, 'b', 13, 1);
			CALL free_lock(14);
			DELETE FROM judged.lock;
			CALL grant_lock(6, 'c', 20, 10);
			CALL free_lock(22, 7);
			CALL grant_lock(8, 'd', 22, 10);
			CALL grant_lock(9, 'e', 25, 10, 'forced');},
		counts => {
			grants => 6, takeovers => 1, extends => 1, releases => 1,
			lapses => 1, forced_releases => 1, deletes => 1
		}
	},
	{
		name => 'nothing wrong in one transaction',
		sql => q{BEGIN; CALL grant_lock(1, 'a', 0, 10); CALL free_lock(1);
			CALL grant_lock(2, 'b', 1, 1); SAVEPOINT s; CALL free_lock(2);
			ROLLBACK TO s; CALL extend_lock(1.5, 7); COMMIT;},
		counts => { grants => 2, releases => 1, extends => 1 }
	},
	{
		name => 'granted while held',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL grant_lock(2, 'b', 9.999999, 1);},
		violations => { overlaps => 1 }
	},
	{
		name => 'granted while held, after an extend',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL extend_lock(9, 10);
			CALL grant_lock(2, 'b', 10, 1);},
		violations => { overlaps => 1 }
	},
	{
		name => 'granted before it was released',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL free_lock(5);
			CALL grant_lock(2, 'b', 4, 1);},
		violations => { overlaps => 1 }
	},
	{
		name => 'fence of the past',
		sql => q{CALL grant_lock(2, 'a', 0, 1); CALL grant_lock(1, 'b', 1, 1);},
		violations => { fence_regressions => 1 }
	},
	{
		name => 'the same fence again',
		sql => q{CALL grant_lock(2, 'a', 0, 1); CALL grant_lock(2, 'b', 1, 1);},
		violations => { fence_regressions => 1 }
	},
	{
		name => 'fence forgotten with the row',
		sql => q{CALL grant_lock(2, 'a', 0, 1); CALL free_lock(1);
			DELETE FROM judged.lock; CALL grant_lock(1, 'b', 1, 1);},
		violations => { fence_regressions => 1 }
	},
	{
		name => 'fence not above that of a forced release',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL free_lock(1, 5);
			CALL grant_lock(4, 'b', 1, 1);},
		violations => { fence_regressions => 1 }
	},
	{
		name => 'token given out twice',
		sql => q{CALL grant_lock(1, 'a', 0, 1); CALL grant_lock(2, 'a', 1, 1);},
		violations => { reused_tokens => 1 }
	},
	{
		name => 'extended too late',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL extend_lock(10, 10);},
		violations => { late_extends => 1 }
	},
	{
		name => 'taken over by a mere change of the token',
		sql => q{CALL grant_lock(1, 'a', 0, 10); UPDATE judged.lock SET token = 'b';},
		violations => { overlaps => 1, fence_regressions => 1 }
	},
	{
		name => 'brought back after its release',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL free_lock(5);
			UPDATE judged.lock SET token = 'a', expires_at = moment(10);},
		violations =>
		  { overlaps => 1, fence_regressions => 1, reused_tokens => 1 }
	},
	{
		name => 'released too late',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL free_lock(11);},
		violations => { late_releases => 1 }
	},
	{
		name => 'released twice',
		sql => q{CALL grant_lock(1, 'a', 0, 10); CALL free_lock(1); CALL free_lock(1);},
		violations => { late_releases => 1 }
	},
	{
		name => 'deleted while held',
		sql => q{CALL grant_lock(1, 'a', 0, 10); DELETE FROM judged.lock;},
		violations => { wrong_deletes => 1 }
	},
	{
		name => 'expiry that is not the end of the ttl',
		sql => q{CALL grant_lock(1, 'a', 0, 10);
			UPDATE judged.lock SET fence = 2, token = 'b', acquired_at = moment(10),
				expires_at = moment(11);},
		violations => { misstatements => 1 }
	},
	{
		name => 'nothing wrong in other scopes, and in the ledger',
		sql => q{CALL grant_lock(1, 'a', 0, 10);
			CALL touch_lock(1);
			CALL grant_lock(2, 'b', 10, 10);
			UPDATE judged.lock SET scope = 's', expires_at = 'infinity', fence = 3, token = 'c',
				acquired_at = moment(20);
			CALL grant_lock(4, 'd', 21, 10);
			CALL touch_lock(5);
			INSERT INTO judged.ledger VALUES ('a', 1, 1, 'x'), ('a', 2, 1, 'x'), ('b', 1, 1, 'x');
			INSERT INTO judged.ledger VALUES ('a', 3, 2, 'x');},
		counts => { grants => 4, touches => 2, ended_sessions => 1, works => 4 }
	},
	{
		name => 'an ended lease that was still in force',
		sql => q{CALL grant_lock(1, 'a', extract(epoch FROM now() - moment(0)), 3600);
			UPDATE judged.lock SET token = NULL;},
		violations => { early_lapses => 1 }
	},
	{
		name => 'held by a transaction while a lease was in force',
		sql => q{CALL grant_lock(1, 'a', extract(epoch FROM now() - moment(0)), 3600);
			CALL touch_lock(2);},
		violations => { early_lapses => 1 }
	},
	{
		name => 'a fence of the past for a transaction',
		sql => q{CALL grant_lock(2, 'a', 0, 1); CALL touch_lock(1);},
		violations => { fence_regressions => 1 }
	},
	{
		name => 'a line twice',
		sql => q{INSERT INTO judged.ledger VALUES ('a', 1, 1, 'x');
			INSERT INTO judged.ledger VALUES ('a', 1, 2, 'x');},
		violations => { stale_works => 1 }
	},
	{
		name => 'work after the next holder',
		sql => q{INSERT INTO judged.ledger VALUES ('a', 1, 2, 'x');
			INSERT INTO judged.ledger VALUES ('a', 2, 1, 'x');},
		violations => { late_works => 1 }
	},
	{
		name => 'two rows of a key',
		sql => q{CALL grant_lock(1, 'a', 0, 10);
			INSERT INTO judged.lock (key, permit, scope, pid, role, fence, token,
				acquired_at, expires_at, ttl)
			SELECT key, 1, scope, pid, role, 2, 'b', moment(10), moment(20), ttl
			FROM judged.lock;},
		violations => { misstatements => 1 }
	});

for my $n (0 .. $#histories)
{
	my $history = $histories[$n];
	my $judge = DistlockJudge->new(
		table => 'judged.lock',
		ledger => 'judged.ledger',
		forced => 'forced',
		own_token => 'own token');

	$node->safe_psql('postgres', 'TRUNCATE judged.lock');
	$judge->start($node, "history_$n");
	$node->safe_psql('postgres', $history->{sql});
	$judge->read_changes;

	my $expected = $history->{violations} // {};
	is_deeply({ map { $_ => $judge->count($_) } $judge->violations },
		$expected, $history->{name})
	  or diag $judge->evidence;
	for my $what (sort keys %{ $history->{counts} // {} })
	{
		is($judge->count($what), $history->{counts}{$what},
			"$history->{name}: $what");
	}
	$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('history_$n')");
}

$node->stop;
done_testing();
