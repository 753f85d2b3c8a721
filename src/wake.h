/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the next in line when a lock has become free.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_WAKE_H
#define DISTLOCK_WAKE_H

#include "distlock.h"

/*
 * When this transaction has committed and its locks are gone, wake the head
 * of the key's queue.  Forgotten when the (sub)transaction rolls back.
 */
extern void wake_at_commit(const LockKey *key);

/* Call at the events of transactions. */
extern void wake_at_subxact_end(bool committed);
extern void wake_at_xact_commit(void);
extern void wake_at_xact_end(void);
extern void wake_at_locks_released(void);

#endif							/* DISTLOCK_WAKE_H */
