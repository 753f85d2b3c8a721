/*-------------------------------------------------------------------------
 *
 * deadlock.c
 *	  When to look for deadlocks in a queue.
 *
 * A search costs the cube of the length of a queue, some 20 ms with 1,000 waiting,
 * during which nobody can take any lock; if all of them searched after
 * deadlock_timeout, the server would stand still for as many seconds.
 *
 * A circle is closed by somebody who starts to wait while somebody waits for him,
 * for a lock that he has or for his transaction.  Who joins a queue and has no
 * lock can close none, except by way of his virtual transaction, for which
 * CREATE INDEX CONCURRENTLY waits.  So he searches late, and at another time than
 * the others.  The head of the queue, who waits for the holder, searches as
 * everybody does, and finds that circle.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"

#include "compat.h"
#include "deadlock.h"

/* In milliseconds: between one and ten minutes. */
#define SHORTEST_DELAY (60 * 1000)
#define SPREAD (9 * 60 * 1000)

int
deadlock_search_delay(void)
{
	/* Who has a transaction id has a lock on it, too. */
	if (IsTransactionBlock() || compat_any_lock_held())
		return 0;
	return SHORTEST_DELAY + (int) (MyProcPid * INT64CONST(7919) % SPREAD);
}
