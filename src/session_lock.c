/*-------------------------------------------------------------------------
 *
 * session_lock.c
 *	  Locks of scope "session": whether their holders live.
 *
 * The lock manager drops the session lock when the session ends, in whatever
 * way, and wakes who waits for it: no heart-beats, no worker, no polling.  The
 * same goes for DISCARD ALL and pg_advisory_unlock_all().  The tag is made of
 * the fence, so that a lock that was forced out of its holder's hands goes on
 * under another tag, and processes that share a token can share it.
 *
 * There are two tags for a fence.  Who waits for holders to end keeps newcomers
 * out of the tag it waits on, as the lock manager is fair; a process that joins
 * with the holder's token, and must not wait, then takes the other.  A key has
 * one waiter at a time, the head of its queue.
 *
 * Session locks are not undone by a rollback, so those taken in a transaction
 * are kept in a list until it commits.  Dropping one cannot fail: at worst it
 * is not there any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "fail_point.h"
#include "key.h"
#include "schedule.h"
#include "session_lock.h"

#define NUM_TAGS 2

typedef struct Change
{
	int64		fence;
	bool		taken;			/* false: to be dropped */
	int			level;			/* nesting level of the subtransaction */
} Change;

/* Of this transaction, in TopTransactionContext. */
static List *changes = NIL;

static void note(int64 fence, bool taken);
static void make_tag(LOCKTAG *tag, int64 fence, int number);

void
session_lock_take(int64 fence)
{
	LOCKTAG		tag;

	if (session_lock_is_own(fence))
		return;
	schedule_watch_session();
	note(fence, true);
	FAIL_POINT("session_lock_noted");
	for (int i = 0; i < NUM_TAGS; i++)
	{
		make_tag(&tag, fence, i);
		if (LockAcquire(&tag, ShareLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
			return;
	}

	/* Somebody who only looks was in the way for a moment. */
	make_tag(&tag, fence, 0);
	(void) LockAcquire(&tag, ShareLock, true, false);
}

void
session_lock_drop_at_commit(int64 fence)
{
	if (session_lock_is_own(fence))
		note(fence, false);
}

void
session_lock_drop(int64 fence)
{
	LOCKTAG		tag;

	for (int i = 0; i < NUM_TAGS; i++)
	{
		make_tag(&tag, fence, i);
		if (compat_lock_held(&tag, ShareLock))
			LockRelease(&tag, ShareLock, true);
	}
}

bool
session_lock_is_own(int64 fence)
{
	LOCKTAG		tag;

	for (int i = 0; i < NUM_TAGS; i++)
	{
		make_tag(&tag, fence, i);
		if (compat_lock_held(&tag, ShareLock))
			return true;
	}
	return false;
}

/*
 * When the shared lock table is full this cannot be found out; then it is held
 * to be on the safe side, without an error.
 */
bool
session_lock_is_held(int64 fence)
{
	ResourceOwner saved = CurrentResourceOwner;
	LOCKTAG		tag;
	bool		held = session_lock_is_own(fence);

	CurrentResourceOwner = CurTransactionResourceOwner;
	for (int i = 0; i < NUM_TAGS && !held; i++)
	{
		make_tag(&tag, fence, i);
		if (compat_lock_try_quietly(&tag, RowExclusiveLock) != LOCKACQUIRE_NOT_AVAIL)
			LockRelease(&tag, RowExclusiveLock, false);
		else
			held = true;
	}
	CurrentResourceOwner = saved;
	return held;
}

void
session_lock_wait(int64 fence)
{
	ResourceOwner saved = CurrentResourceOwner;
	LOCKTAG		tag;

	CurrentResourceOwner = CurTransactionResourceOwner;
	for (int i = 0; i < NUM_TAGS; i++)
	{
		make_tag(&tag, fence, i);
		(void) LockAcquire(&tag, RowExclusiveLock, false, false);
		LockRelease(&tag, RowExclusiveLock, false);
	}
	CurrentResourceOwner = saved;
}

void
session_lock_at_pre_prepare(void)
{
	if (changes != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has acquired or released a lock of scope \"session\""),
				 errhint("Use scope \"lease\".")));
}

void
session_lock_at_subxact_end(bool committed)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	foreach(cell, changes)
	{
		Change	   *change = lfirst(cell);

		if (change->level < level)
			continue;
		if (committed)
			change->level = level - 1;
		else
		{
			if (change->taken)
				session_lock_drop(change->fence);
			changes = foreach_delete_current(changes, cell);
		}
	}
}

void
session_lock_at_xact_abort(void)
{
	ListCell   *cell;

	foreach(cell, changes)
	{
		Change	   *change = lfirst(cell);

		if (change->taken)
			session_lock_drop(change->fence);
	}
	changes = NIL;
}

/*
 * The transaction has committed; the row is free for everybody to see.
 */
void
session_lock_at_locks_released(void)
{
	List	   *todo = changes;
	ListCell   *cell;

	changes = NIL;
	foreach(cell, todo)
	{
		Change	   *change = lfirst(cell);

		FAIL_POINT("commit_session_drop");
		if (!change->taken)
			session_lock_drop(change->fence);
	}
}

static void
note(int64 fence, bool taken)
{
	MemoryContext saved = MemoryContextSwitchTo(TopTransactionContext);
	Change	   *change = palloc(sizeof(Change));

	change->fence = fence;
	change->taken = taken;
	change->level = GetCurrentTransactionNestLevel();
	changes = lappend(changes, change);
	MemoryContextSwitchTo(saved);
}

static void
make_tag(LOCKTAG *tag, int64 fence, int number)
{
	key_lock_tag(tag, (uint64) fence,
				 number == 0 ? CLASS_SESSION : CLASS_SESSION_2);
}
