/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The rules of leases: how one is kept, given back, looked at, broken.
 *
 * Acquiring is in acquire.c.
 *
 * The order of work, here and there:
 *
 *	1. Refuse where nothing may be written, before any lock.
 *	2. Look at the row without locks; refuse if the answer is certain.
 *	3. Take the key lock.
 *	4. Find the newest version of the row; what was seen before is forgotten.
 *	5. Read the clock.  Only now, because 3 may have taken any time.
 *	6. Write, or let go of the key lock and refuse.
 *
 * Why no lock is granted twice: every change of a row happens between 3 and
 * the end of the transaction, under a key lock that excludes other changes
 * (see key_lock.h), and is decided by the newest version and a clock read
 * there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "duration.h"
#include "errors.h"
#include "fail_point.h"
#include "fence.h"
#include "hold.h"
#include "holder.h"
#include "key_lock.h"
#include "lease.h"
#include "lease_row.h"
#include "lock_table.h"
#include "purge.h"
#include "quick_commit.h"
#include "session_lock.h"
#include "settings.h"
#include "token.h"
#include "wait.h"
#include "wake.h"

/*
 * How long a forced change waits for a change under way, such as a holder's
 * extend: well above what a commit takes, short enough for somebody who sits
 * at a terminal.
 */
#define FORCE_WAIT USECS_PER_SEC

static bool surely_not_held(LockTable *table, const LockKey *key,
							const text *token);
static bool open_held(LockTable *table, const LockKey *key, const text *token,
					  LOCKMODE mode, LockRow *row, TimestampTz *now);
static bool read_held(const LockKey *key, const text *token, LockRow *row,
					  TimestampTz *now);
static List *keys_with_token(const text *token);
static int	compare_keys(const ListCell *a, const ListCell *b);
static void force_key_lock(const LockKey *key);
static void take_key_lock(void *key);

bool
lease_extend(const LockKey *key, const text *token, int64 ttl,
			 bool only_longer, TimestampTz *expires_at)
{
	LockTable	table;
	LockRow		row;
	TimestampTz now;
	bool		stays;

	error_unless_writable("an extension of a lock");

	/* Find out whether the ttl is possible, held or not. */
	(void) duration_end(GetCurrentTimestamp(), ttl);
	if (hold_find_lock(key, token) != NULL)
	{
		*expires_at = DT_NOEND;
		return true;
	}
	if (!open_held(&table, key, token, ShareUpdateExclusiveLock, &row, &now))
		return false;

	if (ttl == 0)
		ttl = row.ttl;
	stays = row.scope == SCOPE_SESSION ?
		row.ttl >= ttl : row.expires_at >= duration_end(now, ttl);
	FAIL_POINT("extend_after_reread");
	if (only_longer && stays)
	{
		FAIL_POINT("ensure_stays");
		*expires_at = row.expires_at;
		lock_table_close(&table, false);
		key_lock_let_go(key, ShareUpdateExclusiveLock);
		return true;
	}

	*expires_at = lease_row_extend(&table, key, &row, ttl, now);
	FAIL_POINT("extend_after_write");
	lock_table_close(&table, true);
	return true;
}

bool
lease_release(const LockKey *key, const text *token)
{
	Hold	   *hold;
	LockTable	table;
	LockRow		row;
	TimestampTz now;

	error_unless_writable("a release of a lock");
	hold = hold_find_lock(key, token);
	if (hold != NULL)
	{
		hold_release(hold);
		return true;
	}
	quick_commit_before_release();
	if (!open_held(&table, key, token, ExclusiveLock, &row, &now))
		return false;

	FAIL_POINT("release_after_reread");
	lease_row_free(&table, key, &row, now, false);
	FAIL_POINT("release_after_write");
	lock_table_close(&table, true);
	quick_commit_after_release();
	hold_release_guards(key);
	return true;
}

int
lease_extend_all(const text *token, int64 ttl)
{
	List	   *keys;
	ListCell   *cell;
	TimestampTz expires_at;
	int			count = 0;

	error_unless_writable("an extension of locks");
	(void) duration_end(GetCurrentTimestamp(), ttl);
	keys = keys_with_token(token);
	foreach(cell, keys)
	{
		if (lease_extend(lfirst(cell), token, ttl, false, &expires_at))
			count++;
	}
	return count + hold_count(token, false);
}

int
lease_release_all(const text *token)
{
	List	   *keys;
	ListCell   *cell;
	int			count = 0;

	error_unless_writable("a release of locks");
	keys = keys_with_token(token);
	foreach(cell, keys)
	{
		if (lease_release(lfirst(cell), token))
			count++;
		FAIL_POINT("all_next_key");
	}
	return count + hold_count(token, true);
}

bool
lease_read_ttl(const LockKey *key, const text *token, int64 *remaining)
{
	Hold	   *hold = hold_find_lock(key, token);
	LockRow		row;
	TimestampTz now;
	TimestampTz end;

	if (hold != NULL)
	{
		*remaining = hold->ttl;
		return true;
	}
	if (!read_held(key, token, &row, &now))
		return false;
	/* Its session may have ended since. */
	end = holder_end(&row);
	if (end <= now)
		return false;
	*remaining = end == DT_NOEND ? row.ttl : end - now;
	return true;
}

bool
lease_read_fence(const LockKey *key, const text *token, int64 *fence)
{
	Hold	   *hold = hold_find_lock(key, token);
	LockRow		row;
	TimestampTz now;

	if (hold != NULL)
	{
		*fence = hold_fence(hold);
		return true;
	}
	if (!read_held(key, token, &row, &now))
		return false;
	*fence = row.fence;
	return true;
}

/*
 * A lease that is pinned past its end, by a guard or a change in a transaction
 * that has not ended, is held too, and so is a key in the hands of a
 * transaction.
 */
bool
lease_is_held(const LockKey *key)
{
	LockTable	table;
	LockLook	look;
	LockRow		row;
	TimestampTz now;
	bool		held;

	error_if_parallel("a look at a lock");
	if (hold_covers(key) || key_lock_is_hold(key))
		return true;

	lock_table_open(&table, AccessShareLock);
	lock_table_look(&table, key, &look);
	now = GetCurrentTimestamp();
	held = (look.found && holder_is_live(&look.row, now)) ||
		(look.pending && holder_is_live(&look.pending_row, now));
	if (!held && !look.found && lock_table_read(&table, key, &row))
	{
		look.found = true;
		look.row = row;
		held = holder_is_live(&row, now);
	}
	lock_table_close(&table, false);
	return held ||
		(look.found && look.row.token != NULL &&
		 key_lock_blocker(key, ExclusiveLock) != 0);
}

bool
lease_guard(const LockKey *key, const text *token, int64 *fence)
{
	Hold	   *hold = hold_find_lock(key, token);
	LockTable	table;
	LockRow		row;
	TimestampTz now;

	error_if_in_recovery("a guard of a lock");
	error_if_parallel("a guard of a lock");
	if (hold == NULL)
		hold = hold_find_guard(key, token);
	if (hold != NULL)
	{
		*fence = hold_fence(hold);
		return true;
	}
	if (!open_held(&table, key, token, RowShareLock, &row, &now))
		return false;

	FAIL_POINT("guard_after_reread");
	lease_row_check_grant_visible(&table, key, &row);
	hold_add(HOLD_GUARD, key, token, row.ttl, row.fence);
	FAIL_POINT("guard_after_hold");
	lock_table_close(&table, true);
	*fence = row.fence;
	return true;
}

/*
 * A row that this transaction has written, by acquiring or extending, stays
 * its own as well as one that it guards.  A lock of this session could be taken
 * away by force; so it is guarded now.
 */
bool
lease_is_covered(const LockKey *key)
{
	LockTable	table;
	LockRow		row;
	int64		fence;
	bool		covered;

	if (hold_covers(key))
		return true;
	if (key_lock_held(key))
	{
		lock_table_open(&table, AccessShareLock);
		covered = lock_table_find(&table, key, &row) && row.token != NULL &&
			lock_table_found_is_own(&table);
		lock_table_close(&table, false);
		if (covered)
			return true;
	}

	lock_table_open(&table, AccessShareLock);
	covered = lock_table_read(&table, key, &row) && row.token != NULL &&
		row.scope == SCOPE_SESSION && session_lock_is_own(row.fence);
	lock_table_close(&table, false);
	return covered && lease_guard(key, row.token, &fence);
}

bool
lease_force_release(const LockKey *key)
{
	Hold	   *hold;
	LockTable	table;
	LockRow		row;
	TimestampTz now;

	error_unless_writable("a forced release of a lock");
	hold = hold_find_lock(key, NULL);
	if (hold != NULL)
	{
		hold_release(hold);
		return true;
	}
	force_key_lock(key);
	lock_table_open(&table, RowExclusiveLock);
	if (lock_table_find(&table, key, &row))
	{
		now = GetCurrentTimestamp();
		if (holder_is_live(&row, now))
		{
			if (row.scope == SCOPE_SESSION)
				session_lock_drop_at_commit(row.fence);
			hold_release_guards(key);
			changes_add(EVENT_FORCED, &row, now);
			row.fence = fence_next(row.fence);
			FAIL_POINT("force_after_fence");
			lease_row_free(&table, key, &row, now, true);
			lock_table_close(&table, true);
			return true;
		}
	}
	lock_table_close(&table, false);
	key_lock_let_go(key, ExclusiveLock);
	return false;
}

/*
 * The waiters stay where they are: the lock is held, before and after.  Their
 * head is woken because it would otherwise sleep until the old lease's end.
 */
void
lease_force_acquire(const AcquireRequest *request, Grant *grant)
{
	const LockKey *key = &request->key;
	Hold	   *hold;
	LockTable	table;
	LockRow		row;
	TimestampTz now;
	bool		found;

	error_unless_writable("a forced acquisition of a lock");
	hold = hold_find_lock(key, NULL);
	if (hold != NULL)
		hold_release(hold);
	force_key_lock(key);
	FAIL_POINT("force_after_key_lock");
	lock_table_open(&table, RowExclusiveLock);
	found = lock_table_find(&table, key, &row);
	now = GetCurrentTimestamp();

	/* The old holder may be at work now: no snapshot is young enough. */
	if (found && holder_is_live(&row, now) && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot take over lock \"%s\", which is held, in a REPEATABLE READ or SERIALIZABLE transaction",
						error_key(key)),
				 errdetail("Its holder's work may not be visible to this transaction."),
				 errhint("Use a READ COMMITTED transaction, or release it by force in a transaction of its own first.")));
	if (found && row.token != NULL && row.scope == SCOPE_SESSION)
		session_lock_drop_at_commit(row.fence);
	hold_release_guards(key);
	if (found && holder_is_live(&row, now))
		changes_add(EVENT_FORCED, &row, now);
	lease_row_grant(&table, request, found ? &row : NULL, now, grant);
	FAIL_POINT("force_after_write");
	if (!found)
		purge_owe_one();
	lock_table_close(&table, true);
	wake_at_commit(key);
}

/*
 * Is it certain, without the key lock, that the lock is not held with this
 * token?  Only if the newest version says so and nobody is changing it: a
 * wrong or late token then gets in nobody's way.
 */
static bool
surely_not_held(LockTable *table, const LockKey *key, const text *token)
{
	LockLook	look;

	lock_table_look(table, key, &look);
	if (!look.found || look.changing || look.pending)
		return false;
	return !holder_is_live(&look.row, GetCurrentTimestamp()) ||
		!token_equal(look.row.token, token);
}

/*
 * Lock the key, waiting for others to be done with it, and find its row held
 * with this token.  True leaves the table open and the key locked; false
 * leaves nothing.
 *
 * The table is opened once if the key lock can be had at once.  Who waits for
 * it does so with the table closed, so that nobody who needs the table for
 * himself has to wait as well.
 */
static bool
open_held(LockTable *table, const LockKey *key, const text *token,
		  LOCKMODE mode, LockRow *row, TimestampTz *now)
{
	lock_table_open(table, RowExclusiveLock);
	if (surely_not_held(table, key, token))
	{
		lock_table_close(table, false);
		return false;
	}
	FAIL_POINT("verb_looked");
	if (!key_lock_try(key, mode))
	{
		lock_table_close(table, false);
		key_lock_wait(key, mode);
		lock_table_open(table, RowExclusiveLock);
	}
	FAIL_POINT("verb_after_key_lock");
	if (lock_table_find(table, key, row))
	{
		*now = GetCurrentTimestamp();
		if (holder_is_live(row, *now) && token_equal(row->token, token))
			return true;
	}
	lock_table_close(table, false);
	key_lock_let_go(key, mode);
	return false;
}

/*
 * Find the key's row held with this token, without locks.
 */
static bool
read_held(const LockKey *key, const text *token, LockRow *row,
		  TimestampTz *now)
{
	LockTable	table;
	bool		found;

	error_if_parallel("a look at a lock");
	lock_table_open(&table, AccessShareLock);
	found = lock_table_read(&table, key, row);
	lock_table_close(&table, false);

	*now = GetCurrentTimestamp();
	return found && holder_is_live(row, *now) &&
		token_equal(row->token, token);
}

/*
 * The keys (LockKey *) with this token, in the order in which everybody locks
 * several keys at a time, so that two sharing a token do not deadlock.
 */
static List *
keys_with_token(const text *token)
{
	LockTable	table;
	List	   *keys;
	ListCell   *cell;

	lock_table_open(&table, RowExclusiveLock);
	keys = lock_table_keys_with_token(&table, token);
	lock_table_close(&table, false);

	foreach(cell, keys)
	{
		LockKey    *key = palloc(sizeof(LockKey));

		key_from_stored(key, lfirst(cell));
		lfirst(cell) = key;
	}
	list_sort(keys, compare_keys);
	return keys;
}

static int
compare_keys(const ListCell *a, const ListCell *b)
{
	uint64		x = ((LockKey *) lfirst(a))->hash;
	uint64		y = ((LockKey *) lfirst(b))->hash;

	return (x > y) - (x < y);
}

/*
 * Lock the key for a forced change.  It waits a moment for a change under way,
 * but not for a guard or a transaction's lock, and not longer: an administrator
 * wants to know who stands in the way.
 */
static void
force_key_lock(const LockKey *key)
{
	WaitBudget	budget;
	int			pid;

	FAIL_POINT("force_begin");
	if (key_lock_try(key, ExclusiveLock))
		return;
	if (!key_lock_is_hold(key) && !key_lock_is_guarded_only(key))
	{
		wait_begin(&budget, FORCE_WAIT);
		if (wait_for_lock(&budget, take_key_lock, unconstify(LockKey *, key)))
			return;
	}

	pid = key_lock_blocker(key, ExclusiveLock);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("lock \"%s\" is pinned by a transaction that has not ended",
					error_key(key)),
			 pid > 0 ?
			 errdetail("It is a transaction of process %d.", pid) :
			 errdetail("It is a prepared transaction, or has just ended."),
			 pid > 0 ?
			 errhint("Wait for it, or end it with pg_terminate_backend(%d).", pid) :
			 errhint("See pg_prepared_xacts, or try again.")));
}

static void
take_key_lock(void *key)
{
	key_lock_wait(key, ExclusiveLock);
}
