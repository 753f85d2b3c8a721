/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the next in line when a lock has become free.
 *
 * Why no wake-up is lost.  The head of a queue resets its latch, looks at the
 * row and sleeps only if the look says that the lock is held.  We make the
 * change visible (the commit), and then ask the lock manager for the head and
 * set its latch.  If the head got its place before we asked, it is woken; if
 * after, it looks after the commit and sees the change.
 *
 * It is done when the transaction's locks are gone, so that the head, woken,
 * finds the key lock free and need not wait for it again.
 *
 * COMMIT PREPARED runs nothing of ours.  For it, and for whatever else may
 * change a row without telling, the head looks again by itself now and then
 * (wait.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "fail_point.h"
#include "key_lock.h"
#include "wake.h"

typedef struct Wake
{
	uint64		key_hash;
	int			level;			/* nesting level of the subtransaction */
} Wake;

/* In TopTransactionContext; in the order of the calls. */
static List *wakes = NIL;

/* The transaction has committed, only its locks are still to go. */
static bool committed_now = false;

void
wake_at_commit(const LockKey *key)
{
	int			level = GetCurrentTransactionNestLevel();
	MemoryContext saved;
	Wake	   *wake;

	if (wakes != NIL)
	{
		wake = llast(wakes);
		if (wake->key_hash == key->hash && wake->level == level)
			return;
	}

	saved = MemoryContextSwitchTo(TopTransactionContext);
	wake = palloc(sizeof(Wake));
	wake->key_hash = key->hash;
	wake->level = level;
	wakes = lappend(wakes, wake);
	MemoryContextSwitchTo(saved);
}

void
wake_at_subxact_end(bool committed)
{
	int			level = GetCurrentTransactionNestLevel();

	/* Those of inner levels are at the end of the list. */
	for (int i = list_length(wakes) - 1; i >= 0; i--)
	{
		Wake	   *wake = list_nth(wakes, i);

		if (wake->level < level)
			break;
		if (committed)
			wake->level = level - 1;
		else
			wakes = list_truncate(wakes, i);
	}
}

void
wake_at_xact_commit(void)
{
	committed_now = true;
}

/*
 * The transaction was rolled back or prepared.
 */
void
wake_at_xact_end(void)
{
	committed_now = false;
	wakes = NIL;
}

/*
 * The transaction is committed, and an error now would be a PANIC.  What could
 * fail is getting memory; the head will then find out by itself.
 */
void
wake_at_locks_released(void)
{
	List	   *todo = wakes;
	bool		wanted = committed_now;
	uint32		holdoff = InterruptHoldoffCount;
	MemoryContext context = CurrentMemoryContext;

	wake_at_xact_end();
	if (!wanted || todo == NIL)
		return;
	FAIL_POINT("commit_before_wake");

	PG_TRY();
	{
		ListCell   *cell;

		FAIL_POINT("commit_waking");
		foreach(cell, todo)
			queue_lock_wake_head(((Wake *) lfirst(cell))->key_hash);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		/* Raising the error has allowed interrupts. */
		InterruptHoldoffCount = holdoff;
	}
	PG_END_TRY();
	FAIL_POINT("commit_after_wake");
}
